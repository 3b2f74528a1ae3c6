"""Removal of old runs: the choice of runs to keep, and the removal of whole folders."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import lock, writing
from llmrec_cli.errors import LockedError, ResourceError
from llmrec_cli.folders import is_scratch, locked_temporary, remove
from llmrec_cli.locks import is_abandoned
from llmrec_cli.plain_yaml import YamlError, read_yaml
from llmrec_cli.run_dir import CONFIG, LATEST, LOCK, RUNS, RunDir
from llmrec_cli.run_list import RunFacts

_CURRENT = "current"
"""Link in a published folder to the version that is in use."""
_MOST_BYTES = 2**22
"""Largest JSON file of a published folder that is searched for names of runs."""


def removable_runs(runs: Sequence[RunFacts], keep: int, published: Sequence[str]) -> list[RunFacts]:
    """Return the runs to remove, oldest last; `runs` are all runs of all commands, newest first.

    Kept are the newest `keep` of each command, running ones, those named by `run_dir=`, the newest finished ones
    (`latest`), and all runs that these or published folders name, directly or through other runs.
    """
    by_path = {run.path.resolve(): run for run in runs}
    numbers: dict[str, int] = {}
    kept = set(_runs_in(_published_values(published), by_path))
    for path, run in by_path.items():
        numbers[run.command] = numbers.get(run.command, 0) + 1
        is_newest = (RUNS / run.command / LATEST).resolve() == path
        if numbers[run.command] <= keep or run.state == "running" or is_newest or not RunDir(path).has_own_name:
            kept.add(path)
    waiting = list(kept)
    while waiting:
        others = set(_runs_in(_own_values(waiting.pop()), by_path)) - kept
        kept |= others
        waiting += others
    return [run for path, run in by_path.items() if path not in kept]


def _runs_in(values: Iterable[Any], by_path: dict[Path, RunFacts]) -> Iterator[Path]:
    """Yield the runs that texts in settings and manifests name: the folder of a run, or a folder inside it."""
    for value in values:
        if isinstance(value, dict):
            yield from _runs_in([*value, *value.values()], by_path)
        elif isinstance(value, list):
            yield from _runs_in(value, by_path)
        elif isinstance(value, str) and os.sep in value and "\0" not in value:
            path = Path(value).resolve()
            yield from (folder for folder in (path, *path.parents) if folder in by_path)


def _own_values(path: Path) -> Iterator[Any]:
    """Yield the settings and the manifest of a run; both may name other runs."""
    run_dir = RunDir(path)
    yield run_dir.manifest()
    try:
        yield read_yaml(run_dir.file(CONFIG))
    except YamlError:  # Damaged or too large: whatever in it looks like a path counts.
        yield re.split(r"[\s'\",\[\]{}]+", run_dir.file(CONFIG).read_text("utf-8", "replace"))
    except OSError:
        return


def _published_values(folders: Sequence[str]) -> Iterator[Any]:
    """Yield the JSON files of the published versions in use: of these folders, and of those in the current folder."""
    links = [Path(folder) / _CURRENT for folder in folders]
    links += [link for pattern in (_CURRENT, f"*/{_CURRENT}", f"*/*/{_CURRENT}") for link in Path().glob(pattern)]
    for link in links:
        yield str(link.resolve())
        for file in [*link.glob("*.json"), *link.glob("*/*.json")]:
            if file.is_file() and file.stat().st_size <= _MOST_BYTES:
                try:
                    yield json.loads(file.read_bytes())
                except (OSError, ValueError, RecursionError):
                    continue


def remove_run(run: RunFacts) -> bool:
    """Remove the folder of a run and return True; return False if a process is using it.

    The folder is first renamed into a scratch folder, so that a kill leaves no half of a run under its name;
    `clear_removed` removes the rest.
    """
    try:
        with lock(run.path / LOCK, f"the run in {run.path}"), writing(run.path), \
                locked_temporary(run.path, "scratch") as scratch:
            os.rename(run.path, scratch / run.path.name)
    except LockedError:
        return False
    if run.path.exists():
        raise ResourceError(f"{run.path}: cannot be removed; remove it by hand")
    return True


def clear_removed(commands: Sequence[str]) -> None:
    """Remove the scratch folders that a killed removal left behind."""
    for command in commands:
        parent = RUNS / command
        for leftover in (parent.iterdir() if parent.is_dir() else ()):
            if is_scratch(leftover) and is_abandoned(leftover):
                remove(leftover)
