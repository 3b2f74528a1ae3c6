"""Operations on histories: CSR matrices whose row entries are in order of time, oldest first.

They do not use scipy's sums and conversions, which sort the indices and lose the order.
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
    """Return the matrix with empty columns added up to `num_items`, for new items."""
    return sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], num_items))


def lengthened(matrix: sp.csr_array, num_rows: int) -> sp.csr_array:
    """Return the matrix with empty rows added up to `num_rows`, for new users."""
    more = np.full(num_rows - matrix.shape[0], matrix.indptr[-1], matrix.indptr.dtype)
    return sp.csr_array((matrix.data, matrix.indices, np.concatenate([matrix.indptr, more])),
                        shape=(num_rows, matrix.shape[1]))


def select_rows(matrix: sp.csr_array, row_Q: np.ndarray) -> sp.csr_array:
    """Return the rows `row_Q` of the matrix; a row number of -1 gives an empty row."""
    return lengthened(matrix, matrix.shape[0] + 1)[np.where(row_Q < 0, matrix.shape[0], row_Q)]


def filter_entries(matrix: sp.csr_array, keep: np.ndarray) -> sp.csr_array:
    """Return the matrix with the entries of the mask `keep`, bool (nnz,)."""
    if keep.all():
        return matrix
    ends = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], ends), shape=matrix.shape)


def without(matrix: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Return the entries of `matrix` that are not in `other`."""
    if not other.nnz:
        return matrix
    # Sorting and searching: np.isin is many times slower for integers of this range.
    keys, others = pair_keys(matrix), np.sort(pair_keys(other))
    return filter_entries(matrix, others[np.minimum(np.searchsorted(others, keys), len(others) - 1)] != keys)


def appended(older: sp.csr_array, newer: sp.csr_array) -> sp.csr_array:
    """Append each row of `newer` to that of `older`; items in both keep only the entry of `newer`."""
    if not newer.nnz:
        return older
    older = without(older, newer)
    row = np.concatenate([rows_of(older), rows_of(newer)])
    order = np.argsort(row, kind="stable")
    return sp.csr_array((np.concatenate([older.data, newer.data])[order],
                         np.concatenate([older.indices, newer.indices])[order], older.indptr + newer.indptr),
                        shape=older.shape)


def history_matrix(row: np.ndarray, item: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """Return the histories of interactions in order of time (num,); of repeated items only the last entry counts."""
    order = np.argsort(row, kind="stable")
    row, item, value = row[order], item[order], value[order]
    _, from_end = np.unique((row * shape[1] + item)[::-1], return_index=True)
    last = np.sort(len(row) - 1 - from_end)
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row[last], minlength=shape[0]), out=indptr[1:])
    return sp.csr_array((value[last], item[last], indptr), shape=shape)


def merged_rows(key: np.ndarray, value: np.ndarray, policy: str) -> tuple[np.ndarray, np.ndarray]:
    """Merge rows of equal `key`, int64 (num,) in order of time, as dataset.duplicates says.

    Return the places, in order, of the row kept for each key, and their values: the last by time (keep_last, error),
    the first (keep_first), the first of the largest values (max), or the last with the sum of all values (sum).
    """
    distinct, code = np.unique(key, return_inverse=True)
    place = np.arange(len(key))
    if policy == "max":
        order = np.lexsort((place, -value, code))
    else:
        order = np.lexsort((place if policy == "keep_first" else -place, code))
    first = np.searchsorted(code[order], np.arange(len(distinct)))
    places = np.sort(order[first])
    if policy != "sum":
        return places, value[places]
    total = np.bincount(code, value, minlength=len(distinct))
    return places, total[code[places]].astype(value.dtype)


def values_in(matrix: sp.csr_array, other: sp.csr_array) -> np.ndarray:
    """Return the value in `other` of each entry of `matrix`, float64 (nnz,); NaN for entries not in `other`."""
    values = np.full(matrix.nnz, np.nan)
    if not matrix.nnz:
        return values
    # `matrix` is usually the smaller one, such as the interactions of a day.
    order = np.argsort(pair_keys(matrix), kind="stable")
    keys, others = pair_keys(matrix)[order], pair_keys(other)
    place = np.minimum(np.searchsorted(keys, others), len(keys) - 1)
    hit = keys[place] == others
    values[order[place[hit]]] = other.data[hit]
    return values
