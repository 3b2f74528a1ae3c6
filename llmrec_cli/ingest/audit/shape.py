"""The shape of the interactions: counts, density, cold users and items, popularity, time, and their distributions."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from numpy.typing import NDArray

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.audit.folder import Folder, share
from llmrec_cli.ingest.engine import batches, collect, materialise

_TOP = (1, 5, 10, 20, 50)
"""Percentages of the items, most popular first, whose share of the interactions is reported."""
_MOST_POINTS = 50


class Tally:
    """Histogram of counts: `counts` are distinct and ascending, `numbers` is how often each occurs."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._frequency: dict[int, int] = {}
        for count, number in pairs:
            self._frequency[count] = self._frequency.get(count, 0) + number

    def add(self, values: np.ndarray) -> None:
        """Add the values (num_values,); zeros are ignored."""
        for count, number in zip(*np.unique(values[values > 0], return_counts=True), strict=True):
            self._frequency[int(count)] = self._frequency.get(int(count), 0) + int(number)

    @property
    def counts(self) -> np.ndarray:
        """Distinct counts, ascending (num_distinct,)."""
        return np.array(sorted(self._frequency), np.int64)

    @property
    def numbers(self) -> np.ndarray:
        """Frequency of each of the `counts` (num_distinct,)."""
        return np.array([self._frequency[c] for c in sorted(self._frequency)], np.int64)

    @property
    def size(self) -> int:
        """Number of entries counted."""
        return sum(self._frequency.values())

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return sum(count * number for count, number in self._frequency.items())

    def number_of(self, count: int) -> int:
        """Return how many entries have this count."""
        return self._frequency.get(count, 0)

    def summary(self) -> dict[str, Any]:
        """Return num, min, q1, median, q3, max (of two middle values the lower) and mean; only num if empty."""
        if not self._frequency:
            return {"num": 0}
        counts, ends = self.counts, np.cumsum(self.numbers)

        def quantile(share: float) -> int:
            return int(counts[np.searchsorted(ends, max(1, np.ceil(share * ends[-1])))])

        return {"num": self.size, "min": int(counts[0]), "q1": quantile(0.25), "median": quantile(0.5),
                "q3": quantile(0.75), "max": int(counts[-1]), "mean": round(self.total / self.size, 4)}

    def doubling(self) -> list[dict[str, int]]:
        """Return the number of entries with a count of 1, of 2, of 3 to 4, of 5 to 8, and so on (keys from, to, num).
        """
        bins = list(_doubling(int(self.counts[-1]))) if self._frequency else []
        counts, numbers = self.counts, self.numbers
        return [{"from": low, "to": high, "num": int(numbers[(counts >= low) & (counts <= high)].sum())}
                for low, high in bins]

    def gini(self) -> float:
        """Return the Gini coefficient: 0 when all entries have the same count, near 1 when one has nearly all."""
        if self.total == 0:
            return 0.0
        counts, numbers = self.counts.astype(np.float64), self.numbers.astype(np.float64)
        # Area under the Lorenz curve, which is straight between two distinct counts.
        shares, below = counts * numbers / self.total, np.r_[0.0, np.cumsum(counts * numbers)[:-1] / self.total]
        area = float((numbers / self.size * (below + shares / 2)).sum())
        return round(max(0.0, 1 - 2 * area), 6)

    def share_of_top(self, share: float) -> float:
        """Return the part of the total that the largest `share` (0 to 1) of the entries holds, interpolated."""
        counts, numbers = self.counts[::-1].astype(np.float64), self.numbers[::-1].astype(np.float64)
        if not len(counts):
            return 0.0
        held = np.interp(share * numbers.sum(), np.r_[0, np.cumsum(numbers)], np.r_[0, np.cumsum(counts * numbers)])
        return round(float(held) / self.total, 6)

    def long_tail(self) -> dict[str, Any]:
        """Return the Gini coefficient, top shares, and a curve of about 50 points (share of items, of total)."""
        few = np.geomspace(0.001, 0.1, _MOST_POINTS // 2)
        places = np.unique(np.round(np.r_[0, few, np.linspace(0.1, 1, _MOST_POINTS // 2)], 4))
        return {"gini": self.gini(), "top": {str(percent): self.share_of_top(percent / 100) for percent in _TOP},
                "curve": [[float(p), self.share_of_top(float(p))] for p in places]}


def _doubling(most: int) -> Iterator[tuple[int, int]]:
    low, high = 1, 1
    while low <= most:
        yield low, high
        low, high = high + 1, high * 2


_NUM_BINS, _MOST_VALUES = 60, 20
_BATCH = 1 << 16
_SAMPLE = 200_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """Number of interactions of a split, and their first and last timestamp."""

    size: int
    first: int
    last: int


def parts_of(rows: Table) -> dict[str, Part]:
    """Return the splits that have interactions."""
    rows_by_split = collect(rows.group_by("split").agg(size=rows.count(), first=rows.timestamp.min(),
                                               last=rows.timestamp.max())).to_pylist()
    by_name = {row.pop("split"): Part(**row) for row in rows_by_split}
    return {split: by_name[split] for split in SPLITS if split in by_name}


def count_by_split(rows: Table, kind: str, newest: bool = False) -> Table:
    """Return a table of <kind>, train, valid, test: interactions of each user or item; with `newest` also its last
    training time.
    """
    counts = {split: rows.count(where=rows.split == split) for split in SPLITS}
    time = {"newest": rows.timestamp.max(where=rows.split == "train")} if newest else {}
    return materialise(rows.group_by(kind).agg(**counts, **time))


class InteractionCounts:
    """Interaction counts of all users, or of all items, by split and in total."""

    def __init__(self, table: Table) -> None:
        self.tallies = {split: Tally() for split in (*SPLITS, "all")}
        self.cold = dict.fromkeys(SPLITS, 0)
        self.cold_interactions = dict.fromkeys(SPLITS, 0)
        self.num_named = self.num_trained = 0
        for batch in batches(table.select(*SPLITS), _BATCH):
            columns = dict(zip(SPLITS, (_numbers(column) for column in batch.columns), strict=True))
            untrained = columns["train"] == 0
            self.num_named += len(untrained)
            self.num_trained += int((~untrained).sum())
            for split in SPLITS:
                self.tallies[split].add(columns[split])
                self.cold[split] += int(np.count_nonzero(columns[split][untrained]))
                self.cold_interactions[split] += int(columns[split][untrained].sum())
            self.tallies["all"].add(columns["train"] + columns["valid"] + columns["test"])


def _numbers(column: pa.Array) -> NDArray[np.int64]:
    # Arrow's to_numpy imports pandas, which on a small data set takes as long as everything else.
    return np.from_dlpack(column).astype(np.int64)


def describe_splits(parts: dict[str, Part], users: InteractionCounts, items: InteractionCounts,
                    unit: str) -> dict[str, Any]:
    """Return counts, cold users and items, density, times and distributions of each split and of `all`."""
    report = {}
    for split in (*SPLITS, "all"):
        selected = [parts[split]] if split in parts else list(parts.values()) if split == "all" else []
        size = sum(part.size for part in selected)
        num_users, num_items = users.tallies[split].size, items.tallies[split].size
        report[split] = {"interactions": size, "users": num_users, "items": num_items,
                        "density": _density(size, num_users * num_items),
                        "first": format_time(min(p.first for p in selected), unit) if selected else None,
                        "last": format_time(max(p.last for p in selected), unit) if selected else None,
                        "users_with_one_interaction": users.tallies[split].number_of(1),
                        "per_user": users.tallies[split].summary(), "per_item": items.tallies[split].summary()}
        for kind, counts_ in (("users", users), ("items", items)):
            cold = counts_.cold_interactions
            in_cold = sum(cold.values()) if split == "all" else cold[split]
            report[split] |= {f"cold_{kind}": counts_.num_named - counts_.num_trained if split == "all" else
                             counts_.cold[split], f"cold_{kind}_interactions": in_cold,
                             f"cold_{kind}_share": share(in_cold, size)}
    return report


def _density(size: int, cells: int) -> float:
    """Return the share of filled cells, to four significant digits."""
    return float(f"{size / cells:.4g}") if cells else 0.0


def format_time(timestamp: int, unit: str) -> str | int | None:
    """Return a timestamp for reading: ISO 8601, or the number of an order; None without timestamps."""
    if not unit:
        return None
    if unit == "order":
        return timestamp
    at = _EPOCH + timedelta(milliseconds=timestamp)
    return at.isoformat(timespec="milliseconds" if timestamp % 1000 else "seconds").replace("+00:00", "Z")


def popularity(folder: Folder, per_item: Table, items: InteractionCounts) -> dict[str, Any]:
    """Return the popularity distribution in training, and the most popular items: item_id, title, interactions, share.
    """
    total = items.tallies["train"].total
    top = collect(per_item.order_by(per_item.train.desc(), "item").limit(5).select("item", "train")).to_pylist()
    names = folder.entities("item", [row["item"] for row in top])
    return {**items.tallies["train"].long_tail(),
            "most_popular": [{**names[row["item"]], "interactions": row["train"], "share": share(row["train"], total)}
                             for row in top if row["train"]]}


def over_time(rows: Table, parts: dict[str, Part], unit: str) -> dict[str, Any] | None:
    """Return the interactions of each split in about 60 equal time bins; None without timestamps."""
    if not unit:
        return None
    first, last = min(p.first for p in parts.values()), max(p.last for p in parts.values())
    width = -(-(last - first + 1) // _NUM_BINS)
    num = (last - first) // width + 1
    # The numbers of an order may be too large for exact division, so clip.
    span = ((rows.timestamp - first) / width).floor().cast("int64").clip(upper=num - 1)
    return {"unit": unit, "edges": [format_time(first + n * width, unit) for n in range(num + 1)],
            **_by_split(rows.select("split", place=span), num)}


def over_values(rows: Table, num_rows: int) -> dict[str, Any]:
    """Return the interactions of each split by value: each distinct value, or 20 equal bins if there are more."""
    by_value = _by_value(rows, num_rows)
    distinct = sorted({row["value"] for row in by_value})
    if 0 < len(distinct) <= _MOST_VALUES:
        counts = {split: [0] * len(distinct) for split in SPLITS}
        for row in by_value:
            counts[row["split"]][distinct.index(row["value"])] = row["size"]
        return {"values": distinct, "edges": None, **counts}
    limits = collect(rows.agg(low=rows.value.min(), high=rows.value.max())).to_pylist()[0]
    low, step = limits["low"], (limits["high"] - limits["low"]) / _MOST_VALUES
    place = ((rows.value - low) / step).floor().cast("int64").clip(upper=_MOST_VALUES - 1)
    return {"values": None, "edges": [low + n * step for n in range(_MOST_VALUES + 1)],
            **_by_split(rows.select("split", place=place), _MOST_VALUES)}


def _by_value(rows: Table, num_rows: int) -> list[dict[str, Any]]:
    """Return split, value and size for each split and value; an empty list if there are many values.

    A fixed sample of users decides this first, since counting every distinct dwell time would take long.
    """
    some = rows.filter(rows.user % max(1, math.ceil(num_rows / _SAMPLE)) == 0)
    if len(collect(some.select("value").distinct().limit(_MOST_VALUES + 1))) > _MOST_VALUES:
        return []
    counts_ = rows.group_by("split", "value").agg(size=rows.count())
    return collect(counts_.limit(len(SPLITS) * _MOST_VALUES + 1)).to_pylist()


def _by_split(placed: Table, num: int) -> dict[str, list[int]]:
    """Return how many rows (split, place) of each split fall on each of `num` places."""
    counts = {split: [0] * num for split in SPLITS}
    for row in collect(placed.group_by("split", "place").agg(size=placed.count())).to_pylist():
        counts[row["split"]][row["place"]] = row["size"]
    return counts
