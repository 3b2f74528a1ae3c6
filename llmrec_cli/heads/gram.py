"""Gram matrices of sparse data, and their inverses, in the memory of one of them.

Shapes: R rows, C columns, P popular columns.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import get_lapack_funcs

POPULAR_SHARE = 0.04
"""A column with an entry in at least this share of the rows goes through BLAS: a dense multiplication is about 25 times
as fast as one of a sparse row with a dense one."""

DENSE_CELLS = 2**24
"""Most cells of popular columns that are held densely at a time: 64 MB."""

PARTS = 4
"""Parts in which rare columns meet; each needs only itself and those before it."""

BLOCK_CELLS = 2**19
"""Most cells of a product before it is added to the Gram matrix: 2 MB, which stay in the cache."""

MIRRORED_AT_ONCE = 256
"""Rows that are copied at a time to the other side of the diagonal."""


def popular_first(count_C: np.ndarray, num_rows: int) -> tuple[np.ndarray, int]:
    """Return the columns by falling number of entries, and how many of them are popular."""
    order_C = np.argsort(-count_C, kind="stable")
    return order_C, int((count_C >= max(1, POPULAR_SHARE * num_rows)).sum())


def add_gram(gram_CC: np.ndarray, matrix_RC: sp.csr_array, num_popular: int) -> None:
    """Add the lower triangle of matrix.T @ matrix; what is above the diagonal is undefined afterwards.

    The first `num_popular` columns are multiplied densely, a block of rows at a time, the others sparsely.
    """
    num_rows, num_columns = matrix_RC.shape
    row = np.repeat(np.arange(num_rows, dtype=np.int32), np.diff(matrix_RC.indptr))
    column = matrix_RC.indices
    popular = column < num_popular
    few = ~popular
    rare = (matrix_RC.data[few], (row[few], column[few] - num_popular))
    rare_RC = sp.csr_array(rare, shape=(num_rows, num_columns - num_popular))
    if num_popular:
        size = max(1, DENSE_CELLS // num_popular)
        for start in range(0, num_rows, size):
            stop = min(start + size, num_rows)
            block = slice(matrix_RC.indptr[start], matrix_RC.indptr[stop])
            chosen = popular[block]
            popular_RP = np.zeros((stop - start, num_popular), gram_CC.dtype)
            popular_RP[row[block][chosen] - start, column[block][chosen]] = matrix_RC.data[block][chosen]
            gram_CC[:num_popular, :num_popular] += popular_RP.T @ popular_RP
            _add_mixed(gram_CC[num_popular:, :num_popular], sp.csr_array(rare_RC[start:stop].T), popular_RP)
    _add_rare(gram_CC[num_popular:, num_popular:], rare_RC)


def _add_mixed(out: np.ndarray, rare_CR: sp.csr_array, popular_RP: np.ndarray) -> None:
    size = max(1, BLOCK_CELLS // popular_RP.shape[1])
    for start in range(0, rare_CR.shape[0], size):
        out[start:start + size] += rare_CR[start:start + size] @ popular_RP


def _add_rare(out_CC: np.ndarray, rare_RC: sp.csr_array) -> None:
    columns_CR = sp.csr_array(rare_RC.T)
    num_columns = columns_CR.shape[0]
    part = max(1, -(-num_columns // PARTS))
    for first in range(0, num_columns, part):
        last = min(first + part, num_columns)
        before_RC, size = rare_RC[:, :last], max(1, BLOCK_CELLS // last)
        for start in range(first, last, size):
            stop = min(start + size, last)
            out_CC[start:stop, :last] += (columns_CR[start:stop] @ before_RC).toarray()


def gram_memory(count_C: np.ndarray, num_rows: int, num_popular: int) -> int:
    """Return the bytes of `add_gram` beside the Gram matrix, for columns by falling number of entries `count_C`."""
    num_entries, num_rare = int(count_C.sum()), int(count_C[num_popular:].sum())
    dense = min(num_rows * num_popular, max(DENSE_CELLS, num_popular))
    # Each entry with its columns in order (12 bytes), its row (4) and whether it is rare (2); the rare ones as entries,
    # by rows, by columns and up to a column (16 bytes each). Of popular ones the dense block and the product of all.
    return 18 * num_entries + 4 * 16 * num_rare + 4 * (dense + num_popular**2 + 2 * BLOCK_CELLS)


def inverse_in_place(gram_CC: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the inverse of a positive definite matrix of which the lower triangle is given; its memory is used."""
    if device.type != "cpu":
        factor = torch.linalg.cholesky(torch.from_numpy(gram_CC).to(device))
        gram_CC[:] = torch.cholesky_inverse(factor).cpu().numpy()
        return gram_CC
    # LAPACK stores by columns: our lower triangle is its upper one.
    functions: Any = get_lapack_funcs(("potrf", "potri"), dtype=gram_CC.dtype)
    factorise, invert = functions
    factored: Any = factorise(gram_CC.T, lower=0, overwrite_a=1, clean=0)
    inverted: Any = invert(factored[0], lower=0, overwrite_c=1)
    assert factored[1] == 0, f"not positive definite: {factored[1]}"
    assert inverted[1] == 0
    inverse_CC: np.ndarray = inverted[0].T
    for start in range(0, len(inverse_CC), MIRRORED_AT_ONCE):
        stop = min(start + MIRRORED_AT_ONCE, len(inverse_CC))
        square = inverse_CC[start:stop, start:stop]
        square[:] = np.tril(square) + np.tril(square, -1).T
        inverse_CC[start:stop, stop:] = inverse_CC[stop:, start:stop].T
    return inverse_CC
