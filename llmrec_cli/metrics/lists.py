"""Recommended lists as input of the beyond-accuracy metrics: items, exposure and item vectors.

Shapes: Q queries, K ranks, N items, C cutoffs, A attributes or dimensions of a vector, G groups of items, B queries of
a block, M candidates. `items_QK` are lists padded with -1.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.slices import ITEM_SLICES, TAIL, item_slices

Vectors: TypeAlias = np.ndarray | sp.csr_array
"""Vectors of items, (N, A): dense, such as text vectors, or sparse, such as words or attributes."""
_DIVERSITY_BLOCK = 1024
"""Number of queries whose item vectors are summed at a time."""


class WeightedHits:
    """Hits of lists with a weight per item.

    Attributes
    ----------
    recall_QC : the weight of the hits / the weight of all relevant items
    total_Q : the weight of all relevant items
    """

    def __init__(self, hits_QK: np.ndarray, items_QK: np.ndarray, relevant_QN: sp.csr_array, weights_N: np.ndarray,
                 cutoffs: Sequence[int]) -> None:
        self.total_Q = relevant_QN @ weights_N
        hits_QK = np.cumsum(np.where(hits_QK, weights_N[items_QK], 0.0), axis=1)
        last = np.minimum(np.asarray(cutoffs), items_QK.shape[1]) - 1
        self.recall_QC = hits_QK[:, last] / self.total_Q[:, None]


class RecommendedLists:
    """Lists, with the number of training interactions of each item (`counts_N`) and the candidates (bool, (N,))."""

    def __init__(self, items_QK: np.ndarray, counts_N: np.ndarray, candidates_N: np.ndarray,
                 cutoffs: Sequence[int]) -> None:
        self.items_QK, self.counts_N, self.candidates_N, self.cutoffs = items_QK, counts_N, candidates_N, cutoffs

    def mean(self, values_N: np.ndarray) -> np.ndarray:
        """Return the mean item value of each list, (Q, C); NaN for an empty list."""
        return np.stack([_list_mean(values_N, self.items_QK[:, :k]) for k in self.cutoffs], axis=1)

    @property
    def tail_N(self) -> np.ndarray:
        """1 for items in the slice item:tail, else 0, float64 (N,)."""
        return (item_slices(self.counts_N) == ITEM_SLICES.index(TAIL)).astype(np.float64)

    @cached_property
    def exposure_CM(self) -> np.ndarray:
        """Number of lists that each candidate is on, int64 (C, M)."""
        num_candidates = int(self.candidates_N.sum())
        return np.stack([exposure(_compact(self.items_QK[:, :k], self.candidates_N), num_candidates)
                         for k in self.cutoffs])


class VectorLists:
    """Lists with a vector of each item; an item with a zero vector has cosine 0 to all others."""

    def __init__(self, items_QK: np.ndarray, vectors_NA: Vectors, cutoffs: Sequence[int]) -> None:
        self.items_QK, self.vectors_NA, self.cutoffs = items_QK, vectors_NA, cutoffs

    def mean_cosine(self) -> np.ndarray:
        """Return the mean cosine over the pairs of items of each list, (Q, C); NaN for fewer than two items."""
        items_QK, vectors_NA, cutoffs = self.items_QK, self.vectors_NA, self.cutoffs
        lengths_N = _lengths(vectors_NA)
        inverse_N = np.divide(1.0, lengths_N, out=np.zeros_like(lengths_N), where=lengths_N > 0)
        if isinstance(vectors_NA, np.ndarray):
            inverse_N = inverse_N.astype(np.float32)
        unit_NA = sp.diags_array(inverse_N) @ vectors_NA
        pairs_QC, num_QC = np.zeros((len(items_QK), len(cutoffs))), np.zeros((len(items_QK), len(cutoffs)), np.int64)
        for start in range(0, len(items_QK), _DIVERSITY_BLOCK):
            rows = slice(start, start + _DIVERSITY_BLOCK)
            sums: Any = 0
            alone_B = np.zeros(len(items_QK[rows]))
            for c, (low, high) in enumerate(zip([0, *cutoffs], cutoffs, strict=False)):
                lists_BN = _incidence(items_QK[rows, low:high], len(lengths_N))
                added = lists_BN @ unit_NA
                sums = added if c == 0 else sums + added
                alone_B += lists_BN @ (lengths_N > 0)
                # The cosines of all pairs add up to the squared length of the sum minus each item with itself.
                pairs_QC[rows, c] = _lengths(sums) ** 2 - alone_B
                num_QC[rows, c] = (items_QK[rows, :high] >= 0).sum(1)
        return np.divide(pairs_QC, num_QC * (num_QC - 1), out=np.full(num_QC.shape, np.nan), where=num_QC > 1)


def inverse_propensity(counts_N: np.ndarray, exponent: float) -> np.ndarray:
    """Return 1 / propensity up to a constant factor, float64 (N,).

    The propensity (probability that an item is observed) is modelled as count^exponent. An item without training
    interactions counts as if it had one.
    """
    return np.maximum(counts_N, 1).astype(np.float64) ** -exponent


def group_shares(items_QK: np.ndarray, groups_NG: sp.csr_array, counts_N: np.ndarray,
                 relevant_QN: sp.csr_array) -> dict[str, np.ndarray]:
    """Return each item group's share of exposure, catalogue, training and held-out interactions, each (G,).

    exposure: places on the lists, each worth 1 / log2(rank + 1) (Singh and Joachims 2018); catalogue: items; training:
    training interactions; held_out: relevant items. An item of several groups is split evenly between them; an item of
    no group is left out, so shares add up to 1.
    """
    num_N = np.asarray(groups_NG.sum(axis=1)).ravel()
    part_NG = sp.diags_array(np.divide(1.0, num_N, out=np.zeros(len(num_N)), where=num_N > 0)) @ groups_NG
    worth_QK = np.where(items_QK >= 0, 1 / np.log2(np.arange(items_QK.shape[1]) + 2), 0.0)
    exposure_N = np.bincount(np.maximum(items_QK, 0).ravel(), worth_QK.ravel(), minlength=len(num_N))
    held_out_N = np.bincount(relevant_QN.indices, minlength=len(num_N))
    parts = {"exposure": exposure_N, "catalogue": np.ones(len(num_N)), "training": counts_N, "held_out": held_out_N}
    sums = {name: amount_N @ part_NG for name, amount_N in parts.items()}
    return {name: sum_G / max(sum_G.sum(), 1e-300) for name, sum_G in sums.items()}


def exposure(items_QK: np.ndarray, num_items: int) -> np.ndarray:
    """Return the number of lists that each item is on, int64 (N,)."""
    return np.bincount(items_QK[items_QK >= 0], minlength=num_items)


def _compact(items_QK: np.ndarray, candidates_N: np.ndarray) -> np.ndarray:
    """Return the lists with the candidates numbered 0, 1, ... in their order; padding stays -1."""
    place_N = np.cumsum(candidates_N) - 1
    return np.where(items_QK >= 0, place_N[items_QK], -1)


def _list_mean(values_N: np.ndarray, items_QK: np.ndarray) -> np.ndarray:
    valid_QK = items_QK >= 0
    sums_Q = np.where(valid_QK, values_N[items_QK], 0.0).sum(1)
    num_Q = valid_QK.sum(1)
    return np.divide(sums_Q, num_Q, out=np.full(len(num_Q), np.nan), where=num_Q > 0)


def _incidence(items_QK: np.ndarray, num_items: int) -> sp.csr_array:
    """Return the query-item incidence matrix of the lists, CSR float32 (Q, N)."""
    valid_QK = items_QK >= 0
    indptr = np.concatenate([[0], np.cumsum(valid_QK.sum(1))])
    ones = np.ones(indptr[-1], np.float32)
    return sp.csr_array((ones, items_QK[valid_QK], indptr), shape=(len(items_QK), num_items))


def _lengths(vectors: Vectors) -> np.ndarray:
    """Return the length of each row, float64."""
    if isinstance(vectors, np.ndarray):
        return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1), np.float64).ravel())
