"""Slices of items by popularity and of queries by history length, which show differences that a mean hides.

Shapes: Q queries, K ranks, N items.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

_HEAD, _MID, TAIL, COLD = ITEM_SLICES = ("head", "mid", "tail", "cold")
_USER_SLICES = ("few", "many", "cold")


def item_slices(counts_N: np.ndarray) -> np.ndarray:
    """Return the slice of each item as an index into ITEM_SLICES, (N,).

    `counts_N` are numbers of training interactions. Items with none are cold. Of the others the most popular 5% are
    head, the next 15% mid, the rest tail. Shares round up, so the smallest catalogue has a head. Equally popular items
    are in the order of their integers, which is the order of ids in prepared data.
    """
    slices_N = np.full(len(counts_N), ITEM_SLICES.index(COLD), np.int8)
    order = np.argsort(-counts_N.astype(np.int64), kind="stable")[: np.count_nonzero(counts_N)]
    head, head_and_mid = -(-len(order) * 5 // 100), -(-len(order) * 20 // 100)
    slices_N[order[:head]] = ITEM_SLICES.index(_HEAD)
    slices_N[order[head:head_and_mid]] = ITEM_SLICES.index(_MID)
    slices_N[order[head_and_mid:]] = ITEM_SLICES.index(TAIL)
    return slices_N


def user_slices(history_lengths_Q: np.ndarray) -> dict[str, np.ndarray]:
    """Return a mask of the queries in each user slice, {name: bool (Q,)}.

    Queries without training history are cold. Of the others, `few` are the third with the shortest history and
    `many` the third with the longest, rounded down. Among histories of equal length, the query with the lower index
    counts as shorter.
    """
    warm = np.flatnonzero(history_lengths_Q)
    ordered = warm[np.argsort(history_lengths_Q[warm], kind="stable")]
    third = len(ordered) // 3
    members = {"few": ordered[:third], "many": ordered[len(ordered) - third:],
               "cold": np.flatnonzero(history_lengths_Q == 0)}
    return {name: np.isin(np.arange(len(history_lengths_Q)), members[name]) for name in _USER_SLICES}


def quantiles(values: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """Return masks of `number` groups of about equal size, from the lowest values up, `{"3-17": bool (size,)}`.

    Equal values are in the same group, so there may be fewer groups, and they may differ in size. NaN is in no group.
    The name of a group is its lowest and highest value.
    """
    some = np.flatnonzero(~np.isnan(values))
    if len(some) == 0:
        return {}
    edges = np.unique(np.quantile(values[some], np.arange(1, number) / number, method="lower"))
    group = np.full(len(values), -1)
    group[some] = np.searchsorted(edges, values[some], side="left")
    named = {}
    for n in range(len(edges) + 1):
        members = group == n
        if members.any():
            low, high = values[members].min(), values[members].max()
            named[f"{low:g}" if low == high else f"{low:g}-{high:g}"] = members
    return named


def attribute_values(attributes: sp.csr_array, names: Sequence[str], column: str) -> dict[str, np.ndarray]:
    """Return a mask of the rows with each value of an attribute, `{value: bool (num_rows,)}`, in the order of `names`.

    `names` are `column=value`, one per column of `attributes` (num_rows, A).
    """
    matches = [n for n, name in enumerate(names) if name.startswith(f"{column}=")]
    members = sp.csc_array(attributes[:, matches])
    masks = {}
    for place, n in enumerate(matches):
        mask = np.zeros(attributes.shape[0], bool)
        mask[members.indices[members.indptr[place]:members.indptr[place + 1]]] = True
        masks[names[n][len(column) + 1:]] = mask
    return masks


def columns_of(names: Sequence[str]) -> list[str]:
    """Return the distinct columns in names of the form `column=value`."""
    return list(dict.fromkeys(name.partition("=")[0] for name in names))
