"""Queries and their candidates as columns. A query is a user, a group or a history to recommend for."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue


@dataclass(frozen=True)
class Candidates:
    """Candidate lists from a file.

    Attributes
    ----------
    column : user_id, group_id or query_id; "" for a single list for all queries
    ids : object array (num_lists,) of str, the user, group or query of each list, "" for all
    targets : object array (num_lists,) of str, the held-out item of each list, "" if the file has none
    items : object array of item ids, as in the file, list after list
    offsets : int64 (num_lists + 1,), start and end of each list in `items`
    """

    column: str
    ids: np.ndarray
    targets: np.ndarray
    items: np.ndarray
    offsets: np.ndarray

    @property
    def by_row(self) -> bool:
        """True if the file gives the held-out item of each list; a user may then have several lists."""
        return bool((self.targets != "").any())


UNTIMED = np.iinfo(np.int64).max
"""Time of an interaction given by the query, which counts as newest."""


def untimed(history: sp.csr_array) -> sp.csr_array:
    """Return unknown times, `UNTIMED`, for the entries of histories, CSR int64."""
    return sp.csr_array((np.full(history.nnz, UNTIMED), history.indices, history.indptr), shape=history.shape)


@dataclass(frozen=True)
class Membership:
    """Groups and members of queries.

    Attributes
    ----------
    group : int64 (num_queries,), the group's integer id in the model, -1 for ad-hoc groups and for queries of users
    members : queries of the num_members distinct members, each as a single user
    rows : CSR (num_queries, num_members) of 1s; an empty row for a query of a user
    is_group : bool (num_queries,), True for queries of groups
    """

    group: np.ndarray
    members: "Queries"
    rows: sp.csr_array
    is_group: np.ndarray

    def select(self, which: slice | np.ndarray) -> "Membership":
        """Return the rows of some queries, with only their members."""
        rows = self.rows[which]
        used, place = np.unique(rows.indices, return_inverse=True)
        rows = sp.csr_array((rows.data, place.astype(np.int64), rows.indptr), shape=(rows.shape[0], len(used)))
        return Membership(self.group[which], self.members.rows(used), rows, self.is_group[which])


@dataclass(frozen=True)
class Queries:
    """Queries as columns: known and new users and groups, with a history or only a text.

    Attributes
    ----------
    ids : object array (num_queries,) of str, unique
    user_ids : object array (num_queries,) of str, "" for queries without a user
    user : int64 (num_queries,), the user's integer id in the model, -1 for unknown users
    history : CSR (num_queries, num_items), the interactions to score from, oldest first in each row. Its data are the
        values of the interactions, 1 if unknown; heads read them through `data.weights`
    seen : CSR (num_queries, num_items) of 1s, the items to exclude from the list; includes `history`
    texts : object array (num_queries,) of str, "" for none
    groups : members of the groups, if there are queries of groups; `history` then has interactions of the group
    attributes : CSR (num_queries, num_attributes) of 0/1, attributes of the users; None if unknown for all
    profiles : object array (num_queries,) of str, texts of the users from the data; None if unknown for all
    times : CSR int64 with the entries of `history`: milliseconds since 1970 UTC, `UNTIMED` if unknown; None without
        times
    gave_history : bool (num_queries,), True if the query itself has a known item, or is of an unknown user with a
        history; None for queries of known users and groups
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
        """Mask of queries with interactions of their own or of a member, bool (num_queries,)."""
        own: np.ndarray = np.diff(self.history.indptr) > 0
        if self.groups is None:
            return own
        theirs = (np.diff(self.groups.members.history.indptr) > 0).astype(np.float32)
        return own | (self.groups.rows @ theirs > 0)

    @property
    def num_untimed(self) -> int:
        """Number of interactions in the histories without a time; 0 if none is known to have one."""
        return 0 if self.times is None else int((self.times.data == UNTIMED).sum())

    @property
    def described(self) -> np.ndarray:
        """Mask of queries whose user has attributes or a text, bool (num_queries,)."""
        has_any = np.zeros(len(self), bool)
        if self.attributes is not None:
            has_any |= np.diff(self.attributes.indptr) > 0
        return has_any if self.profiles is None else has_any | (self.profiles != "")

    def rows(self, which: slice | np.ndarray) -> "Queries":
        """Return some of the queries."""
        return Queries(self.ids[which], self.user_ids[which], self.user[which], self.history[which],
                       self.seen[which], self.texts[which],
                       None if self.groups is None else self.groups.select(which),
                       None if self.attributes is None else self.attributes[which],
                       None if self.profiles is None else self.profiles[which],
                       None if self.times is None else self.times[which],
                       None if self.gave_history is None else self.gave_history[which])


def known_users(user: np.ndarray, ids: np.ndarray, history: sp.csr_array, seen: sp.csr_array,
                users: Catalogue | None = None, times: sp.csr_array | None = None) -> Queries:
    """Return one query per known user.

    `user` (num_queries,) are integer ids: positions in `ids` (num_users,) and in the catalogue `users`, whose
    attributes and texts heads may use, and rows of `history`, `times` and `seen` (num_users, num_items).
    """
    names = ids[user]
    return Queries(names, names, user, history[user], seen[user], np.full(len(user), "", object),
                   attributes=None if users is None else users.attributes[user],
                   profiles=None if users is None else users.texts[user], times=None if times is None else times[user])


def known_groups(group: np.ndarray, entities: Catalogue, members: sp.csr_array, together: sp.csr_array,
                 seen: sp.csr_array, users: Queries, times: sp.csr_array | None = None) -> Queries:
    """Return one query per known group.

    `group` (num_queries,) are integer ids for `entities` and the rows of `members` (num_groups, num_users), of
    `together`, the histories of groups, and its `times`, and of `seen` (num_groups, num_items). `users` are the queries
    of all users, in the order of the columns of `members`.
    """
    ids = entities.ids[group]
    nobody, size = np.full(len(group), -1, np.int64), len(group)
    rows = Membership(group, users, members[group], np.ones(size, bool)).select(slice(None))
    return Queries(ids, np.full(size, "", object), nobody, together[group], seen[group], entities.texts[group], rows,
                   times=None if times is None else times[group])
