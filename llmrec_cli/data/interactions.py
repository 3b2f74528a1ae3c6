"""Interactions as columns, and the sparse matrices made of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Interactions:
    """One row per kept interaction, sorted by user, then time, then what put equal times in order.

    That is dataset.columns.order and a salted hash, never the item: nothing may sort rows of equal time again.

    Attributes
    ----------
    user, item : int64 (num_interactions,)
    value : float32 (num_interactions,), 1 where the data has none
    timestamp : int64 (num_interactions,), milliseconds since 1970 UTC, or a mere order
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
        """Return the interactions where `mask` (num_interactions,) holds."""
        return Interactions(self.user[mask], self.item[mask], self.value[mask], self.timestamp[mask],
                            self.num_users, self.num_items)

    @cached_property
    def matrix(self) -> sp.csr_array:
        """CSR (num_users, num_items) of 1s; a row's indices are in order of time, oldest first.

        Built by hand, since scipy's conversions sort the indices and lose the order.
        """
        indptr = np.zeros(self.num_users + 1, np.int64)
        np.cumsum(np.bincount(self.user, minlength=self.num_users), out=indptr[1:])
        ones = np.ones(len(self.item), np.float32)
        return sp.csr_array((ones, self.item, indptr), shape=(self.num_users, self.num_items))

    @cached_property
    def item_counts(self) -> np.ndarray:
        """Interactions of each item, int64 (num_items,)."""
        return np.bincount(self.item, minlength=self.num_items)
