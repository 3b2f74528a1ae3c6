"""Transitions: how often one item follows another in the histories of users, sparse.

Shapes: N items; row and column of a matrix of transitions are the earlier and the later item.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.shared.matrix_products import compact


def require_order(data: TrainingData) -> None:
    """Raise DataError if the interactions have no order."""
    if not data.has_order:
        raise DataError("head.direction=forward: the prepared data has no times, so no interaction follows another; "
                        "prepare with dataset.columns.timestamp=<column>, or choose head.direction=both")


def count_transitions(interactions: Interactions, weight: np.ndarray, window: int) -> sp.csr_array:
    """Return the weighted number of transitions within `window` places of a user's history, CSR float32 (N, N).

    An item `gap` places after another adds weight x weight / gap. Rows are in the order of the interactions: ties in
    time keep the order of the prepared data. An item does not follow itself.
    """
    num = interactions.num_items
    user, item = interactions.user, interactions.item.astype(np.int32 if num < 2**31 else np.int64)
    total = sp.csr_array((num, num), dtype=np.float32)
    # A gap at a time: the pairs of all gaps at once would be `window` times the memory.
    for gap in range(1, min(window, len(item) - 1) + 1):
        follows = (user[gap:] == user[:-gap]) & (item[gap:] != item[:-gap])
        pairs = (item[:-gap][follows], item[gap:][follows])
        values = weight[:-gap][follows] * weight[gap:][follows] / np.float32(gap)
        total = total + sp.csr_array((values, pairs), shape=(num, num))
    return compact(sp.csr_array(total))


def normalise_transitions(counts_NN: sp.csr_array, powers: tuple[float, float], shrinkage: float) -> sp.csr_array:
    """Divide by powers of both items' sums: the later's to the first power / 2, the earlier's to the second / 2.

    `shrinkage` is added to the sums. With powers of 1: count / root((sum of the row + s) (sum of the column + s)).
    """
    later, earlier = powers
    ones = np.ones(counts_NN.shape[0])
    row = np.repeat(((counts_NN @ ones) + shrinkage)**(earlier / 2), np.diff(counts_NN.indptr))
    column = ((ones @ counts_NN) + shrinkage)**(later / 2)
    values = (counts_NN.data / (row * column[counts_NN.indices])).astype(np.float32)
    return sp.csr_array((values, counts_NN.indices, counts_NN.indptr), shape=counts_NN.shape)


def highest_of_rows(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Return the k highest entries above 0 of each row, columns ascending; of equal ones the lowest columns."""
    matrix = sp.csr_array(matrix)
    matrix.sort_indices()
    length = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(length), dtype=np.int32), length)
    keep = matrix.data > 0
    crowded = np.flatnonzero((length > k)[row])
    # Rows are sorted by value, those of equal value in order of columns; the place in the row is the rank.
    order = crowded[np.lexsort((-matrix.data[crowded], row[crowded]))]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(length[length > k]) - length[length > k], length[length > k])
    keep[order[rank >= k]] = False
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def mean_weights(near_MN: sp.csr_array) -> sp.csr_array:
    """Return the matrix without zeros, each row scaled to a sum of 1; empty rows stay empty."""
    length, num_rows = np.diff(near_MN.indptr), near_MN.shape[0]
    row = np.repeat(np.arange(num_rows), length)
    sums = np.bincount(row, near_MN.data.astype(np.float64), minlength=num_rows)
    scaled = (near_MN.data / np.where(sums > 0, sums, 1)[row]).astype(np.float32)
    means = sp.csr_array((scaled, near_MN.indices, near_MN.indptr), shape=near_MN.shape)
    means.eliminate_zeros()
    return means


def own_where_empty(matrix_NN: sp.csr_array) -> sp.csr_array:
    """Return the matrix with 1 on the diagonal of each empty row: an item that is like no other is like itself."""
    empty = np.flatnonzero(np.diff(matrix_NN.indptr) == 0)
    own = sp.csr_array((np.ones(len(empty), np.float32), (empty, empty)), shape=matrix_NN.shape)
    return sp.csr_array(matrix_NN + own)


class SmoothedTransitions:
    """The matrix (1 - share) T + share K T L, whose rows are computed in blocks: it may be dense.

    The left factor of a product is `left`, a row per row of the result.
    """

    def __init__(self, matrix_NN: sp.csr_array, left_NN: sp.csr_array, right_NN: sp.csr_array, share: float) -> None:
        self.matrix_NN, self.right_NN, self.shape = matrix_NN, right_NN, matrix_NN.shape
        own_NN = sp.eye_array(matrix_NN.shape[0], format="csr", dtype=np.float32) * np.float32(1 - share)
        self.left = sp.csr_array(sp.hstack([own_NN, left_NN * np.float32(share)], format="csr", dtype=np.float32))

    def product(self, left: sp.csr_array) -> np.ndarray:
        """Return some rows of the matrix, float32 (rows, N)."""
        num = self.shape[0]
        own, near = sp.csr_array(left[:, :num]), sp.csr_array(left[:, num:])
        rows: np.ndarray = ((own @ self.matrix_NN) + (near @ self.matrix_NN) @ self.right_NN).toarray()
        return rows
