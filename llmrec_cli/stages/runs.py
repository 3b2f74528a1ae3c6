"""runs: the list of runs, and the removal of old ones."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.errors import in_bytes, in_time
from llmrec_cli.plain_text import columns, printable
from llmrec_cli.run_dir import RunDir
from llmrec_cli.run_list import ROW, RunFacts, age, as_row, best_first, find_runs
from llmrec_cli.run_pruning import clear_removed, removable_runs, remove_run
from llmrec_cli.settings.runs import RunsConfig

_HEADER = ("run", "head", "data", "result", "95% interval", "state", "age", "time", "size")
_RESUMED = ("pretrain", "finetune")
"""Commands with the setting `resume`."""


def run(cfg: RunsConfig, run_dir: RunDir) -> None:
    """Print or write the list of runs, or remove the oldest."""
    every = find_runs(cfg.of)
    runs = [one for one in every if cfg.command in ("", one.command) and cfg.data in ("", one.data)]
    if cfg.prune:
        # Runs outside of the filter count too: they may name runs inside it.
        removable = {one.path for one in removable_runs(every, cfg.keep, cfg.published)}
        runs = prune([one for one in runs if one.path in removable], cfg)
    elif cfg.best:
        runs = best_first(runs)
    if cfg.output:
        write_list(Path(cfg.output), runs)
    elif not cfg.prune:
        print_list(runs)


def print_list(runs: Sequence[RunFacts]) -> None:
    """Print a table of the runs to stdout, and how to resume interrupted ones to stderr."""
    if not runs:
        print("no runs here; llmrec finetune is the command that trains a model", file=sys.stderr)
        return
    print(columns(_HEADER, [_cells(one) for one in runs], align="lll"))
    for one in runs:
        if one.error:
            print(printable(f"failed: {one.path}: {one.error}"), file=sys.stderr)
    resumable = next((one for one in runs if one.state == "interrupted" and one.command in _RESUMED), None)
    if resumable is not None:
        print(printable(f"resume an interrupted run: llmrec {resumable.command} resume={resumable.path}"),
              file=sys.stderr)


def _cells(run: RunFacts) -> list[str]:
    value = "" if run.value is None else f"{run.metric} {run.value:.4f}"
    interval = "" if run.low is None or run.high is None else f"{run.low:.3f}-{run.high:.3f}"
    return [str(run.path), run.head, run.data, value, interval, run.state, age(run),
            "" if run.seconds is None else in_time(run.seconds), in_bytes(run.size)]


def write_list(path: Path, runs: Sequence[RunFacts]) -> None:
    """Write the runs to a file, by its ending as JSON (a list of mappings) or CSV."""
    rows = [as_row(one) for one in runs]
    if path.suffix == ".json":
        write_bytes(path, (json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode())
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def prune(runs: Sequence[RunFacts], cfg: RunsConfig) -> list[RunFacts]:
    """Remove runs, oldest first, unless `dry_run`; print each and the space; return the removed ones."""
    removed = []
    clear_removed(() if cfg.dry_run else cfg.of)
    for one in reversed(runs):
        if not cfg.dry_run and not remove_run(one):
            print(printable(f"kept {one.path}: a process is using it"), file=sys.stderr)
            continue
        removed.append(one)
        print(printable(f"{'would remove' if cfg.dry_run else 'removed'} {one.path} ({in_bytes(one.size)}, "
                        f"{age(one)} old)"))
    freed = f"{len(removed):,} runs, {in_bytes(sum(one.size for one in removed))}"
    if cfg.dry_run:
        print(f"nothing was removed; dry_run=false removes {freed}" if removed else "nothing to remove",
              file=sys.stderr)
    else:
        print(f"removed {freed}", file=sys.stderr)
    return removed
