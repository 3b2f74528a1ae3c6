"""Queries: whom we recommend to, as columns."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Queries:
    """Known users, new users with a history, new users with only a text: all of them rows of the same columns.

    Attributes
    ----------
    ids : object array (num_queries,) of str, unique
    user_ids : object array (num_queries,) of str, "" where the query names no user
    user : int64 (num_queries,), the user's integer in the model, -1 if the model does not know the user
    history : CSR (num_queries, num_items) of 1s, oldest first in each row: what scores are made from
    seen : CSR (num_queries, num_items) of 1s: what is left out of the list; includes `history`
    texts : object array (num_queries,) of str, "" where there is none
    """

    ids: np.ndarray
    user_ids: np.ndarray
    user: np.ndarray
    history: sp.csr_array
    seen: sp.csr_array
    texts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, which: slice | np.ndarray) -> "Queries":
        """Return the chosen queries."""
        return Queries(self.ids[which], self.user_ids[which], self.user[which], self.history[which],
                       self.seen[which], self.texts[which])


def known_users(user: np.ndarray, ids: np.ndarray, history: sp.csr_array, seen: sp.csr_array) -> Queries:
    """Return one query per known user.

    `user` (num_queries,) are integers into `ids` (num_users,) and the rows of `history` and `seen`
    (num_users, num_items).
    """
    names = ids[user]
    return Queries(names, names, user, history[user], seen[user], np.full(len(user), "", object))
