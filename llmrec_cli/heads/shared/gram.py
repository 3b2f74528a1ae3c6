"""Gram matrices of sparse data, and their inverses, in the memory of one of them.

Shapes: R rows, C columns, W columns of a block.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import get_lapack_funcs

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
    """Return the inverse of a positive definite matrix of which the lower triangle is given; its memory is used.

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
