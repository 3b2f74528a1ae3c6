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
    entries = sp.coo_array(matrix_RC)
    column = entries.coords[1]
    few = column >= num_popular
    rare_RC = sp.csr_array((entries.data[few], (entries.coords[0][few], column[few] - num_popular)),
                           shape=(matrix_RC.shape[0], matrix_RC.shape[1] - num_popular))
    if num_popular:
        size = max(1, DENSE_CELLS // num_popular)
        for start in range(0, matrix_RC.shape[0], size):
            block = slice(start, min(start + size, matrix_RC.shape[0]))
            popular_RP = np.ascontiguousarray(matrix_RC[block][:, :num_popular].toarray())
            gram_CC[:num_popular, :num_popular] += popular_RP.T @ popular_RP
            _add_mixed(gram_CC[num_popular:, :num_popular], sp.csr_array(rare_RC[block].T), popular_RP)
    _add_rare(gram_CC[num_popular:, num_popular:], rare_RC)


def _add_mixed(out: np.ndarray, rare_CR: sp.csr_array, popular_RP: np.ndarray) -> None:
    size = max(1, DENSE_CELLS // 4 // max(1, popular_RP.shape[1]))
    for start in range(0, rare_CR.shape[0], size):
        out[start:start + size] += rare_CR[start:start + size] @ popular_RP


def _add_rare(out_CC: np.ndarray, rare_RC: sp.csr_array) -> None:
    columns_CR = sp.csr_array(rare_RC.T)
    num_columns = columns_CR.shape[0]
    size = max(1, -(-num_columns // PARTS))
    for start in range(0, num_columns, size):
        stop = min(start + size, num_columns)
        met = sp.coo_array(columns_CR[start:stop] @ rare_RC[:, :stop])
        out_CC[met.coords[0] + start, met.coords[1]] += met.data


def gram_memory(count_C: np.ndarray, num_rows: int, num_popular: int) -> int:
    """Return the bytes of `add_gram` beside the Gram matrix, for columns by falling number of entries `count_C`."""
    num_columns, num_entries = len(count_C), int(count_C.sum())
    rare = int(count_C[num_popular:].sum())
    dense = min(num_rows * num_popular, max(DENSE_CELLS, num_popular))
    mixed = min((num_columns - num_popular) * num_popular, max(DENSE_CELLS // 4, num_popular))
    # The matrix by entries (8 + 8 + 4 + 1 bytes), its rare part and the transposed of that.
    return 21 * num_entries + 24 * rare + 4 * (dense + max(mixed, num_popular**2))


def inverse_in_place(gram_CC: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the inverse of a positive definite matrix of which the lower triangle is given; its memory is used."""
    if device.type != "cpu":
        factor = torch.linalg.cholesky(torch.from_numpy(gram_CC).to(device))
        gram_CC[:] = torch.cholesky_inverse(factor).cpu().numpy()
        return gram_CC
    # LAPACK stores by columns: our lower triangle is its upper one.
    factorise, invert = get_lapack_funcs(("potrf", "potri"), dtype=gram_CC.dtype)
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
