"""Products of sparse histories with dense and sparse matrices, and Gram matrices, in bounded memory.

Shapes: Q queries, R rows of the weights, M columns, W columns of a block.

Shapes: R rows, F features (what is summed over), C columns, D features kept densely.

Shapes: R rows, C columns, W columns of a block.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import get_lapack_funcs

_WIDTH = 64
"""Columns of a block. 64 columns of 4,000 rows are 1 MB, which stay in the cache while all histories are summed up:
measured five times as fast as a sparse product with whole rows, and no slower than widths up to 512."""

MOST_OF_32_BITS = 2**31 - 1


class ColumnBlocks:
    """A float32 matrix (R, M) as blocks of columns, each of them contiguous, on any device.

    A history times the matrix is the sum of the rows that the history names, which torch's embedding_bag forms block
    by block. A query's scores do not depend on which queries it is asked with.
    """

    def __init__(self, num_rows: int, device: torch.device | None = None) -> None:
        self.num_rows = num_rows
        self.device = device or torch.device("cpu")
        self.blocks: list[torch.Tensor] = []
        self.whole: np.ndarray | None = None

    @classmethod
    def of(cls, flat: np.ndarray, num_rows: int, num_columns: int,
           device: torch.device | None = None) -> "ColumnBlocks":
        """Return the matrix that lies in `flat` as in what `flat()` returns; on a CPU its memory is used."""
        assert flat.shape == (num_rows * num_columns,), (flat.shape, num_rows, num_columns)
        made = cls(num_rows, device)
        made.whole = flat
        cells = torch.from_numpy(flat).to(made.device)
        for start in range(0, num_columns, _WIDTH):
            stop = min(start + _WIDTH, num_columns)
            made.blocks.append(cells[start * num_rows:stop * num_rows].view(num_rows, stop - start))
        return made

    @property
    def num_columns(self) -> int:
        """M."""
        return sum(block.shape[1] for block in self.blocks)

    def append(self, columns_RK: np.ndarray) -> None:
        """Add columns after the others."""
        assert len(columns_RK) == self.num_rows
        self.whole = None
        if self.blocks and self.blocks[-1].shape[1] < _WIDTH:
            # Only the last block may be narrower: `of` tells blocks by their width.
            columns_RK = np.concatenate([self.blocks.pop().cpu().numpy(), columns_RK], axis=1)
        for start in range(0, columns_RK.shape[1], _WIDTH):
            block = np.ascontiguousarray(columns_RK[:, start:start + _WIDTH], np.float32)
            self.blocks.append(torch.from_numpy(block).to(self.device))

    def put(self, start: int, columns_RB: torch.Tensor, add: bool = False) -> None:
        """Write columns from the column `start` on, a multiple of `_WIDTH`; with `add` on top of what is there."""
        assert start % _WIDTH == 0
        for place in range(0, columns_RB.shape[1], _WIDTH):
            block_RW = self.blocks[(start + place) // _WIDTH]
            some_RW = columns_RB[:, place:place + _WIDTH]
            block_RW.add_(some_RW) if add else block_RW.copy_(some_RW)

    def multiply(self, factor: float) -> None:
        """Multiply the matrix by a number."""
        for block_RW in self.blocks:
            block_RW.mul_(factor)

    def flat(self) -> np.ndarray:
        """Return the blocks one after the other, float32 (R x M,)."""
        if self.whole is not None:
            return self.whole
        parts = [block.cpu().numpy().ravel() for block in self.blocks]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def dense(self) -> np.ndarray:
        """Return the matrix, float32 (R, M)."""
        return np.concatenate([np.zeros((self.num_rows, 0), np.float32),
                               *(block.cpu().numpy() for block in self.blocks)], axis=1)

    def product(self, history_QR: sp.csr_array) -> torch.Tensor:
        """Return history x matrix, float32 (Q, M), on the device of the matrix."""
        assert history_QR.shape[1] == self.num_rows
        shape = (history_QR.shape[0], self.num_columns)
        if history_QR.nnz == 0:
            return torch.zeros(shape, device=self.device)
        indices, indptr, values = (torch.from_numpy(part).to(self.device) for part in _parts(history_QR))
        weights = None if bool((values == 1).all()) else values
        scores_QM, start = torch.empty(shape, device=self.device), 0
        for block_RW in self.blocks:
            stop = start + block_RW.shape[1]
            scores_QM[:, start:stop] = torch.nn.functional.embedding_bag(
                indices, block_RW, indptr, mode="sum", per_sample_weights=weights, include_last_offset=True)
            start = stop
        return scores_QM


def turned_in_place(rows_NN: np.ndarray) -> np.ndarray:
    """Return the transposed of a square matrix laid out as `ColumnBlocks.of` reads it, in the matrix's own memory.

    The columns of a block are rows of the matrix, transposed, and those lie where the block will.
    """
    flat, num = rows_NN.reshape(-1), len(rows_NN)
    assert np.shares_memory(flat, rows_NN) or num == 0
    for start in range(0, num, _WIDTH):
        stop = min(start + _WIDTH, num)
        flat[start * num:stop * num] = rows_NN[start:stop].T.copy().ravel()
    return flat


def reorder_in_place(matrix_NN: np.ndarray, place_N: np.ndarray) -> None:
    """Put row and column `place_N[n]` of a square matrix at n, in the memory of one row and `_WIDTH` of them."""
    moved = place_N == np.arange(len(place_N))
    for first in range(len(place_N)):
        if moved[first]:
            continue
        # A cycle of rows: each moves to the place that the row before it left.
        saved_N, row = matrix_NN[first].copy(), first
        while place_N[row] != first:
            matrix_NN[row] = matrix_NN[place_N[row]]
            moved[row], row = True, place_N[row]
        matrix_NN[row], moved[row] = saved_N, True
    for start in range(0, len(place_N), _WIDTH):
        matrix_NN[start:start + _WIDTH] = matrix_NN[start:start + _WIDTH, place_N]


def _parts(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices, pointers, both of 32 bits where they fit, and values."""
    small = max(matrix.nnz, matrix.shape[1]) <= MOST_OF_32_BITS
    kind = np.int32 if small else np.int64
    return matrix.indices.astype(kind), matrix.indptr.astype(kind), matrix.data.astype(np.float32)


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


DENSE_BYTES = 2**21
"""Columns held densely at a time, which stay in the cache while rows of them are summed; at least `FEWEST` columns."""

FEWEST = 16

MIRRORED_AT_ONCE = 256
"""Rows that are copied at a time to the other side of the diagonal."""


def popular_first(count_C: np.ndarray) -> np.ndarray:
    """Return the columns by falling number of entries, the order in which `add_gram` has least to do."""
    return np.argsort(-count_C, kind="stable")


def add_gram(gram_CC: np.ndarray, matrix_RC: sp.csr_array) -> None:
    """Add the lower triangle of matrix.T @ matrix; what is above the diagonal is undefined afterwards.

    A block of columns at a time is held densely, and for each column from there on the rows in which it has an entry
    are summed up. With popular columns first, those with many rows meet few columns.
    """
    num_rows, num_columns = matrix_RC.shape
    columns_CR = sp.csr_array(matrix_RC.T)
    column = np.repeat(np.arange(num_columns, dtype=np.int32), np.diff(columns_CR.indptr))
    indices, indptr = (torch.from_numpy(part.astype(np.int64)) for part in (columns_CR.indices, columns_CR.indptr))
    values = None if (columns_CR.data == 1).all() else torch.from_numpy(columns_CR.data.astype(gram_CC.dtype))
    width = _width(num_rows, gram_CC.itemsize)
    for start in range(0, num_columns, width):
        stop = min(start + width, num_columns)
        entries = slice(int(indptr[start]), int(indptr[stop]))
        dense_RW = np.zeros((num_rows, stop - start), gram_CC.dtype)
        dense_RW[columns_CR.indices[entries], column[entries] - start] = columns_CR.data[entries]
        rest = slice(entries.start, None)
        gram_CC[start:, start:stop] += torch.nn.functional.embedding_bag(
            indices[rest], torch.from_numpy(dense_RW), indptr[start:] - indptr[start], mode="sum",
            include_last_offset=True, per_sample_weights=None if values is None else values[rest]).numpy()


def gram_memory(num_entries: int, num_rows: int, num_columns: int, itemsize: int = 4) -> int:
    """Return the bytes of `add_gram` beside the Gram matrix."""
    # Each entry in the order given and by columns (value and index), its column, its index again of 8 bytes, and its
    # value again where it is not 1; the dense columns, and the sums of a block before they are added.
    width = _width(num_rows, itemsize)
    return (16 + 4 + 8 + itemsize) * num_entries + itemsize * width * (num_rows + 2 * num_columns)


def _width(num_rows: int, itemsize: int) -> int:
    return max(FEWEST, DENSE_BYTES // (itemsize * max(1, num_rows)))


def inverse_in_place(gram_CC: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the inverse of a positive definite matrix, given as its lower triangle, in the matrix's own memory.

    Raises numpy's LinAlgError where the matrix is not positive definite in its precision.
    """
    if len(gram_CC) == 0:
        return gram_CC
    if device.type != "cpu":
        factor, failed_at = torch.linalg.cholesky_ex(torch.from_numpy(gram_CC).to(device))
        _require_definite(int(failed_at))
        gram_CC[:] = torch.cholesky_inverse(factor).cpu().numpy()
        return gram_CC
    # LAPACK stores by columns: our lower triangle is its upper one.
    functions: Any = get_lapack_funcs(("potrf", "potri"), dtype=gram_CC.dtype)
    factorise, invert = functions
    factored: Any = factorise(gram_CC.T, lower=0, overwrite_a=1, clean=0)
    _require_definite(factored[1])
    inverted: Any = invert(factored[0], lower=0, overwrite_c=1)
    _require_definite(inverted[1])
    inverse_CC: np.ndarray = inverted[0].T
    for start in range(0, len(inverse_CC), MIRRORED_AT_ONCE):
        stop = min(start + MIRRORED_AT_ONCE, len(inverse_CC))
        square = inverse_CC[start:stop, start:stop]
        square[:] = np.tril(square) + np.tril(square, -1).T
        inverse_CC[start:stop, stop:] = inverse_CC[stop:, start:stop].T
    return inverse_CC


def _require_definite(failed_at: int) -> None:
    if failed_at:
        raise np.linalg.LinAlgError(f"not positive definite: {failed_at}")
