"""What accuracy does not say: how much of the catalogue is shown, how popular, how varied.

Shapes: Q queries, K ranks, N items, A attributes. `items_QK` are lists padded with -1. A value per query is float64
(Q,), NaN for an empty list, which has no average; a value of the whole is a float.
"""

import numpy as np
import scipy.sparse as sp


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


def diversity(items_QK: np.ndarray, attributes_NA: sp.csr_array) -> np.ndarray:
    """Return 1 - the mean cosine between the attributes of two items of a list (Ziegler et al. 2005), (Q,).

    An item without attributes resembles none. NaN for lists of fewer than two items.
    """
    lengths = np.sqrt(np.asarray(attributes_NA.multiply(attributes_NA).sum(axis=1)).ravel())
    unit_NA = sp.diags_array(np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)) @ attributes_NA
    valid_QK = items_QK >= 0
    indptr = np.concatenate([[0], np.cumsum(valid_QK.sum(1))])
    lists_QN = sp.csr_array((np.ones(indptr[-1]), items_QK[valid_QK], indptr), shape=(len(items_QK), len(lengths)))
    sums_QA = lists_QN @ unit_NA
    # The cosines of all pairs add up to the squared length of the sum, less each item with itself.
    pairs_Q = np.asarray(sums_QA.multiply(sums_QA).sum(axis=1)).ravel() - lists_QN @ (lengths > 0)
    num_Q = valid_QK.sum(1)
    return 1 - np.divide(pairs_Q, num_Q * (num_Q - 1), out=np.full(len(num_Q), np.nan), where=num_Q > 1)


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
