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
from llmrec_cli.ingest.engine import batches, collect, materialised

_TOP = (1, 5, 10, 20, 50)
"""Percent of the items whose share of the interactions is told."""
_MOST_POINTS = 50


class Tally:
    """Counts of counts: `counts` are distinct and ascending, `numbers` how many have each."""

    def __init__(self, found: Iterable[tuple[int, int]] = ()) -> None:
        self._found: dict[int, int] = {}
        for count, number in found:
            self._found[count] = self._found.get(count, 0) + number

    def add(self, values: np.ndarray) -> None:
        """Count the values (num_values,); zeros are left out."""
        for count, number in zip(*np.unique(values[values > 0], return_counts=True), strict=True):
            self._found[int(count)] = self._found.get(int(count), 0) + int(number)

    @property
    def counts(self) -> np.ndarray:
        """Distinct counts, ascending (num_distinct,)."""
        return np.array(sorted(self._found), np.int64)

    @property
    def numbers(self) -> np.ndarray:
        """Frequencies of `counts` (num_distinct,)."""
        return np.array([self._found[c] for c in sorted(self._found)], np.int64)

    @property
    def size(self) -> int:
        """Number of entries counted."""
        return sum(self._found.values())

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return sum(count * number for count, number in self._found.items())

    def number_of(self, count: int) -> int:
        """Return how many have this count."""
        return self._found.get(count, 0)

    def summary(self) -> dict[str, Any]:
        """Return num, min, q1, median, q3, max (the lower of two in the middle) and mean; only num for nothing."""
        if not self._found:
            return {"num": 0}
        counts, ends = self.counts, np.cumsum(self.numbers)

        def quantile(share: float) -> int:
            return int(counts[np.searchsorted(ends, max(1, np.ceil(share * ends[-1])))])

        return {"num": self.size, "min": int(counts[0]), "q1": quantile(0.25), "median": quantile(0.5),
                "q3": quantile(0.75), "max": int(counts[-1]), "mean": round(self.total / self.size, 4)}

    def doubling(self) -> list[dict[str, int]]:
        """Return how many have a count of 1, of 2, of 3 to 4, of 5 to 8, and so on: from, to, num."""
        bins = list(_doubling(int(self.counts[-1]))) if self._found else []
        counts, numbers = self.counts, self.numbers
        return [{"from": low, "to": high, "num": int(numbers[(counts >= low) & (counts <= high)].sum())}
                for low, high in bins]

    def gini(self) -> float:
        """Return the Gini coefficient: 0 when all have the same count, near 1 when one has nearly all."""
        if self.total == 0:
            return 0.0
        counts, numbers = self.counts.astype(np.float64), self.numbers.astype(np.float64)
        # The area under the Lorenz curve, which is straight between two distinct counts.
        shares, below = counts * numbers / self.total, np.r_[0.0, np.cumsum(counts * numbers)[:-1] / self.total]
        area = float((numbers / self.size * (below + shares / 2)).sum())
        return round(max(0.0, 1 - 2 * area), 6)

    def share_of_top(self, share: float) -> float:
        """Return the part of the total that the largest `share` (0 to 1) holds; the last one counts in part."""
        counts, numbers = self.counts[::-1].astype(np.float64), self.numbers[::-1].astype(np.float64)
        if not len(counts):
            return 0.0
        held = np.interp(share * numbers.sum(), np.r_[0, np.cumsum(numbers)], np.r_[0, np.cumsum(counts * numbers)])
        return round(float(held) / self.total, 6)

    def long_tail(self) -> dict[str, Any]:
        """Return the Gini coefficient, shares of the top, and a curve of about 50 points (share of items, of total)."""
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
    """One split: its interactions, and the first and last of their timestamps."""

    size: int
    first: int
    last: int


def parts_of(rows: Table) -> dict[str, Part]:
    """Return the splits that have interactions."""
    found = collect(rows.group_by("split").agg(size=rows.count(), first=rows.timestamp.min(),
                                               last=rows.timestamp.max())).to_pylist()
    by_name = {row.pop("split"): Part(**row) for row in found}
    return {split: by_name[split] for split in SPLITS if split in by_name}


def counted(rows: Table, kind: str, newest: bool = False) -> Table:
    """Return <kind>, train, valid, test: the interactions of each user or item; `newest`: last time in training too."""
    counts = {split: rows.count(where=rows.split == split) for split in SPLITS}
    time = {"newest": rows.timestamp.max(where=rows.split == "train")} if newest else {}
    return materialised(rows.group_by(kind).agg(**counts, **time))


class Counted:
    """The interactions of all users, or of all items, of each split and of all together."""

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
    # Arrow's own way to numpy imports pandas, which takes as long as all the rest on a small data set.
    return np.from_dlpack(column).astype(np.int64)


def describe_splits(parts: dict[str, Part], users: Counted, items: Counted, unit: str) -> dict[str, Any]:
    """Return per split, and for all together: counts, what is cold and its share, density, time and distributions."""
    found = {}
    for split in (*SPLITS, "all"):
        chosen = [parts[split]] if split in parts else list(parts.values()) if split == "all" else []
        size = sum(part.size for part in chosen)
        num_users, num_items = users.tallies[split].size, items.tallies[split].size
        found[split] = {"interactions": size, "users": num_users, "items": num_items,
                        "density": _density(size, num_users * num_items),
                        "first": moment(min(p.first for p in chosen), unit) if chosen else None,
                        "last": moment(max(p.last for p in chosen), unit) if chosen else None,
                        "users_with_one_interaction": users.tallies[split].number_of(1),
                        "per_user": users.tallies[split].summary(), "per_item": items.tallies[split].summary()}
        for kind, counted_ in (("users", users), ("items", items)):
            cold = counted_.cold_interactions
            in_cold = sum(cold.values()) if split == "all" else cold[split]
            found[split] |= {f"cold_{kind}": counted_.num_named - counted_.num_trained if split == "all" else
                             counted_.cold[split], f"cold_{kind}_interactions": in_cold,
                             f"cold_{kind}_share": share(in_cold, size)}
    return found


def _density(size: int, cells: int) -> float:
    """Return the share of cells that are filled, to four digits however small."""
    return float(f"{size / cells:.4g}") if cells else 0.0


def moment(timestamp: int, unit: str) -> str | int | None:
    """Return a timestamp as people write it: ISO 8601, or the number of an order; None without timestamps."""
    if not unit:
        return None
    if unit == "order":
        return timestamp
    at = _EPOCH + timedelta(milliseconds=timestamp)
    return at.isoformat(timespec="milliseconds" if timestamp % 1000 else "seconds").replace("+00:00", "Z")


def popularity(folder: Folder, per_item: Table, items: Counted) -> dict[str, Any]:
    """Return the long tail of training, and the most popular items: item_id, title, interactions, share."""
    total = items.tallies["train"].total
    top = collect(per_item.order_by(per_item.train.desc(), "item").limit(5).select("item", "train")).to_pylist()
    names = folder.entities("item", [row["item"] for row in top])
    return {**items.tallies["train"].long_tail(),
            "most_popular": [{**names[row["item"]], "interactions": row["train"], "share": share(row["train"], total)}
                             for row in top if row["train"]]}


def over_time(rows: Table, parts: dict[str, Part], unit: str) -> dict[str, Any] | None:
    """Return the interactions of each split in about 60 equal spans of time; None without timestamps."""
    if not unit:
        return None
    first, last = min(p.first for p in parts.values()), max(p.last for p in parts.values())
    width = -(-(last - first + 1) // _NUM_BINS)
    num = (last - first) // width + 1
    # An order may be too large for exact division, hence the limit.
    span = ((rows.timestamp - first) / width).floor().cast("int64").clip(upper=num - 1)
    return {"unit": unit, "edges": [moment(first + n * width, unit) for n in range(num + 1)],
            **_by_split(rows.select("split", place=span), num)}


def over_values(rows: Table, num_rows: int) -> dict[str, Any]:
    """Return the interactions of each split by value: each one, or 20 equal spans where there are more than 20."""
    by_value = _by_value(rows, num_rows)
    distinct = sorted({row["value"] for row in by_value})
    if 0 < len(distinct) <= _MOST_VALUES:
        found = {split: [0] * len(distinct) for split in SPLITS}
        for row in by_value:
            found[row["split"]][distinct.index(row["value"])] = row["size"]
        return {"values": distinct, "edges": None, **found}
    limits = collect(rows.agg(low=rows.value.min(), high=rows.value.max())).to_pylist()[0]
    low, step = limits["low"], (limits["high"] - limits["low"]) / _MOST_VALUES
    place = ((rows.value - low) / step).floor().cast("int64").clip(upper=_MOST_VALUES - 1)
    return {"values": None, "edges": [low + n * step for n in range(_MOST_VALUES + 1)],
            **_by_split(rows.select("split", place=place), _MOST_VALUES)}


def _by_value(rows: Table, num_rows: int) -> list[dict[str, Any]]:
    """Return split, value and size for each split and value, or nothing where there are many values.

    Whether there are is seen from some users, always the same: to count every dwell time there is would take long.
    """
    some = rows.filter(rows.user % max(1, math.ceil(num_rows / _SAMPLE)) == 0)
    if len(collect(some.select("value").distinct().limit(_MOST_VALUES + 1))) > _MOST_VALUES:
        return []
    counted_ = rows.group_by("split", "value").agg(size=rows.count())
    return collect(counted_.limit(len(SPLITS) * _MOST_VALUES + 1)).to_pylist()


def _by_split(placed: Table, num: int) -> dict[str, list[int]]:
    """Return how many rows (split, place) of each split are at each of `num` places."""
    found = {split: [0] * num for split in SPLITS}
    for row in collect(placed.group_by("split", "place").agg(size=placed.count())).to_pylist():
        found[row["split"]][row["place"]] = row["size"]
    return found
