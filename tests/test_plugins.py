"""Heads, losses and encoders of a user's package, on the command line."""

import json
import sys
from importlib import metadata

import pytest
import yaml

from llmrec_cli import config
from llmrec_cli.settings.groups import CONFIG_GROUPS

SETTINGS = '''
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.encoder import TfIdfSettings
from llmrec_cli.settings.head import HeadSettings
from llmrec_cli.settings.loss import BprSettings


@dataclass
class NearestSettings(HeadSettings):
    """Items similar to the newest item of the history."""

    implementation: ClassVar[str] = "my_shop.heads.Nearest"
    kind: str = "nearest"
    neighbours: int = 5
    """Number of neighbours, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("neighbours", least=1)


@dataclass
class HingeSettings(BprSettings):
    """Hinge loss."""

    implementation: ClassVar[str] = "my_shop.heads.Hinge"
    kind: str = "hinge"


@dataclass
class HashedSettings(TfIdfSettings):
    """TF-IDF under another name."""

    implementation: ClassVar[str] = "my_shop.heads.Hashed"
    kind: str = "relabelled"
'''
HEADS = '''
from llmrec_cli.encoders.tfidf import TfIdfEncoder
from llmrec_cli.heads.item_knn import ItemKnn
from llmrec_cli.settings.heads.neighbours import ItemKnnSettings
from llmrec_cli.training.losses.bpr import Bpr


class Nearest(ItemKnn):
    def __init__(self, config):
        super().__init__(config)
        self.settings = ItemKnnSettings(k=config.head.neighbours)


class Hinge(Bpr):
    def against(self, positive_B, negative_BC, excluded_BC, weight_B=None):
        loss_BC = (1 + negative_BC - positive_B[:, None]).clamp_min(0).masked_fill(excluded_BC, 0.0)
        return (loss_BC if weight_B is None else loss_BC * weight_B[:, None]).sum() / (~excluded_BC).sum().clamp_min(1)


class Hashed(TfIdfEncoder):
    pass
'''
NAMES = "from my_shop.settings import HashedSettings, HingeSettings, NearestSettings\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder on PYTHONPATH with the package my_shop; its options are unregistered after the test."""
    folder = tmp_path / "site" / "my_shop"
    folder.mkdir(parents=True)
    for name, text in (("__init__", NAMES), ("settings", SETTINGS), ("heads", HEADS)):
        (folder / f"{name}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    forget()


def forget():
    """Undo the loading of a package in this process."""
    for table in CONFIG_GROUPS.values():
        for name in [name for name, cls in table.items() if cls.plugin]:
            del table[name]
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_shop"]:
        del sys.modules[name]
    config._composed_by_hydra.cache_clear()
    config._register.cache_clear()


def finetune(llmrec, tiny_prepared, *typed):
    return llmrec("finetune", f"prepared={tiny_prepared}", *typed)


@pytest.mark.slow
def test_a_head_of_an_own_package_goes_from_data_to_lists(package, llmrec, tiny_prepared, tmp_path):
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=nearest", "head.neighbours=7", "run_dir=run")
    assert done.code == 0, done.err
    model = tmp_path / "run" / "model"
    assert json.loads((model / "manifest.json").read_text("utf-8"))["plugins"] == ["my_shop"]
    saved = yaml.safe_load((model / "config.yaml").read_text("utf-8"))
    assert saved["head"]["kind"] == "nearest"
    assert "my_shop" not in (model / "config.yaml").read_text("utf-8")
    forget()
    for command, more in (("evaluate", []), ("recommend", ["queries=all", "output=lists.jsonl"])):
        done = llmrec(command, "model=run", *more)
        assert done.code == 2, done.err
        assert "model/config.yaml: head.kind=nearest is of the package my_shop, which is not loaded; if you" in done.err
        assert "trust the installed package of this name, add plugins=[my_shop]" in " ".join(done.err.split())
        assert "my_shop" not in sys.modules
        done = llmrec(command, "model=run", "plugins=my_shop", *more)
        assert done.code == 0, done.err
        forget()
    assert (tmp_path / "lists.jsonl").read_text("utf-8").count("\n") > 60


@pytest.mark.slow
def test_a_member_a_loss_and_an_encoder_of_an_own_package_are_used_and_named(package, llmrec, tiny_prepared, tmp_path):
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=fusion", "~head.members",
                    "head.members={mine: {head: nearest}, near: {head: user_knn}}", "run_dir=fused", "refit=none")
    assert done.code == 0, done.err
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=two_tower", "loss=hinge", "encoder=relabelled",
                    "peft=frozen", "optim.epochs=1", "run_dir=tower", "refit=none")
    assert done.code == 0, done.err
    forget()
    for run in ("fused", "tower"):
        done = llmrec("evaluate", f"model={run}")
        assert done.code == 2
        assert "add plugins=[my_shop]" in done.err
    assert llmrec("evaluate", "models=[fused,tower]", "plugins=[my_shop]").code == 0


def test_help_configuration_and_suggestions_know_the_heads_of_the_package(package, llmrec, tiny_prepared):
    assert "nearest" not in llmrec("finetune", "--help").out
    assert "nearest" in llmrec("finetune", "plugins=[my_shop]", "--help").out
    assert "neighbours: 5" in llmrec("finetune", "plugins=[my_shop]", "head=nearest", "--cfg", "job").out
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=neerest")
    assert done.code == 2
    assert "did you mean 'nearest'?" in done.err
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=nearest", "head.neighbors=3")
    assert done.code == 2
    assert "did you mean 'neighbours'?" in done.err
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=nearest", "head.neighbours=0")
    assert "head.neighbours=0: must be at least 1" in done.err


@pytest.mark.slow
def test_a_run_is_resumed_with_the_package_named_again(package, llmrec, tiny_prepared, tmp_path):
    done = finetune(llmrec, tiny_prepared, "plugins=[my_shop]", "head=two_tower", "loss=hinge", "encoder=tfidf",
                    "peft=frozen", "optim.epochs=2", "run_dir=run", "refit=none")
    assert done.code == 0, done.err
    # Like a run that was killed after training: the result is missing, the run directory exists.
    (tmp_path / "run" / "manifest.json").unlink()
    forget()
    done = llmrec("finetune", "resume=run")
    assert done.code == 2
    assert "run/config.yaml: loss.kind=hinge is of the package my_shop, which is not loaded" in done.err
    assert "add plugins=[my_shop]" in done.err
    done = llmrec("finetune", "resume=run", "plugins=[my_shop]")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_only_the_command_line_names_packages(package, llmrec, tiny_prepared, tmp_path):
    shared = tmp_path / "shared"
    (shared / "experiment").mkdir(parents=True)
    (shared / "experiment" / "mine.yaml").write_text("finetune: ['plugins=[my_shop]', 'head=nearest']\n", "utf-8")
    (shared / "head").mkdir()
    (shared / "head" / "own.yaml").write_text("kind: popularity\nimplementation: my_shop.heads.Nearest\n", "utf-8")
    (shared / "head" / "plug.yaml").write_text("kind: popularity\nplugin: my_shop\n", "utf-8")
    for typed, words in ((["experiment=mine"], "can only be given on the command line"),
                         (["head=own"], "implementation: unknown key"), (["head=plug"], "plugin: unknown key"),
                         (["head=popularity", "head.implementation=my_shop.heads.Nearest"], "unknown key")):
        done = finetune(llmrec, tiny_prepared, *typed, "--config-dir", str(shared))
        assert done.code == 2, done.err
        assert words in done.err
        assert "my_shop" not in sys.modules


def test_a_saved_model_and_a_saved_run_load_no_package(package, llmrec, tiny_prepared, tmp_path):
    assert finetune(llmrec, tiny_prepared, "head=popularity", "run_dir=run").code == 0
    manifest = tmp_path / "run" / "model" / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps(content | {"plugins": ["my_shop"]}), "utf-8")
    assert llmrec("evaluate", "model=run").code == 0
    manifest.write_text(json.dumps(content | {"plugins": ["my_shop; rm"]}), "utf-8")
    done = llmrec("evaluate", "model=run")
    assert done.code == 4
    assert "plugins" in done.err
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text("utf-8") + "plugins: [my_shop]\n", "utf-8")
    done = llmrec("finetune", "resume=run")
    assert done.code == 2
    assert "plugins: unknown key" in done.err
    assert "my_shop" not in sys.modules


class Point:
    """An entry point of an installed package."""

    module = "my_shop.settings"

    def load(self):
        from my_shop.settings import NearestSettings

        return NearestSettings


def test_an_entry_point_is_loaded_only_where_its_package_is_named(package, llmrec, tiny_prepared, monkeypatch):
    (package / "__init__.py").write_text("", "utf-8")
    requests = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: requests.append(group) or [Point()])
    assert finetune(llmrec, tiny_prepared, "head=nearest").code == 2
    assert "my_shop" not in sys.modules
    done = finetune(llmrec, tiny_prepared, "head=nearest", "plugins=[my_shop]", "run_dir=run")
    assert done.code == 0, done.err
    assert set(requests) == {"llmrec.heads"}
    assert "hinge" not in CONFIG_GROUPS["loss"]


@pytest.mark.parametrize(("named", "init", "words"), [
    ("my_shoop", NAMES, "plugins=my_shoop: no such package; install it, or add its folder"),
    ("my_shop", "", "plugins=my_shop: has no options"),
    ("my_shop", "raise RuntimeError('no licence')", "cannot be imported (RuntimeError: no licence)"),
    ("my_shop", "import no_such_thing", "cannot be imported (ModuleNotFoundError: No module named 'no_such_thing')"),
    ("my shop", NAMES, "is not the name of a package"), ("../my_shop", NAMES, "is not the name of a package"),
    ("", NAMES, "plugins=: names no package; write plugins=[my_package], or leave it out"),
    ("my_shop", NAMES + "NearestSettings.kind = 'ease'", "head=ease exists already"),
    ("my_shop", NAMES + "NearestSettings.kind = 'My Head'", "use lower-case letters"),
    ("my_shop", NAMES + "NearestSettings.implementation = 'my_shop.heads.Nowhere'",
     "Nowhere, the implementation of NearestSettings")])
def test_a_package_that_cannot_be_used_is_refused_with_the_reason(package, llmrec, tiny_prepared, named, init, words):
    (package / "__init__.py").write_text(init, "utf-8")
    done = finetune(llmrec, tiny_prepared, f"plugins=[{named}]", "head=nearest")
    assert done.code == 2, done.err
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_misspelled_plugins_setting_is_corrected(llmrec, tiny_prepared):
    assert "did you mean 'plugins'?" in finetune(llmrec, tiny_prepared, "plugin=[my_shop]").err


@pytest.mark.parametrize("names", [("my_shop", "nowhere"), ("nowhere", "my_shop")])
def test_packages_named_in_two_settings_are_all_loaded(package, llmrec, tiny_prepared, names):
    done = finetune(llmrec, tiny_prepared, *(f"plugins=[{name}]" for name in names), "head=nearest")
    assert "plugins=nowhere: no such package" in done.err
