"""Interactions as columns, and the sparse matrices made of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Interactions:
    """One row per interaction, sorted by user, then time, then dataset.columns.order, then a salted hash.

    The item never breaks ties, so rows of equal time must not be sorted again.

    Attributes
    ----------
    user, item : int64 (num_interactions,)
    value : float32 (num_interactions,), 1 if the data has no values
    timestamp : int64 (num_interactions,), milliseconds since 1970 UTC, or an order
    num_users, num_items : sizes of the catalogue
    """

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    timestamp: np.ndarray
    num_users: int
    num_items: int

    def __len__(self) -> int:
        return len(self.user)

    def rows(self, mask: np.ndarray) -> "Interactions":
        """Return the interactions of `mask` (num_interactions,)."""
        return Interactions(self.user[mask], self.item[mask], self.value[mask], self.timestamp[mask],
                            self.num_users, self.num_items)

    def without_repeats(self) -> "Interactions":
        """Return only the newest interaction of each user and item."""
        last = last_of_each(self.user * self.num_items + self.item)
        return self if last is None else self.rows(last)

    @cached_property
    def matrix(self) -> sp.csr_array:
        """CSR (num_users, num_items) of 1s; row entries are in order of time, oldest first."""
        return self.with_data(np.ones(len(self.item), np.float32))

    @cached_property
    def values(self) -> sp.csr_array:
        """CSR like `matrix` with the value of each interaction, float32."""
        return self.with_data(self.value)

    @cached_property
    def times(self) -> sp.csr_array:
        """CSR like `matrix` with the timestamp of each interaction, int64."""
        return self.with_data(self.timestamp)

    def with_data(self, data: np.ndarray) -> sp.csr_array:
        """Return a CSR like `matrix` with `data` (num_interactions,) instead of 1s.

        Does not use scipy's conversions, which sort the indices and lose the order.
        """
        return sp.csr_array((data, self.item, self._indptr), shape=(self.num_users, self.num_items))

    @cached_property
    def _indptr(self) -> np.ndarray:
        indptr = np.zeros(self.num_users + 1, np.int64)
        np.cumsum(np.bincount(self.user, minlength=self.num_users), out=indptr[1:])
        return indptr

    @cached_property
    def item_counts(self) -> np.ndarray:
        """Number of interactions of each item, int64 (num_items,)."""
        return np.bincount(self.item, minlength=self.num_items)


def presence(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with 1 for each entry; rows keep the order of their entries."""
    return sp.csr_array((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def last_of_each(keys: np.ndarray) -> np.ndarray | None:
    """Return the mask of the last occurrence of each key, bool (num_keys,); None if all keys are distinct."""
    # Most data has no repeats; sorting alone is several times faster than sorting with places.
    ordered = np.sort(keys)
    if (ordered[1:] != ordered[:-1]).all():
        return None
    last = np.zeros(len(keys), bool)
    last[len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]] = True
    return last
