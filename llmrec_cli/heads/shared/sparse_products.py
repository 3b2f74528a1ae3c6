"""Products of sparse matrices with dense results, a block of rows at a time.

Shapes: R rows, F features (what is summed over), C columns, D features kept densely.
"""

import numpy as np
import scipy.sparse as sp

BLOCK_CELLS = 2**22
"""Cells of a block of results: 16 MB dense, and at most twice that sparse before."""

DENSE_SHARE = 0.1
"""A feature in more than this share of the columns goes through BLAS. For R = C, a sparse product costs about 4 ns for
each pair of entries that meet, a dense one .04 ns for each cell: even at a share of sqrt(.01)."""

DENSE_CELLS = 2**26
"""Most cells of features kept densely: 256 MB."""


class RightFactor:
    """The right side of many products: the features that many columns have as dense rows, the others sparse.

    What users watch is skewed: in MovieLens-1M the 7% of the users with the longest histories take 60% of the work of
    item-kNN as sparse rows, and a tenth of it as dense ones.
    """

    def __init__(self, matrix_FC: sp.csr_array) -> None:
        matrix_FC = compact(matrix_FC)
        self.shape = matrix_FC.shape
        num_columns = matrix_FC.shape[1]
        self.dense_D = dense_features(np.diff(matrix_FC.indptr), num_columns)
        self.dense_DC = matrix_FC[self.dense_D].toarray()
        self.sparse_FC = _without_rows(matrix_FC, self.dense_D)

    def product(self, left_RF: sp.csr_array) -> np.ndarray:
        """Return left x right, float32 (R, C)."""
        num_rows, num_columns = left_RF.shape[0], self.shape[1]
        out_RC = np.empty((num_rows, num_columns), np.float32)
        size = block_rows(num_columns)
        for start in range(0, num_rows, size):
            rows = slice(start, min(start + size, num_rows))
            left = compact(left_RF[rows])
            (left @ self.sparse_FC).toarray(out=out_RC[rows])
            if len(self.dense_D):
                out_RC[rows] += left[:, self.dense_D].toarray() @ self.dense_DC
        return out_RC


def compact(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with 32-bit indices, where they suffice: half the memory, less to read in sparse products."""
    small = matrix.indices.dtype == np.int32 and matrix.indptr.dtype == np.int32
    if small or max(matrix.nnz, *matrix.shape) > np.iinfo(np.int32).max:
        return matrix
    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return sp.csr_array(parts, shape=matrix.shape)


def block_rows(num_columns: int) -> int:
    """Return how many rows of results are held at a time, at least 1."""
    return max(1, BLOCK_CELLS // max(1, num_columns))


def dense_features(length_F: np.ndarray, num_columns: int) -> np.ndarray:
    """Return which features a `RightFactor` keeps densely, sorted, by their number of entries (F,)."""
    many = np.flatnonzero(length_F > DENSE_SHARE * num_columns)
    most = DENSE_CELLS // max(1, num_columns)
    longest_first = many[np.argsort(-length_F[many], kind="stable")]
    return np.sort(longest_first[:most])


def _without_rows(matrix_FC: sp.csr_array, rows_D: np.ndarray) -> sp.csr_array:
    """Return the matrix with the rows emptied; the same matrix where there are none."""
    if len(rows_D) == 0:
        return matrix_FC
    length_F = np.diff(matrix_FC.indptr)
    stays_F = np.ones(len(length_F), bool)
    stays_F[rows_D] = False
    stays = np.repeat(stays_F, length_F)
    indptr = np.concatenate([[0], np.cumsum(np.where(stays_F, length_F, 0))]).astype(matrix_FC.indptr.dtype)
    return sp.csr_array((matrix_FC.data[stays], matrix_FC.indices[stays], indptr), shape=matrix_FC.shape)
