"""Start of a run: its folder is created and locked, or that of a killed run is closed."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import lock, require_link, write_bytes, write_json
from llmrec_cli.environment import environment
from llmrec_cli.plain_yaml import dump_yaml
from llmrec_cli.plugins import packages_of
from llmrec_cli.run_dir import (
    CONFIG,
    ENVIRONMENT,
    LATEST,
    LOCK,
    RUNS,
    Job,
    RunDir,
    head_and_data,
    label_of,
)
from llmrec_cli.run_end import recorded_end
from llmrec_cli.settings.base import to_plain


def close_run(command: str, folder: Path) -> bool:
    """Close a run that was killed after its work and return True; return False for any other run."""
    run_dir = RunDir(folder)
    with lock(run_dir.file(LOCK), f"the run in {folder}"):
        if not run_dir.is_finished or run_dir.is_closed:
            return False
        run_dir.clear()
        run_dir.close(command)
        run_dir.log("finished", command=command)
    print(f"{command}: {folder} was complete when it was interrupted; nothing to train", file=sys.stderr)
    return True


@contextmanager
def open_run(command: str, settings: Any, job: Job | None) -> Iterator[RunDir]:
    """Lock the run directory, write the configuration and the environment into it, and yield it."""
    resume = getattr(settings, "resume", "")
    # Checked before the work: it would be lost if the link to the newest run could not be set at the end.
    require_link(RUNS / command / LATEST)
    head, data = head_and_data(settings.subject)
    run_dir = (RunDir(Path(resume)) if resume else
               RunDir.create(command, settings.run_dir, job, label_of(head, data)))
    with lock(run_dir.file(LOCK), f"the run in {run_dir.path}"):
        run_dir.clear()
        if not resume:
            run_dir.refuse_other(command)
        # The saved config does not contain the folder of the run, so that a run can be moved and resumed elsewhere.
        plain = to_plain(settings) | ({"run_dir": "", "resume": ""} if resume else {"run_dir": ""})
        write_bytes(run_dir.file(CONFIG), dump_yaml(plain).encode())
        packages = packages_of(settings)
        write_json(run_dir.file(ENVIRONMENT), environment() | ({"plugins": packages} if packages else {}))
        facts = {"head": head, "data": data, "monitor": getattr(settings, "monitor", None),
                 "seed": getattr(settings, "seed", None), "settings": settings.settings or None}
        run_dir.log("started", command=command, **{key: value for key, value in facts.items() if value is not None})
        with recorded_end(run_dir, command, settings):
            yield run_dir


def tracking_of(settings: Any, run_dir: RunDir) -> AbstractContextManager[None]:
    """Return a context manager that sends the run's log to its experiment tracker, if the command has one."""
    tracker = getattr(settings, "tracker", None)
    if tracker is None:
        return nullcontext()
    from llmrec_cli.training import tracking

    return tracking.track_run(tracker, run_dir, settings)
