"""Histories as CSR matrices whose rows are in order of time, oldest first, and how they are put together.

By hand, since scipy's sums and conversions sort the indices and lose the order. Values stay with their entries.
"""

import numpy as np
import scipy.sparse as sp


def rows_of(matrix: sp.csr_array) -> np.ndarray:
    """Return the row of each entry, int64 (nnz,)."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def pair_keys(matrix: sp.csr_array) -> np.ndarray:
    """Return each entry as one number, row * columns + column, int64 (nnz,) in the order of the entries."""
    return rows_of(matrix) * matrix.shape[1] + matrix.indices


def widened(matrix: sp.csr_array, num_items: int) -> sp.csr_array:
    """Return the matrix with empty columns up to `num_items`, for items that were added."""
    return sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], num_items))


def lengthened(matrix: sp.csr_array, num_rows: int) -> sp.csr_array:
    """Return the matrix with empty rows up to `num_rows`, for users that were added."""
    more = np.full(num_rows - matrix.shape[0], matrix.indptr[-1], matrix.indptr.dtype)
    return sp.csr_array((matrix.data, matrix.indices, np.concatenate([matrix.indptr, more])),
                        shape=(num_rows, matrix.shape[1]))


def chosen_rows(matrix: sp.csr_array, row_Q: np.ndarray) -> sp.csr_array:
    """Return some rows, Q of them; an empty one where `row_Q` is -1."""
    return lengthened(matrix, matrix.shape[0] + 1)[np.where(row_Q < 0, matrix.shape[0], row_Q)]


def kept_entries(matrix: sp.csr_array, keep: np.ndarray) -> sp.csr_array:
    """Return the matrix with the entries where `keep`, bool (nnz,), holds."""
    if keep.all():
        return matrix
    ends = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], ends), shape=matrix.shape)


def without(matrix: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Return the entries of `matrix` that `other` does not have."""
    if not other.nnz:
        return matrix
    # Sorted and searched: np.isin takes many times as long for integers of this range.
    keys, known = pair_keys(matrix), np.sort(pair_keys(other))
    return kept_entries(matrix, known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] != keys)


def appended(older: sp.csr_array, newer: sp.csr_array) -> sp.csr_array:
    """Return each row of `older` followed by that of `newer`; an item that both have counts where it is the newest."""
    if not newer.nnz:
        return older
    older = without(older, newer)
    row = np.concatenate([rows_of(older), rows_of(newer)])
    order = np.argsort(row, kind="stable")
    return sp.csr_array((np.concatenate([older.data, newer.data])[order],
                         np.concatenate([older.indices, newer.indices])[order], older.indptr + newer.indptr),
                        shape=older.shape)


def history_matrix(row: np.ndarray, item: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """Return the histories of interactions in order of time (num,); an item that a row has again counts there."""
    order = np.argsort(row, kind="stable")
    row, item, value = row[order], item[order], value[order]
    _, from_end = np.unique((row * shape[1] + item)[::-1], return_index=True)
    kept = np.sort(len(row) - 1 - from_end)
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row[kept], minlength=shape[0]), out=indptr[1:])
    return sp.csr_array((value[kept], item[kept], indptr), shape=shape)


def merged_rows(key: np.ndarray, value: np.ndarray, policy: str) -> tuple[np.ndarray, np.ndarray]:
    """Merge rows of equal `key`, int64 (num,) in order of time, as dataset.duplicates says.

    Return the places, in order, of the rows that stand for each key, and their values: the last by time (keep_last, and
    error), the first (keep_first), the first of the strongest (max), or the last with the sum of all (sum).
    """
    distinct, code = np.unique(key, return_inverse=True)
    place = np.arange(len(key))
    if policy == "max":
        order = np.lexsort((place, -value, code))
    else:
        order = np.lexsort((place if policy == "keep_first" else -place, code))
    first = np.searchsorted(code[order], np.arange(len(distinct)))
    chosen = np.sort(order[first])
    if policy != "sum":
        return chosen, value[chosen]
    total = np.bincount(code, value, minlength=len(distinct))
    return chosen, total[code[chosen]].astype(value.dtype)


def values_in(matrix: sp.csr_array, other: sp.csr_array) -> np.ndarray:
    """Return the value in `other` of each entry of `matrix`, float64 (nnz,); NaN where it has none."""
    found = np.full(matrix.nnz, np.nan)
    if not matrix.nnz:
        return found
    # `matrix` is the smaller one as a rule: what a day brought.
    order = np.argsort(pair_keys(matrix), kind="stable")
    keys, others = pair_keys(matrix)[order], pair_keys(other)
    place = np.minimum(np.searchsorted(keys, others), len(keys) - 1)
    hit = keys[place] == others
    found[order[place[hit]]] = other.data[hit]
    return found
