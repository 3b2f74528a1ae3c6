"""The conformance suites used by another package: without pytest, with all broken promises in one message."""

import os
import subprocess
import sys
from copy import copy
from pathlib import Path

import pytest

from llmrec_cli.settings.adversarial import FgmSettings
from llmrec_cli.settings.encoder import LsaSettings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.loss import BprSettings
from llmrec_cli.testing import check_adversary, check_encoder, check_head, check_loss
from tests.testing import broken

CHECKOUT = Path(__file__).resolve().parents[2]
OWN = """
from dataclasses import dataclass
from typing import ClassVar
from llmrec_cli.settings.head import HeadSettings

@dataclass
class NewestSettings(HeadSettings):
    "Items like the newest of the history."
    implementation: ClassVar[str] = "newest.head.Newest"
    kind: str = "newest"
    k: int = 5
    "Neighbours, at least 1."

    @classmethod
    def examples(cls):
        return {"": [], "few": ["head.k=3"]}
"""
HEAD = """
from llmrec_cli.heads.item_knn import ItemKnn
from llmrec_cli.settings.heads.neighbours import ItemKnnSettings

class Newest(ItemKnn):
    def __init__(self, config):
        super().__init__(config)
        own = config.head
        self.settings = ItemKnnSettings(k=own.k, weight=own.weight, decay=own.decay)
"""
BROKEN = HEAD + """
    def estimate_memory(self, data):
        return 0

    def score_users(self, queries):
        return super().score_users(queries).double()
"""
CHECK = """
import sys, tempfile
from pathlib import Path
from llmrec_cli.testing import check_head
from newest import NewestSettings

with tempfile.TemporaryDirectory() as folder:
    check_head(NewestSettings, Path(folder))
assert "pytest" not in sys.modules
"""


def run(folder, head):
    """Run a script that checks a head of another package; return the finished process."""
    package = folder / "newest"
    package.mkdir()
    (package / "__init__.py").write_text(OWN, "utf-8")
    (package / "head.py").write_text(head, "utf-8")
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{CHECKOUT}"}
    return subprocess.run([sys.executable, "-c", CHECK], cwd=folder, env=environment, text=True, capture_output=True)


@pytest.mark.slow
def test_a_head_of_another_package_is_checked_without_pytest(tmp_path):
    done = run(tmp_path, HEAD)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_all_failed_checks_of_a_head_are_reported_together_per_example(tmp_path):
    done = run(tmp_path, BROKEN)
    assert done.returncode != 0
    for example in ("newest", "newest_few"):
        assert f"{example}: stated memory is at least half of what is learned: estimate_memory is 0" in done.stderr
        assert f"{example}: scores are finite float32 of every query with every item: torch.float64" in done.stderr


@pytest.mark.slow
def test_a_loss_an_encoder_and_an_adversary_are_checked_too():
    check_loss(BprSettings)
    check_encoder(LsaSettings)
    check_adversary(FgmSettings)
    with pytest.raises(AssertionError, match="a weight of two is the row twice"):
        check_loss(own(broken.loss(broken.Weightless)))
    with pytest.raises(AssertionError, match="the identity changes with the vectors"):
        check_encoder(own(broken.encoder(broken.OneIdentity)))
    with pytest.raises(AssertionError, match="hidden states were changed in place"):
        check_adversary(own(broken.adversary(broken.InPlace)))


def own(settings):
    """Return the settings class under the name `own`."""
    cls = type(settings)
    # A copy, since the field belongs to the class of the table that this class is derived from.
    field = cls.__dataclass_fields__["kind"] = copy(cls.__dataclass_fields__["kind"])
    cls.kind = field.default = "own"
    return cls


@pytest.mark.slow
def test_a_checked_part_is_not_left_in_a_table(tmp_path):
    before = {group: set(table) for group, table in CONFIG_GROUPS.items()}
    with pytest.raises(AssertionError):
        check_head(own(broken.head(broken.Doubles)), tmp_path)
    assert {group: set(table) for group, table in CONFIG_GROUPS.items()} == before
