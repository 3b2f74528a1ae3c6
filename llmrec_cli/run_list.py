"""List of runs: facts of each, from its log and manifest."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec_cli.locks import is_held
from llmrec_cli.plain_yaml import YamlError, read_yaml
from llmrec_cli.run_dir import CONFIG, LATEST, LOCK, RUNS, RunDir

_TAIL_BYTES = 2**16
"""Bytes at the end of a log that are searched for the end of the run; the steps of training before it are not read."""
_ENDS = ("finished", "failed", "interrupted")


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run, for the list of runs.

    Attributes
    ----------
    head : head or encoder; "" if the run has none
    data : name of the data
    metric : metric and split of `value`, such as `ndcg@10 valid`; "" without a result
    value, low, high : result and its 95% interval; None if unknown
    is_lower_better : True if lower values of the metric are better
    state : finished, failed, interrupted or running
    error : message of a failed run
    time : start, in seconds since 1970
    seconds : duration; None if unknown
    size : bytes of all files
    """

    path: Path
    command: str
    head: str
    data: str
    seed: int | None
    metric: str
    value: float | None
    low: float | None
    high: float | None
    is_lower_better: bool
    state: str
    error: str
    time: float
    seconds: float | None
    size: int


def find_runs(commands: Sequence[str]) -> list[RunFacts]:
    """Return the runs of these commands below runs/, and those that `latest` links name elsewhere, newest first."""
    found = [run for command in commands for path in _folders(command) if (run := read_run(path, command)) is not None]
    return sorted(found, key=lambda run: (run.time, str(run.path)), reverse=True)


def _folders(command: str) -> Iterator[Path]:
    """Yield the run directories of a command, each once; links other than `latest` are left alone."""
    parent, inside = RUNS / command, set[Path]()
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        # A multirun with run_dir= has its runs one level below.
        jobs = [path] if (path / CONFIG).exists() else [job for job in sorted(path.iterdir()) if job.name.isdecimal()]
        for job in jobs:
            inside.add(job.resolve())
            yield job
    newest = parent / LATEST
    if newest.is_dir() and newest.resolve() not in inside:
        yield newest.resolve()


def read_run(path: Path, command: str) -> RunFacts | None:
    """Return the facts of a run directory; None for a folder without a log."""
    run_dir = RunDir(path)
    start = run_dir.first_logged()
    if start.get("command") != command:
        return None
    manifest, end = run_dir.manifest(), run_dir.last_logged(_ENDS, _TAIL_BYTES)
    result = _result(manifest)
    head, data = start.get("head"), start.get("data")
    if head is None:  # A run of an older llmrec.
        head, data = _from_config(run_dir.file(CONFIG))
        head = head or str(manifest.get("head") or "")
    is_running = is_held(run_dir.file(LOCK))
    # Killed runs have no end in their log, and a run that was resumed has the ends of earlier attempts.
    state = ("running" if is_running else "finished" if manifest else
             "failed" if end.get("event") == "failed" else "interrupted")
    began = float(start.get("time") or 0)
    seconds = max(0.0, float(end["time"]) - began) if "time" in end and not is_running else None
    return RunFacts(path, command, str(head or ""), str(data or ""), _whole(start.get("seed")), *result,
                    state, str(end.get("text", "")) if state == "failed" else "", began, seconds, folder_size(path))


def _result(manifest: dict[str, Any]) -> tuple[str, float | None, float | None, float | None, bool]:
    """Return metric, value, interval and direction of a run's result, from its manifest."""
    result = manifest.get("result")
    if isinstance(result, dict):
        low, high = result.get("ci95") or (None, None)
        name = f"{result.get('metric')} {result.get('split') or ''}".strip()
        return name, _number(result.get("value")), _number(low), _number(high), bool(result.get("lower"))
    metrics = manifest.get("metrics")  # Of a run of an older llmrec.
    for split, values in (metrics.items() if isinstance(metrics, dict) else ()):
        for metric, value in (values.items() if isinstance(values, dict) else ()):
            return f"{metric} {split}", _number(value), None, None, False
    return "", None, None, None, False


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _from_config(file: Path) -> tuple[str, str]:
    """Return head (or encoder) and data of a run of an older llmrec, whose log does not name them."""
    try:
        config = read_yaml(file)
    except (OSError, YamlError):
        return "", ""
    config = config if isinstance(config, dict) else {}
    option: Any = next((config[key] for key in ("head", "encoder") if isinstance(config.get(key), dict)), {})
    dataset = config.get("dataset")
    data = dataset.get("name") if isinstance(dataset, dict) else Path(str(config.get("prepared") or "")).name
    return str(option.get("kind") or ""), str(data or "")


def folder_size(path: Path) -> int:
    """Return the bytes of all files in a folder, without following links."""
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names
               if os.path.lexists(os.path.join(folder, name)))


def in_age(seconds: float) -> str:
    """Return an age as text, in the largest unit: `5 min`, `3 h`, `2 days`."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' * (unit == 'day' and number > 1)}"
    return f"{int(max(0, seconds))} s"


def age(run: RunFacts) -> str:
    """Return the age of a run as text."""
    return in_age(time.time() - run.time)


ROW = ("run", "command", "head", "data", "seed", "metric", "value", "low", "high", "state", "error", "started",
       "seconds", "bytes")
"""Keys of `as_row`."""


def as_row(run: RunFacts) -> dict[str, Any]:
    """Return the facts of a run as plain values, for files."""
    return {"run": str(run.path), "command": run.command, "head": run.head, "data": run.data, "seed": run.seed,
            "metric": run.metric, "value": run.value, "low": run.low, "high": run.high, "state": run.state,
            "error": run.error, "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(run.time)),
            "seconds": None if run.seconds is None else round(run.seconds, 1), "bytes": run.size}


def best_first(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """Return the runs sorted by result, best first, within the same data and metric; without a result last."""
    def key(run: RunFacts) -> tuple[bool, str, str, str, float]:
        value = 0.0 if run.value is None else run.value if run.is_lower_better else -run.value
        return run.value is None, run.command, run.data, run.metric, value

    return sorted(runs, key=key)
