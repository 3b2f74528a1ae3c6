"""The numbers of a version that the gate judges: of its data, its quality, its lists and its folder.

Shapes: Q queries, K places of a list.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.metric_results import MetricResults
from llmrec_cli.metrics.significance import mean_interval

_DAY_MS = 86_400_000
_FIRST = 10
"""Places of a list that are compared between lists: those that people see."""


def data_facts(data: PreparedData, now: float | None = None) -> dict[str, float | None]:
    """Return the numbers of prepared data; `now` is the clock, in seconds since 1970."""
    counts = data.manifest["counts"]
    read = max(1, int(counts.get("read", 0)) + int(counts.get("earlier", 0)))
    newest = float(data.interactions.timestamp.max()) if data.has_moments and len(data.interactions) else None
    clock = time.time() if now is None else now
    return {"rows": float(len(data.interactions)), "users": float(len(np.unique(data.interactions.user))),
            "items": float(len(data.items) if data.listed is None else data.listed.sum()),
            "newest_day": None if newest is None else newest / _DAY_MS,
            "future_days": None if newest is None else newest / _DAY_MS - clock / 86_400,
            "cold_share": data.cold_share("test"), "rejected_share": int(counts.get("rejected", 0)) / read,
            "repeated_share": int(counts.get("duplicates", 0)) / read}


def quality_facts(metric: str, ours: MetricResults, current: MetricResults | None, popularity: MetricResults | None,
                  slice_names: Sequence[str], is_fair_Q: np.ndarray) -> dict[str, float | None]:
    """Return the numbers of the same held-out queries, answered by this version, the current one and popularity.

    `is_fair_Q` marks the queries whose held-out items the current version's model was not fitted on; the others are
    left out of the comparison with it.

    A loss is the share of the current version's metric by which this one is below it at the upper end of the 95%
    interval of the paired difference: 0 unless the whole interval is below 0.
    """
    value = ours.mean(metric)
    facts: dict[str, float | None] = {
        "metric": value, "loss": None, "slice_loss": None,
        "gain_over_popularity": None if popularity is None or value is None else value - (popularity.mean(metric) or 0)}
    if current is not None:
        facts["loss"] = loss(ours.values[metric][is_fair_Q], current.values[metric][is_fair_Q])
        parts = [loss(ours.slices[name][metric][is_fair_Q], current.slices[name][metric][is_fair_Q])
                 for name in slice_names
                 if metric in ours.slices.get(name, {}) and metric in current.slices.get(name, {})]
        facts["slice_loss"] = max((part for part in parts if part is not None), default=None)
    return facts


def loss(ours_Q: np.ndarray, theirs_Q: np.ndarray) -> float | None:
    """Return the share by which the mean of `ours_Q` is measurably below that of `theirs_Q`; None without queries."""
    both = np.isfinite(ours_Q) & np.isfinite(theirs_Q)
    interval = mean_interval(ours_Q[both] - theirs_Q[both])
    if interval is None:
        return None
    reference = float(theirs_Q[both].mean())
    return max(0.0, -interval[1]) / reference if reference > 0 else 0.0


def list_facts(lists: Path, k: int, catalogue: np.ndarray, num_queries: int,
               current: Path | None) -> dict[str, float | None]:
    """Return the numbers of a Parquet file of lists; `current` is that of the current version.

    `catalogue` has the ids that may be recommended, `num_queries` counts the queries, also those without a list.
    """
    table = pq.read_table(lists, columns=["query_id", "rank", "item_id"])
    sizes = np.asarray(pc.value_counts(table["query_id"]).field("counts"))
    items = pc.value_counts(table["item_id"])
    names, counts = items.field("values"), np.sort(np.asarray(items.field("counts"), dtype=np.float64))
    places = np.arange(1, len(counts) + 1)
    missing = max(0, len(catalogue) - len(counts))
    # Gini coefficient over the whole catalogue: items that are on no list count as 0.
    places = places + missing
    total = len(counts) + missing
    gini = float((2 * places - total - 1) @ counts / (total * counts.sum())) if counts.sum() else 0.0
    first = first_items(table)
    commonest = Counter(first.values()).most_common(1)
    is_known = np.asarray(pc.is_in(names, value_set=pa.array(catalogue, pa.string())))
    return {"empty_share": 1 - len(sizes) / max(1, num_queries),
            "short_share": float((sizes < k).mean()) if len(sizes) else 0.0,
            "same_share": commonest[0][1] / len(first) if len(first) > 1 else None,
            "covered_items": float(len(counts)), "gini": gini, "unknown_items": float((~is_known).sum()),
            "kept_share": None if current is None else kept_share(first, current)}


def first_items(table: pa.Table) -> dict[str, tuple[str, ...]]:
    """Return the first items of each query's list, in order."""
    top = table.filter(pc.less_equal(table["rank"], _FIRST)).sort_by([("query_id", "ascending"), ("rank", "ascending")])
    lists: dict[str, list[str]] = {}
    for query, item in zip(top["query_id"].to_pylist(), top["item_id"].to_pylist(), strict=True):
        lists.setdefault(query, []).append(item)
    return {query: tuple(items) for query, items in lists.items()}


def kept_share(first: Mapping[str, tuple[str, ...]], current: Path) -> float | None:
    """Return the mean share of the current version's first items that are on the list of the same query."""
    before = first_items(pq.read_table(current, columns=["query_id", "rank", "item_id"]))
    shares = [len(set(items) & set(first[query])) / len(items) for query, items in before.items() if query in first]
    return float(np.mean(shares)) if shares else None


def folder_gib(folder: Path) -> float:
    """Return the size of a folder's files in GiB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**30
