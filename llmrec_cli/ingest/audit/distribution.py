"""Distributions of counts, kept as `how many have this count`: small however many users and items there are."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

TOP = (1, 5, 10, 20, 50)
"""Percent of the items whose share of the interactions is told."""
MOST_POINTS = 50


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
        """How many have each of `counts` (num_distinct,)."""
        return np.array([self._found[c] for c in sorted(self._found)], np.int64)

    @property
    def size(self) -> int:
        """How many were counted."""
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
        few = np.geomspace(0.001, 0.1, MOST_POINTS // 2)
        places = np.unique(np.round(np.r_[0, few, np.linspace(0.1, 1, MOST_POINTS // 2)], 4))
        return {"gini": self.gini(), "top": {str(percent): self.share_of_top(percent / 100) for percent in TOP},
                "curve": [[float(p), self.share_of_top(float(p))] for p in places]}


def _doubling(most: int) -> Iterator[tuple[int, int]]:
    low, high = 1, 1
    while low <= most:
        yield low, high
        low, high = high + 1, high * 2
