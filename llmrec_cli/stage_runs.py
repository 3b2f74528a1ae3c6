"""Runs of a stage: one, or one for each combination of values, each in a run directory of its own."""

import gc
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from llmrec_cli import distributed as processes
from llmrec_cli.errors import ResourceError, in_time
from llmrec_cli.pace import still_working
from llmrec_cli.run_dir import Job, NoRunDir, RunDir
from llmrec_cli.run_start import close_run, open_run, tracking_of


def run_stage(command: str, settings: Any, job: Job | None = None) -> Path:
    """Run a stage in a new run directory and return it; only the first of several processes has one."""
    if not settings.has_run_dir:
        run_in(NoRunDir(), command, settings)
        return Path(os.devnull)
    processes.join(command)
    resume, started = getattr(settings, "resume", ""), time.monotonic()
    if not processes.is_first():
        # Closing a finished run, and reporting problems with resuming, is left to the first process.
        if not (resume and RunDir(Path(resume)).is_finished):
            with suppress(processes.NotFirstProcess):
                run_in(NoRunDir(Path(resume or os.devnull)), command, settings)
        return Path(os.devnull)
    if resume and close_run(command, Path(resume)):
        return Path(resume)
    with ExitStack() as stack:
        try:
            run_dir = stack.enter_context(open_run(command, settings, job))
        except ResourceError as error:
            if not settings.only_prints:
                raise
            print(f"note: this run is not recorded: {error}", file=sys.stderr)
            run_in(NoRunDir(), command, settings)
            return Path(os.devnull)
        with tracking_of(settings, run_dir):
            run_in(run_dir, command, settings)
        seconds = time.monotonic() - started
        run_dir.log("finished", command=command, seconds=round(seconds, 1))
    print(f"{command}: wrote {run_dir.path} in {in_time(seconds)}", file=sys.stderr)
    return run_dir.path


def run_in(run_dir: RunDir, command: str, settings: Any) -> None:
    """Run a stage. It is imported here, since this takes seconds and configuration errors must be reported at once."""
    collects = gc.isenabled()
    # The garbage collector would go through the new modules again and again, a tenth of the time of importing them.
    gc.disable()
    try:
        stage = import_module(f"llmrec_cli.stages.{command}")
    finally:
        if collects:
            gc.enable()
    with still_working(command):
        stage.run(settings, run_dir)


def run_several(command: str, typed: Sequence[str], folder: str | None) -> None:
    """Run a command once for every combination of values, each in a run directory of its own, and compare the runs.

    All runs are composed before the first starts. The first failing run ends the command, after a table of the runs
    before it.
    """
    from llmrec_cli.config import compose_runs

    planned = compose_runs(command, typed, folder)
    by_seed = all(re.fullmatch("seed=[0-9]+", run.label) for run in planned)
    done: list[Path] = []
    try:
        for number, run in enumerate(planned):
            if processes.is_first():
                print(f"{command}: run {number + 1} of {len(planned)}{': ' * bool(run.label)}{run.label}",
                      file=sys.stderr)
            name = run.label.replace("=", "") if by_seed else str(number)
            done.append(run_stage(command, run.settings, Job(number, name)))
    finally:
        if len(done) > 1 and processes.is_first():
            from llmrec_cli.report.multirun import print_comparison

            print_comparison(command, done)
