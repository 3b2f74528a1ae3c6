"""The validation metric of each query of a run, in a file, and the comparison of runs by it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.metrics.significance import mean_interval

VALUES = "validation.parquet"
PARTS = {"cold": "cold items", "all": "all items"}
"""Items that are ranked, by name in the file, in the order in which they decide."""


def write_values(file: Path, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write ids and metric of the queries, (Q,) each, of every part."""
    table = pa.table({"items": [name for name, (ids, _) in parts.items() for _ in ids],
                      "query_id": np.concatenate([ids for ids, _ in parts.values()]).astype(str),
                      "value": np.concatenate([values for _, values in parts.values()])})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(file, buffer.getvalue())


def read_values(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what `write_values` wrote."""
    table = pq.read_table(file)
    items, ids, values = (table[name].to_numpy(zero_copy_only=False) for name in ("items", "query_id", "value"))
    return {name: (ids[items == name], values[items == name]) for name in PARTS}


@dataclass(frozen=True)
class ComparedRun:
    """A run to compare: its name for people, its values by part, and its seconds."""

    name: str
    values: Mapping[str, tuple[np.ndarray, np.ndarray]]
    seconds: float


def recommendation(runs: Sequence[ComparedRun], metric: str) -> str:
    """Return a sentence on which run to use: the fastest of those that are not measurably below the highest.

    A run is below the highest of a part if the 95% interval of the paired difference is below 0, all differences of a
    part held at once. Runs below it on cold
    items are left out first, then those below it on all items, unless none is left. Runs with other queries cannot be
    compared.
    """
    first = runs[0].values
    if any(not np.array_equal(run.values[part][0], first[part][0]) for run in runs for part in PARTS):
        return "no recommendation: the runs were measured on different users or items"
    best_of = {part: max(runs, key=lambda run: _mean(run, part)) for part in PARTS}
    left, others = list(runs), max(1, len(runs) - 1)
    for part, best in best_of.items():
        left = [run for run in left if _interval(run, best, part, others)[1] >= 0] or left
    chosen, reasons = min(left, key=lambda run: run.seconds), []
    for part, best in best_of.items():
        items, own, highest = PARTS[part], _mean(chosen, part), _mean(best, part)
        if chosen is best:
            reasons.append(f"the highest {metric} on {items} ({own:.4f})")
            continue
        low, high = _interval(chosen, best, part, others)
        how = "not measurably below" if high >= 0 else "below"
        reasons.append(f"{metric} on {items} {own:.4f}, {how} {best.name} ({highest:.4f}; difference "
                       f"{own - highest:+.4f} [{low:+.4f}, {high:+.4f}])")
    speed = f"; the fastest of {len(left)} such runs, {chosen.seconds:.1f} s" if len(left) > 1 else ""
    return f"recommended: {chosen.name}: {'; '.join(reasons)}{speed}"


def _mean(run: ComparedRun, part: str) -> float:
    return float(run.values[part][1].mean())


def _interval(ours: ComparedRun, theirs: ComparedRun, part: str, num_comparisons: int) -> tuple[float, float]:
    """Return the 95% interval of the mean paired difference, one of several."""
    interval = mean_interval(ours.values[part][1] - theirs.values[part][1], num_comparisons)
    return (-np.inf, np.inf) if interval is None else (interval[0], interval[1])
