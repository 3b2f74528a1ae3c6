"""Hits on ranked lists, in a fixed order or in expectation over the order of equal scores: exact, no sampling.

Shapes: Q queries, K ranks (best first, from 1), C cutoffs, H hits, I items of the ideal list.

The metrics in `metrics.ranking` use the methods of `Hits`, so each has one definition for both orders. Sums up to a
cutoff do not change beyond the end of a list.

Items of equal score form a tie block that takes up consecutive ranks; the last block may reach beyond the list. Within
a block every order is equally likely (McSherry and Najork 2008), so at rank i, the j-th of a block with m items, r of
them relevant (j from 0):

    P(hit at i)                      = r / m
    P(no hit at i | none in 0..j-1)  = (m - r - j) / (m - j)
    P(hit at i and at an earlier j') = r (r - 1) / (m (m - 1))

and blocks are independent of each other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec_cli.metrics.table import METRICS

Places = tuple[np.ndarray, ...]
"""Row and column indices of the hits in the lists, sorted."""
Worth = Callable[[np.ndarray], np.ndarray]
"""Function from the ranks 1 to K to the value of a hit at each rank, float64 (K,)."""


@dataclass(frozen=True)
class Gains:
    """Gains relevance for ndcg.

    Attributes
    ----------
    gains_QK : float64 (Q, K), the gain of each entry of the lists, 0 for irrelevant items
    ideal_QI : float64 (Q, I), the gains of all relevant items of a query, highest first, padded with 0
    """

    gains_QK: np.ndarray
    ideal_QI: np.ndarray


@dataclass(frozen=True)
class TieBlocks:
    """The tie block (items of equal score) at each rank.

    Attributes
    ----------
    size_QK : int (Q, K), items in the block, including those beyond the cutoff; 1 beyond the end of a short list
    relevant_QK : int (Q, K), relevant items in the block; 0 beyond the end of a short list
    place_QK : int (Q, K), position of the rank within the block, from 0
    gain_QK : float64 (Q, K), sum of the gains in the block; None for binary relevance
    """

    size_QK: np.ndarray
    relevant_QK: np.ndarray
    place_QK: np.ndarray
    gain_QK: np.ndarray | None = None


class Hits(ABC):
    """Sums over the hits of each list within each cutoff, float64 (Q, C).

    `num_relevant_Q`, each at least 1, also counts relevant items that are on no list. `ideal_QI` is that of `Gains`;
    None for binary relevance.
    """

    def __init__(self, num_relevant_Q: np.ndarray, cutoffs: Sequence[int], ideal_QI: np.ndarray | None = None) -> None:
        self.num_relevant_Q, self.cutoffs, self.ideal_QI = num_relevant_Q, cutoffs, ideal_QI

    @property
    def num_relevant_Q1(self) -> np.ndarray:
        """Relevant items of each query, (Q, 1)."""
        return self.num_relevant_Q[:, None]

    @property
    def cutoffs_C(self) -> np.ndarray:
        """The cutoffs, (C,)."""
        return np.asarray(self.cutoffs)

    @abstractmethod
    def count(self) -> np.ndarray:
        """Return the number of hits."""

    @abstractmethod
    def sum(self, worth: Worth) -> np.ndarray:
        """Return the sum of `worth(rank)` over the hits."""

    @abstractmethod
    def any(self) -> np.ndarray:
        """Return the probability of at least one hit."""

    @abstractmethod
    def first_reciprocal_rank(self) -> np.ndarray:
        """Return 1 / rank of the first hit, 0 without one."""

    @abstractmethod
    def precision_at_hits(self) -> np.ndarray:
        """Return the sum of the precision at the rank of each hit."""

    @abstractmethod
    def dcg(self) -> np.ndarray:
        """Return the sum of the discounted gains of the hits."""

    def ideal_dcg(self) -> np.ndarray:
        """Return the DCG of the ideal list, which has the highest gains at its top."""
        if self.ideal_QI is not None:
            return at(np.cumsum(self.ideal_QI * _discounts(self.ideal_QI.shape[1]), axis=1), self.cutoffs)
        ideal = np.concatenate([[0.0], np.cumsum(_discounts(max(self.cutoffs)))])
        return ideal[np.minimum(self.cutoffs_C, self.num_relevant_Q1)]


class OrderedHits(Hits):
    """Hits of lists in a fixed order; ties have been broken before.

    `query_H`, `rank_H` and `gain_H` (None: binary relevance) are sorted by query and rank. Lists have far fewer hits
    than places, so sums over hits are fast.
    """

    def __init__(self, query_H: np.ndarray, rank_H: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
                 gain_H: np.ndarray | None = None, ideal_QI: np.ndarray | None = None) -> None:
        super().__init__(num_relevant_Q, cutoffs, ideal_QI)
        self.query_H, self.rank_H, self.gain_H = query_H, rank_H, gain_H

    def count(self) -> np.ndarray:
        return self._sums(np.ones(len(self.rank_H)))

    def sum(self, worth: Worth) -> np.ndarray:
        return self._sums(self._of_ranks(worth))

    def any(self) -> np.ndarray:
        return (self.count() > 0).astype(np.float64)

    def first_reciprocal_rank(self) -> np.ndarray:
        return self._sums((np.diff(self.query_H, prepend=-1) > 0) / self.rank_H)

    def precision_at_hits(self) -> np.ndarray:
        first_Q = np.searchsorted(self.query_H, np.arange(len(self.num_relevant_Q)))
        return self._sums((np.arange(1, len(self.rank_H) + 1) - first_Q[self.query_H]) / self.rank_H)

    def dcg(self) -> np.ndarray:
        discount_H = self._of_ranks(_discount)
        return self._sums(discount_H if self.gain_H is None else self.gain_H * discount_H)

    def _of_ranks(self, worth: Worth) -> np.ndarray:
        return worth(np.arange(1, self.rank_H.max(initial=0) + 1))[self.rank_H - 1]

    def _sums(self, worth_H: np.ndarray) -> np.ndarray:
        size = len(self.num_relevant_Q)
        return np.stack([np.bincount(self.query_H[within], worth_H[within], minlength=size)
                         for within in self._within], axis=1)

    @cached_property
    def _within(self) -> list[np.ndarray]:
        """Indices of the hits within each cutoff."""
        return [np.flatnonzero(self.rank_H <= k) for k in self.cutoffs]


class TiedHits(Hits):
    """Hits in expectation over all orders of equal scores."""

    def __init__(self, blocks: TieBlocks, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
                 ideal_QI: np.ndarray | None = None) -> None:
        super().__init__(num_relevant_Q, cutoffs, ideal_QI)
        self.blocks = blocks

    def count(self) -> np.ndarray:
        return at(np.cumsum(self._hits_QK, axis=1), self.cutoffs)

    def sum(self, worth: Worth) -> np.ndarray:
        return at(np.cumsum(self._hits_QK * worth(self._ranks_K), axis=1), self.cutoffs)

    def any(self) -> np.ndarray:
        return 1 - at(self._none_QK, self.cutoffs, before=1.0)

    def first_reciprocal_rank(self) -> np.ndarray:
        none_QK = self._none_QK
        before_QK = np.concatenate([np.ones((len(none_QK), 1)), none_QK[:, :-1]], axis=1)[:, :none_QK.shape[1]]
        return at(np.cumsum((before_QK - none_QK) / self._ranks_K, axis=1), self.cutoffs)

    def precision_at_hits(self) -> np.ndarray:
        size_QK, relevant_QK, place_QK = self.blocks.size_QK, self.blocks.relevant_QK, self.blocks.place_QK
        # Hits of earlier blocks are all on the list. Earlier places of the own block are not independent of this hit.
        until_QK = np.cumsum(self._hits_QK, axis=1)
        earlier_blocks_QK = until_QK - self._hits_QK * (place_QK + 1)
        own_block_QK = place_QK * (relevant_QK - 1) / np.maximum(size_QK - 1, 1)
        precision_QK = self._hits_QK * (1 + earlier_blocks_QK + own_block_QK) / self._ranks_K
        return at(np.cumsum(precision_QK, axis=1), self.cutoffs)

    def dcg(self) -> np.ndarray:
        if self.ideal_QI is None:
            return self.sum(_discount)
        assert self.blocks.gain_QK is not None
        gain_QK = self.blocks.gain_QK / self.blocks.size_QK
        return at(np.cumsum(gain_QK * _discounts(gain_QK.shape[1]), axis=1), self.cutoffs)

    @property
    def _ranks_K(self) -> np.ndarray:
        return np.arange(1, self.blocks.size_QK.shape[1] + 1)

    @cached_property
    def _hits_QK(self) -> np.ndarray:
        """Probability of a hit at each rank."""
        return self.blocks.relevant_QK / self.blocks.size_QK

    @cached_property
    def _none_QK(self) -> np.ndarray:
        """Probability that there is no hit up to each rank."""
        left_QK = self.blocks.size_QK - self.blocks.place_QK
        return np.cumprod(np.maximum(left_QK - self.blocks.relevant_QK, 0) / left_QK, axis=1)


class MemberHits:
    """Hits of group recommendation lists, judged by each member's own held-out items.

    `hits` has a query for each pair of a group and a member; `group_P` is the group's row in 0..num_groups - 1,
    ascending. Groups without such a pair get NaN.
    """

    def __init__(self, hits: Hits, group_P: np.ndarray, num_groups: int) -> None:
        self.hits, self.group_P, self.num_groups = hits, group_P, num_groups

    def mean(self, metric: Callable[[Hits], np.ndarray]) -> np.ndarray:
        """Return the mean of a metric over the members of each group, (Q, C)."""
        return self._reduce(np.add, metric) / np.bincount(self.group_P, minlength=self.num_groups)[:, None]

    def least(self, metric: Callable[[Hits], np.ndarray]) -> np.ndarray:
        """Return the lowest value among the members of each group."""
        return self._reduce(np.minimum, metric)

    def most(self, metric: Callable[[Hits], np.ndarray]) -> np.ndarray:
        """Return the highest value among the members of each group."""
        return self._reduce(np.maximum, metric)

    def _reduce(self, reduce: np.ufunc, metric: Callable[[Hits], np.ndarray]) -> np.ndarray:
        values_PC = metric(self.hits)
        starts = np.flatnonzero(np.diff(self.group_P, prepend=-1))
        values_QC = np.full((self.num_groups, values_PC.shape[1]), np.nan)
        for c in range(values_PC.shape[1]):
            values_QC[self.group_P[starts], c] = reduce.reduceat(values_PC[:, c], starts)
        return values_QC


def ordered_hits(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
                 gains: Gains | None = None) -> OrderedHits:
    """Return the hits of lists; `hits_QK` (Q, K) is True for relevant entries."""
    return hits_at(np.nonzero(hits_QK), num_relevant_Q, cutoffs, gains)


def hits_at(places: Places, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
            gains: Gains | None = None) -> OrderedHits:
    """Return the hits of lists from the indices of their relevant entries."""
    query_H, place_H = places
    if gains is None:
        return OrderedHits(query_H, place_H + 1, num_relevant_Q, cutoffs)
    return OrderedHits(query_H, place_H + 1, num_relevant_Q, cutoffs, gains.gains_QK[places], gains.ideal_QI)


def monitored_values(monitor: str, hits_QK: np.ndarray, num_relevant_Q: np.ndarray) -> np.ndarray:
    """Return the value of the metric `monitor` (such as `ndcg@10`) for each query, float64 (Q,)."""
    name, _, k = monitor.partition("@")
    values_Q: np.ndarray = METRICS[name].function(ordered_hits(hits_QK, num_relevant_Q, [int(k)]))[:, 0]
    return values_Q


def at(cumulative_QK: np.ndarray, cutoffs: Sequence[int], before: float = 0.0) -> np.ndarray:
    """Return cumulative values at the cutoffs: the last value beyond the last rank, `before` ahead of rank 1."""
    padded = np.pad(cumulative_QK.astype(np.float64), ((0, 0), (1, 0)), constant_values=before)
    return padded[:, np.minimum(np.asarray(cutoffs), padded.shape[1] - 1)]


def _discount(rank_K: np.ndarray) -> np.ndarray:
    return 1 / np.log2(rank_K + 1)


def _discounts(num_ranks: int) -> np.ndarray:
    """Return the discount of a gain at each rank, (K,)."""
    return _discount(np.arange(1, num_ranks + 1))
