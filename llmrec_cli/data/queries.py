"""Queries and their candidates as columns: users, groups or histories to recommend for."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue


@dataclass(frozen=True)
class Candidates:
    """The lists of candidates in a file.

    Attributes
    ----------
    column : user_id, group_id or query_id; "" for one list for all queries
    ids : object array (num_lists,) of str, the user, group or query of each list, "" for all
    targets : object array (num_lists,) of str, the held-out item that a list is about, "" where the file names none
    items : object array of item ids, as the file has them, one list's after the other's
    offsets : int64 (num_lists + 1,), where each list begins and ends in `items`
    """

    column: str
    ids: np.ndarray
    targets: np.ndarray
    items: np.ndarray
    offsets: np.ndarray

    @property
    def by_row(self) -> bool:
        """True if the file names the held-out item of each list; a user may then have several lists."""
        return bool((self.targets != "").any())


UNTIMED = np.iinfo(np.int64).max
"""Time of an interaction that comes with the query: as new as any."""


def untimed(history: sp.csr_array) -> sp.csr_array:
    """Return the times of the entries of histories, CSR int64, where none is known."""
    return sp.csr_array((np.full(history.nnz, UNTIMED), history.indices, history.indptr), shape=history.shape)


@dataclass(frozen=True)
class Membership:
    """Who asks together.

    Attributes
    ----------
    group : int64 (num_queries,), the group's integer in the model, -1 for a list of members that has no group, and for
        a user's query
    members : the num_members distinct members of all the queries, each as the query that the user alone would be
    rows : CSR (num_queries, num_members) of 1s; an empty row for a user's query
    is_group : bool (num_queries,), whether a query is a group's
    """

    group: np.ndarray
    members: "Queries"
    rows: sp.csr_array
    is_group: np.ndarray

    def chosen(self, which: slice | np.ndarray) -> "Membership":
        """Return the chosen queries, with their members alone."""
        rows = self.rows[which]
        used, place = np.unique(rows.indices, return_inverse=True)
        rows = sp.csr_array((rows.data, place.astype(np.int64), rows.indptr), shape=(rows.shape[0], len(used)))
        return Membership(self.group[which], self.members.rows(used), rows, self.is_group[which])


@dataclass(frozen=True)
class Queries:
    """Users and groups, known and new, with a history or with only a text: all of them rows of the same columns.

    Attributes
    ----------
    ids : object array (num_queries,) of str, unique
    user_ids : object array (num_queries,) of str, "" where the query names no user
    user : int64 (num_queries,), the user's integer in the model, -1 if the model does not know the user
    history : CSR (num_queries, num_items), oldest first in each row: what scores are made from. Its data are the values
        of the interactions, 1 where none is known; heads read them through `data.weights`
    seen : CSR (num_queries, num_items) of 1s: what is left out of the list; includes `history`
    texts : object array (num_queries,) of str, "" where there is none
    groups : who asks together, where a query is a group's; `history` is then what the group did together
    attributes : CSR (num_queries, num_attributes) of 0/1, those of the users; None where nobody's are known
    profiles : object array (num_queries,) of str, the users' own texts, whatever the query says; None likewise
    times : CSR int64 with the entries of `history`: milliseconds since 1970 UTC, `UNTIMED` where unknown; None where
        nothing has a time
    gave_history : bool (num_queries,), whether the query itself names an item in the catalogue, or is of a user whom
        the model does not know but who has a history; None for queries of known users and groups
    """

    ids: np.ndarray
    user_ids: np.ndarray
    user: np.ndarray
    history: sp.csr_array
    seen: sp.csr_array
    texts: np.ndarray
    groups: Membership | None = None
    attributes: sp.csr_array | None = None
    profiles: np.ndarray | None = None
    times: sp.csr_array | None = None
    gave_history: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def informed(self) -> np.ndarray:
        """True for queries with interactions, their own or a member's, bool (num_queries,)."""
        own: np.ndarray = np.diff(self.history.indptr) > 0
        if self.groups is None:
            return own
        theirs = (np.diff(self.groups.members.history.indptr) > 0).astype(np.float32)
        return own | (self.groups.rows @ theirs > 0)

    @property
    def described(self) -> np.ndarray:
        """True for queries whose user has attributes or a text of their own, bool (num_queries,)."""
        found = np.zeros(len(self), bool)
        if self.attributes is not None:
            found |= np.diff(self.attributes.indptr) > 0
        return found if self.profiles is None else found | (self.profiles != "")

    def rows(self, which: slice | np.ndarray) -> "Queries":
        """Return the chosen queries."""
        return Queries(self.ids[which], self.user_ids[which], self.user[which], self.history[which],
                       self.seen[which], self.texts[which],
                       None if self.groups is None else self.groups.chosen(which),
                       None if self.attributes is None else self.attributes[which],
                       None if self.profiles is None else self.profiles[which],
                       None if self.times is None else self.times[which],
                       None if self.gave_history is None else self.gave_history[which])


def known_users(user: np.ndarray, ids: np.ndarray, history: sp.csr_array, seen: sp.csr_array,
                users: Catalogue | None = None, times: sp.csr_array | None = None) -> Queries:
    """Return one query per known user.

    `user` (num_queries,) are integers into `ids` (num_users,) and the rows of `history`, `times` and `seen`
    (num_users, num_items), and into `users`, whose attributes and texts heads may look at.
    """
    names = ids[user]
    return Queries(names, names, user, history[user], seen[user], np.full(len(user), "", object),
                   attributes=None if users is None else users.attributes[user],
                   profiles=None if users is None else users.texts[user], times=None if times is None else times[user])


def known_groups(group: np.ndarray, entities: Catalogue, members: sp.csr_array, together: sp.csr_array,
                 seen: sp.csr_array, users: Queries, times: sp.csr_array | None = None) -> Queries:
    """Return one query per known group.

    `group` (num_queries,) are integers into `entities` and the rows of `members` (num_groups, num_users), `together`,
    its `times` and `seen` (num_groups, num_items). `users` are the queries of all users, in the order of the columns of
    `members`.
    """
    ids = entities.ids[group]
    nobody, size = np.full(len(group), -1, np.int64), len(group)
    asked = Membership(group, users, members[group], np.ones(size, bool)).chosen(slice(None))
    return Queries(ids, np.full(size, "", object), nobody, together[group], seen[group], entities.texts[group], asked,
                   times=None if times is None else times[group])
