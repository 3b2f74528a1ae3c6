"""What accuracy does not say: how much of the catalogue is shown, how popular, how varied.

Shapes: Q queries, K ranks, N items, C cutoffs, A attributes or dimensions of a vector, G groups of items, B queries of
a block. `items_QK` are lists padded with -1. A value per query is float64 (Q,), NaN for an empty list, which has no
average; a value of the whole is a float.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

Vectors = np.ndarray | sp.csr_array
"""What items are like, (N, A): dense, such as text vectors, or sparse, such as words or attributes."""
DIVERSITY_BLOCK = 1024
"""Queries whose vectors are added up at a time."""


def coverage(items_QK: np.ndarray, num_items: int) -> float:
    """Return the share of the catalogue that is on any list."""
    return float(np.count_nonzero(exposure(items_QK, num_items)) / num_items)


def gini(items_QK: np.ndarray, num_items: int) -> float:
    """Return the Gini coefficient of how often each item of the catalogue is recommended.

    0: all equally often; (N - 1) / N: always the same one. NaN where nothing is recommended.
    """
    counts = np.sort(exposure(items_QK, num_items))
    if counts[-1] == 0:
        return float("nan")
    ranks = np.arange(1, num_items + 1)
    return float((2 * ranks - num_items - 1) @ counts / (num_items * counts.sum()))


def novelty(items_QK: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """Return the mean self-information of a list in bits (Zhou et al. 2010), (Q,).

    -log2 of an item's share of the training interactions. An item without any counts as if it had one, since its
    information would be infinite.
    """
    information_N = -np.log2(np.maximum(counts_N, 1) / max(1, counts_N.sum()))
    return _list_mean(information_N, items_QK)


def arp(items_QK: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """Return the average recommendation popularity (Yin et al. 2012), (Q,): mean training interactions of its items."""
    return _list_mean(counts_N.astype(np.float64), items_QK)


def tail_share(items_QK: np.ndarray, tail_N: np.ndarray) -> np.ndarray:
    """Return the share of a list that is in the slice item:tail, (Q,)."""
    return _list_mean(tail_N.astype(np.float64), items_QK)


def diversity(items_QK: np.ndarray, vectors_NA: Vectors, cutoffs: Sequence[int]) -> np.ndarray:
    """Return 1 - the mean cosine between two items of the first k of a list (Ziegler et al. 2005), (Q, C).

    `cutoffs` ascend. An item whose vector is 0 resembles none. NaN for lists of fewer than two items.
    """
    lengths_N = _lengths(vectors_NA)
    inverse_N = np.divide(1.0, lengths_N, out=np.zeros_like(lengths_N), where=lengths_N > 0)
    if isinstance(vectors_NA, np.ndarray):
        inverse_N = inverse_N.astype(np.float32)
    unit_NA = sp.diags_array(inverse_N) @ vectors_NA
    pairs_QC, num_QC = np.zeros((len(items_QK), len(cutoffs))), np.zeros((len(items_QK), len(cutoffs)), np.int64)
    for start in range(0, len(items_QK), DIVERSITY_BLOCK):
        rows = slice(start, start + DIVERSITY_BLOCK)
        sums: Any = 0
        alone_B = np.zeros(len(items_QK[rows]))
        for c, (low, high) in enumerate(zip([0, *cutoffs], cutoffs, strict=False)):
            lists_BN = _incidence(items_QK[rows, low:high], len(lengths_N))
            added = lists_BN @ unit_NA
            sums = added if c == 0 else sums + added
            alone_B += lists_BN @ (lengths_N > 0)
            # The cosines of all pairs add up to the squared length of the sum, less each item with itself.
            pairs_QC[rows, c] = _lengths(sums) ** 2 - alone_B
            num_QC[rows, c] = (items_QK[rows, :high] >= 0).sum(1)
    return 1 - np.divide(pairs_QC, num_QC * (num_QC - 1), out=np.full(num_QC.shape, np.nan), where=num_QC > 1)


def weighted_recall(hits_QK: np.ndarray, items_QK: np.ndarray, relevant_QN: sp.csr_array, weights_N: np.ndarray,
                    cutoffs: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight found / the weight of all relevant items, (Q, C), and the latter, (Q,).

    With weights 1 / propensity the mean over queries is the self-normalised inverse-propensity estimate of recall
    (Schnabel et al. 2016; Yang et al. 2018, eq. 9): what was observed more easily counts less. Averaged by the second
    result instead it is Steck's (2011) popularity-stratified recall: the weight found for all users together.
    """
    total_Q = relevant_QN @ weights_N
    found_QK = np.cumsum(np.where(hits_QK, weights_N[items_QK], 0.0), axis=1)
    last = np.minimum(np.asarray(cutoffs), items_QK.shape[1]) - 1
    return found_QK[:, last] / total_Q[:, None], total_Q


def inverse_propensity(counts_N: np.ndarray, exponent: float) -> np.ndarray:
    """Return 1 / propensity up to a factor, float64 (N,): how easily an item is observed grows as count^exponent.

    An item without training interactions counts as if it had one.
    """
    return np.maximum(counts_N, 1).astype(np.float64) ** -exponent


def group_shares(items_QK: np.ndarray, groups_NG: sp.csr_array, counts_N: np.ndarray,
                 relevant_QN: sp.csr_array) -> dict[str, np.ndarray]:
    """Return the share of each group of items, by what is shared, each (G,).

    exposure: of the places on the lists, each worth 1 / log2(rank + 1) (Singh and Joachims 2018); catalogue: of the
    items; training: of the training interactions; held_out: of what was to be found. An item of several groups counts
    in equal parts for each, one of none is left out, so that shares add up to 1.
    """
    num_N = np.asarray(groups_NG.sum(axis=1)).ravel()
    part_NG = sp.diags_array(np.divide(1.0, num_N, out=np.zeros(len(num_N)), where=num_N > 0)) @ groups_NG
    worth_QK = np.where(items_QK >= 0, 1 / np.log2(np.arange(items_QK.shape[1]) + 2), 0.0)
    shown_N = np.bincount(np.maximum(items_QK, 0).ravel(), worth_QK.ravel(), minlength=len(num_N))
    found_N = np.bincount(relevant_QN.indices, minlength=len(num_N))
    parts = {"exposure": shown_N, "catalogue": np.ones(len(num_N)), "training": counts_N, "held_out": found_N}
    sums = {name: amount_N @ part_NG for name, amount_N in parts.items()}
    return {name: sum_G / max(sum_G.sum(), 1e-300) for name, sum_G in sums.items()}


def exposure(items_QK: np.ndarray, num_items: int) -> np.ndarray:
    """Return how many lists each item is on, int64 (N,)."""
    return np.bincount(items_QK[items_QK >= 0], minlength=num_items)


def compact(items_QK: np.ndarray, candidates_N: np.ndarray) -> np.ndarray:
    """Return the lists with the candidates numbered 0, 1, ... in their order; padding stays -1."""
    place_N = np.cumsum(candidates_N) - 1
    return np.where(items_QK >= 0, place_N[items_QK], -1)


def _list_mean(values_N: np.ndarray, items_QK: np.ndarray) -> np.ndarray:
    valid_QK = items_QK >= 0
    sums_Q = np.where(valid_QK, values_N[items_QK], 0.0).sum(1)
    num_Q = valid_QK.sum(1)
    return np.divide(sums_Q, num_Q, out=np.full(len(num_Q), np.nan), where=num_Q > 0)


def _incidence(items_QK: np.ndarray, num_items: int) -> sp.csr_array:
    """Return which items are on which list, CSR float32 (Q, N)."""
    valid_QK = items_QK >= 0
    indptr = np.concatenate([[0], np.cumsum(valid_QK.sum(1))])
    ones = np.ones(indptr[-1], np.float32)
    return sp.csr_array((ones, items_QK[valid_QK], indptr), shape=(len(items_QK), num_items))


def _lengths(vectors: Vectors) -> np.ndarray:
    """Return the length of each row, float64."""
    if isinstance(vectors, np.ndarray):
        return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1), np.float64).ravel())
