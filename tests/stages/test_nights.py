"""retrain: one command for a night."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmrec_cli.errors import CommandFailedError

SETTINGS = """dataset:
  name: shop
  interactions: clicks.csv
split: random
head: ease
encoder: tfidf
"""


def write_clicks(num_users: int, name: str = "clicks.csv") -> None:
    """Write clicks of users on items that neighbours in number share."""
    rows = [f"u{user},i{(user + step) % 12}" for user in range(num_users) for step in range(6)]
    Path(name).write_text("\n".join(["user_id,item_id", *rows]))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clicks(60)
    Path("shop.yaml").write_text(SETTINGS)


@pytest.mark.slow
def test_a_night_publishes_and_a_truncated_export_is_refused(llmrec, shop) -> None:
    night = ["settings=shop.yaml", "k=5", "keep=2"]
    done = llmrec("retrain", *night)
    assert done.code == 0, done.err
    first = Path("published/current").resolve()
    assert (first / "evaluated").is_dir()
    write_clicks(62)
    done = llmrec("retrain", *night)
    assert done.code == 0, done.err
    second = Path("published/current").resolve()
    assert second != first
    write_clicks(35)
    done = llmrec("retrain", *night)
    assert done.code == 7
    assert "gate.rows" in done.err
    assert Path("published/current").resolve() == second
    history = llmrec("publish", "to=published", "history=true").out
    assert [line.split()[1] for line in history.splitlines()[2:]] == ["refused", "published", "published"]


@pytest.mark.slow
def test_a_command_that_fails_ends_the_night_with_its_exit_code(llmrec, shop) -> None:
    done = llmrec("retrain", "settings=shop.yaml", "with_prepare=[dataset.interactions=gone.csv]")
    assert done.code == 3
    assert "prepare ended with exit code 3; nothing was published" in done.err
    assert not Path("published/current").exists()
    assert llmrec("retrain", "settings=shop.yaml", "with_finetune=[head.l2=-1]").code == 2


@pytest.mark.slow
def test_a_second_night_waits_for_nobody_and_a_signal_ends_the_command_of_the_first(llmrec, shop) -> None:
    first = subprocess.Popen([sys.executable, "-m", "llmrec_cli", "retrain", "settings=shop.yaml"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not Path("published/.retrain.lock").exists() or not Path("published/.retrain.lock").stat().st_size:
        time.sleep(0.05)
    done = llmrec("retrain", "settings=shop.yaml")
    assert done.code == 75
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait(60) == 143
    children = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False).stdout
    assert children == ""
    assert llmrec("retrain", "settings=shop.yaml", "k=5").code == 0


@pytest.mark.parametrize(("word", "said"), [
    ("with_prepare=[force]", "with_prepare: 'force' is no setting; write <key>=<value>"),
    ("with_finetune=[run_dir=x]", "with_finetune: run_dir is chosen by retrain; leave it out"),
    ("refit=some", "refit=some: choose one of all, none")])
def test_mistakes_are_named(llmrec, word: str, said: str) -> None:
    done = llmrec("retrain", word)
    assert (done.code, said in done.err) == (2, True), done.err


def test_a_command_that_a_signal_ended_has_the_exit_code_of_a_shell() -> None:
    assert [CommandFailedError("prepare", code).exit_code for code in (3, -9, -15)] == [3, 137, 143]
