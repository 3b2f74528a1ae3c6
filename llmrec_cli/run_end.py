"""End of a run: what its log says about a failure or an interruption, and how to go on."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmrec_cli import distributed as processes
from llmrec_cli.errors import LlmrecError, ResourceError
from llmrec_cli.plugins import packages_of
from llmrec_cli.run_dir import RunDir

INTERRUPTED = (KeyboardInterrupt, SystemExit)


@contextmanager
def recorded_end(run_dir: RunDir, command: str, settings: Any) -> Iterator[None]:
    """Log a failure or an interruption of the block; remove the folder if no work had begun.

    An interruption gets a note with the command that goes on. The caller must hold the folder's lock.
    """
    events: dict[str, dict[str, Any]] = {}
    listener = _Remember(events)
    run_dir.listeners.append(listener)
    try:
        yield
    except Exception as error:
        if run_dir.has_begun:
            with suppress(ResourceError):  # A full disk must not hide the error.
                run_dir.log("failed", error=type(error).__name__, text=_first_line(error))
        elif isinstance(error, LlmrecError):
            run_dir.discard()
        raise
    except INTERRUPTED as error:
        if run_dir.has_begun and "interrupted" not in events:
            with suppress(ResourceError):
                run_dir.log("interrupted", signal=_signal_of(error))
        begun = run_dir.has_begun
        run_dir.discard()
        error.add_note(f"{command}: {interruption(command, settings, run_dir.path, events, begun)}")
        raise
    finally:
        run_dir.listeners.remove(listener)


class _Remember:
    """Listener of a log: the values of the last event of each name."""

    def __init__(self, events: dict[str, dict[str, Any]]) -> None:
        self.events = events

    def __call__(self, event: str, **values: Any) -> None:
        self.events[event] = values
        if event == "tuned":
            self.events.pop("trial", None)  # The search is over; the next work is no trial.


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]


def _signal_of(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code - 128
    return signal.SIGINT


def interruption(command: str, settings: Any, folder: Path, events: dict[str, dict[str, Any]], begun: bool) -> str:
    """Return the sentence on an interrupted run: the progress it made, and the command that goes on."""
    if not begun:
        return "interrupted before the work began; run the same command again"
    where = _progress(events)
    if not hasattr(settings, "resume"):
        return f"interrupted{where}; nothing was replaced; run the same command again"
    return f"interrupted{where}; go on with: {resume_command(command, settings, folder)}"


def _progress(events: dict[str, dict[str, Any]]) -> str:
    """Return ` at epoch 4 of 20`, with the trial and the part of the model where there are several; "" if unknown."""
    last = events.get("interrupted", {})
    where = f" at epoch {last['epoch']} of {last['epochs']}" if "epoch" in last else ""
    trial, part = last.get("trial"), last.get("part")
    if trial is None and "trial" in events:
        trial, part = events["trial"]["trial"] + 1, events["trial"]["part"]
    if trial is not None:
        where += f" in trial {trial + 1}"
    return where + (f" of {part}" if part and where else "")


def resume_command(command: str, settings: Any, folder: Path) -> str:
    """Return the command line that resumes a run in this working directory."""
    words = ["llmrec"]
    if processes.count() > 1:
        words = ["torchrun", "--nproc_per_node", str(processes.count()), "-m", "llmrec_cli"]
    packages = packages_of(settings)
    plugins = [f"plugins=[{','.join(packages)}]"] if packages else []
    return shlex.join([*words, command, f"resume={folder}", *plugins])
