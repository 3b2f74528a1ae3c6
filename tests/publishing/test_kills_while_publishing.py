"""Processes that are killed while they publish: `current` is always a whole version, and the next one carries on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmrec_cli.publishing.folder import PublishFolder


def start(*settings: str) -> "subprocess.Popen[bytes]":
    """Start `llmrec publish` in the current folder."""
    return subprocess.Popen([sys.executable, "-m", "llmrec_cli", "publish", "to=published", "k=5", *settings],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.faults
def test_kills_at_any_time_leave_a_whole_current_version(llmrec, tiny_prepared: Path) -> None:
    for name, penalty in (("a", 1), ("b", 1.01)):
        assert llmrec("finetune", "head=ease", f"head.l2={penalty}", f"prepared={tiny_prepared}",
                      f"run_dir=runs/{name}").code == 0
    assert llmrec("publish", "to=published", "k=5", "model=runs/a").code == 0
    folder, random_, seen, polls = PublishFolder(Path("published")), random.Random(1), set(), 0
    started = time.monotonic()
    process = start("model=runs/b", "gate.regression=ignore")
    while process.poll() is None:
        time.sleep(0.01)
    assert process.returncode == 0
    longest = time.monotonic() - started
    for turn in range(30):
        process, until = start(f"model=runs/{'ab'[turn % 2]}", "gate.regression=ignore"), time.monotonic() + \
            random_.uniform(0.2, longest)
        while process.poll() is None and time.monotonic() < until:
            name = folder.current
            assert name is not None
            folder.check(name)
            seen.add(name)
            polls += 1
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert polls > 1000
    # The next one finishes, and history is whole.
    assert llmrec("publish", "to=published", "k=5", "model=runs/b", "gate.regression=ignore").code == 0
    assert folder.current == [event.version for event in folder.history() if event.kind == "published"][-1]
    assert not [file for file in Path("published/versions").iterdir() if file.name.startswith(".")]
