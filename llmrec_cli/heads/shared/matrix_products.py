"""Products of sparse histories with dense and sparse matrices, and Gram matrices, in bounded memory.

Shapes of `ColumnBlocks`: Q queries, R rows of the weights, M columns, W columns of a block. Shapes of `RightFactor`: R
rows, F features (summed over), C columns, D features stored densely. Shapes of `add_gram` and inverses: R rows, C
columns, W columns of a block.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import get_lapack_funcs

_WIDTH = 64
"""Columns of a block. 64 columns of 4,000 rows are 1 MB, which fit in the cache while all histories are summed:
measured five times as fast as a sparse product with whole rows, and no slower than widths up to 512."""

MOST_OF_32_BITS = 2**31 - 1


class ColumnBlocks:
    """A float32 matrix (R, M) as contiguous blocks of columns, on any device.

    A history times the matrix is the sum of the rows at the history's items, computed block by block with torch's
    embedding_bag. A query's scores do not depend on the other queries of the batch.
    """

    def __init__(self, num_rows: int, device: torch.device | None = None) -> None:
        self.num_rows = num_rows
        self.device = device or torch.device("cpu")
        self.blocks: list[torch.Tensor] = []
        self.whole: np.ndarray | None = None

    @classmethod
    def of(cls, flat: np.ndarray, num_rows: int, num_columns: int,
           device: torch.device | None = None) -> "ColumnBlocks":
        """Return the matrix stored in `flat`, in the layout of `flat()`; on a CPU it shares the memory."""
        assert flat.shape == (num_rows * num_columns,), (flat.shape, num_rows, num_columns)
        matrix = cls(num_rows, device)
        matrix.whole = flat
        cells = torch.from_numpy(flat).to(matrix.device)
        for start in range(0, num_columns, _WIDTH):
            stop = min(start + _WIDTH, num_columns)
            matrix.blocks.append(cells[start * num_rows:stop * num_rows].view(num_rows, stop - start))
        return matrix

    @property
    def num_columns(self) -> int:
        """Number of columns, M."""
        return sum(block.shape[1] for block in self.blocks)

    def append(self, columns_RK: np.ndarray) -> None:
        """Append columns."""
        assert len(columns_RK) == self.num_rows
        self.whole = None
        if self.blocks and self.blocks[-1].shape[1] < _WIDTH:
            # Only the last block may be narrower: `of` splits by width.
            columns_RK = np.concatenate([self.blocks.pop().cpu().numpy(), columns_RK], axis=1)
        for start in range(0, columns_RK.shape[1], _WIDTH):
            block = np.ascontiguousarray(columns_RK[:, start:start + _WIDTH], np.float32)
            self.blocks.append(torch.from_numpy(block).to(self.device))

    def put(self, start: int, columns_RB: torch.Tensor, add: bool = False) -> None:
        """Write columns from `start` on, a multiple of `_WIDTH`; with `add`, add them to the present values."""
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


def transpose_in_place(rows_NN: np.ndarray) -> np.ndarray:
    """Transpose a square matrix in place, into the layout of `ColumnBlocks.of`.

    The columns of a block are transposed rows of the matrix, which already lie in the block's memory.
    """
    flat, num = rows_NN.reshape(-1), len(rows_NN)
    assert np.shares_memory(flat, rows_NN) or num == 0
    for start in range(0, num, _WIDTH):
        stop = min(start + _WIDTH, num)
        flat[start * num:stop * num] = rows_NN[start:stop].T.copy().ravel()
    return flat


def reorder_in_place(matrix_NN: np.ndarray, place_N: np.ndarray) -> None:
    """Move row and column `place_N[n]` of a square matrix to n, with buffers for one row and for `_WIDTH` rows."""
    is_done = place_N == np.arange(len(place_N))
    for first in range(len(place_N)):
        if is_done[first]:
            continue
        # Move the rows along a cycle of the permutation.
        saved_N, row = matrix_NN[first].copy(), first
        while place_N[row] != first:
            matrix_NN[row] = matrix_NN[place_N[row]]
            is_done[row], row = True, place_N[row]
        matrix_NN[row], is_done[row] = saved_N, True
    for start in range(0, len(place_N), _WIDTH):
        matrix_NN[start:start + _WIDTH] = matrix_NN[start:start + _WIDTH, place_N]


def _parts(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices, pointers (both 32-bit if they fit) and values."""
    small = max(matrix.nnz, matrix.shape[1]) <= MOST_OF_32_BITS
    kind = np.int32 if small else np.int64
    return matrix.indices.astype(kind), matrix.indptr.astype(kind), matrix.data.astype(np.float32)


BLOCK_CELLS = 2**22
"""Cells of a block of results: 16 MB dense, and before that at most 32 MB sparse."""

DENSE_SHARE = 0.1
"""A feature in more than this share of the columns goes through BLAS. For R = C, a sparse product costs about 4 ns per
pair of matching entries, a dense one .04 ns per cell: equal at a share of sqrt(.01)."""

DENSE_CELLS = 2**26
"""Most cells of densely stored features: 256 MB."""


class RightFactor:
    """The right factor of many products: features present in many columns are stored dense, the others sparse.

    User activity is skewed: in MovieLens-1M the 7% of the users with the longest histories take 60% of the work of
    item-kNN as sparse rows, and a tenth of that as dense rows.
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
            block_RF = compact(left_RF[rows])
            (block_RF @ self.sparse_FC).toarray(out=out_RC[rows])
            if len(self.dense_D):
                out_RC[rows] += block_RF[:, self.dense_D].toarray() @ self.dense_DC
        return out_RC


def compact(matrix: sp.csr_array) -> sp.csr_array:
    """Convert to 32-bit indices if they suffice: half the memory, and less to read in sparse products."""
    small = matrix.indices.dtype == np.int32 and matrix.indptr.dtype == np.int32
    if small or max(matrix.nnz, *matrix.shape) > np.iinfo(np.int32).max:
        return matrix
    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return sp.csr_array(parts, shape=matrix.shape)


def block_rows(num_columns: int) -> int:
    """Return the number of result rows of a block, at least 1."""
    return max(1, BLOCK_CELLS // max(1, num_columns))


def dense_features(length_F: np.ndarray, num_columns: int) -> np.ndarray:
    """Return the features that a `RightFactor` stores densely, ascending, from their numbers of entries (F,)."""
    many = np.flatnonzero(length_F > DENSE_SHARE * num_columns)
    most = DENSE_CELLS // max(1, num_columns)
    longest_first = many[np.argsort(-length_F[many], kind="stable")]
    return np.sort(longest_first[:most])


def _without_rows(matrix_FC: sp.csr_array, rows_D: np.ndarray) -> sp.csr_array:
    """Return the matrix with these rows emptied; the same object if there are none."""
    if len(rows_D) == 0:
        return matrix_FC
    length_F = np.diff(matrix_FC.indptr)
    keep_F = np.ones(len(length_F), bool)
    keep_F[rows_D] = False
    keep = np.repeat(keep_F, length_F)
    indptr = np.concatenate([[0], np.cumsum(np.where(keep_F, length_F, 0))]).astype(matrix_FC.indptr.dtype)
    return sp.csr_array((matrix_FC.data[keep], matrix_FC.indices[keep], indptr), shape=matrix_FC.shape)


DENSE_BYTES = 2**21
"""Size of a dense block of columns, which fits in the cache while its rows are summed; at least `FEWEST` columns."""

FEWEST = 16

MIRRORED_AT_ONCE = 256
"""Rows copied at a time to the other side of the diagonal."""


def popular_first(count_C: np.ndarray) -> np.ndarray:
    """Return the columns by descending number of entries, the fastest order for `add_gram`."""
    return np.argsort(-count_C, kind="stable")


def add_gram(gram_CC: np.ndarray, matrix_RC: sp.csr_array) -> None:
    """Add the lower triangle of matrix.T @ matrix; values above the diagonal are undefined afterwards.

    One block of columns at a time is dense; for each later column, its rows of the block are summed. With popular
    columns first, the columns with many entries are combined with few blocks.
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
    """Return the bytes of `add_gram`, without the Gram matrix."""
    # Per entry: value and index in the given order and by column, its column, an 8-byte index, and a copied value
    # unless all are 1. Also the dense columns, and the sums of a block before they are added.
    width = _width(num_rows, itemsize)
    return (16 + 4 + 8 + itemsize) * num_entries + itemsize * width * (num_rows + 2 * num_columns)


def _width(num_rows: int, itemsize: int) -> int:
    return max(FEWEST, DENSE_BYTES // (itemsize * max(1, num_rows)))


def inverse_in_place(gram_CC: np.ndarray, device: torch.device) -> np.ndarray:
    """Invert a positive definite matrix, given as its lower triangle, in place.

    Raises numpy's LinAlgError if the matrix is not positive definite in its precision.
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
    factor, failed_at = factorise(gram_CC.T, lower=0, overwrite_a=1, clean=0)
    _require_definite(failed_at)
    inverse, failed_at = invert(factor, lower=0, overwrite_c=1)
    _require_definite(failed_at)
    inverse_CC: np.ndarray = inverse.T
    mirror_in_place(inverse_CC)
    return inverse_CC


def mirror_in_place(matrix_CC: np.ndarray) -> None:
    """Copy the lower triangle to the other side of the diagonal."""
    for start in range(0, len(matrix_CC), MIRRORED_AT_ONCE):
        stop = min(start + MIRRORED_AT_ONCE, len(matrix_CC))
        square = matrix_CC[start:stop, start:stop]
        square[:] = np.tril(square) + np.tril(square, -1).T
        matrix_CC[start:stop, stop:] = matrix_CC[stop:, start:stop].T


def _require_definite(failed_at: int) -> None:
    if failed_at:
        raise np.linalg.LinAlgError(f"not positive definite: {failed_at}")
