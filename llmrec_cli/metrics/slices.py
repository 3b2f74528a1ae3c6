"""Slices: items by popularity and queries by history, so that a mean cannot hide who pays for it.

Shapes: Q queries, K ranks, N items.
"""

import numpy as np

HEAD, MID, TAIL, COLD = ITEM_SLICES = ("head", "mid", "tail", "cold")
USER_SLICES = ("few", "many", "cold")


def item_slices(counts_N: np.ndarray) -> np.ndarray:
    """Return the slice of each item, (N,): its place in ITEM_SLICES.

    `counts_N` are training interactions. Items with none are cold. Of the others the most popular 5% are head, the
    next 15% mid, the rest tail; shares round up, so the smallest catalogue has a head. Among equally popular items
    the one with the lower integer comes first, which is the order of ids in prepared data.
    """
    slices_N = np.full(len(counts_N), ITEM_SLICES.index(COLD), np.int8)
    order = np.argsort(-counts_N.astype(np.int64), kind="stable")[: np.count_nonzero(counts_N)]
    head, head_and_mid = -(-len(order) * 5 // 100), -(-len(order) * 20 // 100)
    slices_N[order[:head]] = ITEM_SLICES.index(HEAD)
    slices_N[order[head:head_and_mid]] = ITEM_SLICES.index(MID)
    slices_N[order[head_and_mid:]] = ITEM_SLICES.index(TAIL)
    return slices_N


def user_slices(history_lengths_Q: np.ndarray) -> dict[str, np.ndarray]:
    """Return which queries are in each user slice, bool (Q,) by name.

    Queries without training history are cold. Of the others, `few` are the third with the shortest history and
    `many` the third with the longest, rounded down; among equally long ones the lower integer counts as shorter.
    """
    warm = np.flatnonzero(history_lengths_Q)
    ordered = warm[np.argsort(history_lengths_Q[warm], kind="stable")]
    third = len(ordered) // 3
    members = {"few": ordered[:third], "many": ordered[len(ordered) - third:],
               "cold": np.flatnonzero(history_lengths_Q == 0)}
    return {name: np.isin(np.arange(len(history_lengths_Q)), members[name]) for name in USER_SLICES}


def restrict(hits_QK: np.ndarray, items_QK: np.ndarray, slices_N: np.ndarray, which: str) -> np.ndarray:
    """Return the hits on items of one slice, bool (Q, K), at the ranks they have in the whole list.

    Padding (-1) is never a hit, so what it picks from `slices_N` does not matter.
    """
    return hits_QK & (slices_N[items_QK] == ITEM_SLICES.index(which))
