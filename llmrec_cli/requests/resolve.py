"""Queries looked up in a model: its integers, known histories, texts and members added.

Shapes: Q queries, N items, H items of all given histories together.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.interactions import presence
from llmrec_cli.data.queries import UNTIMED, Membership, Queries, known_users
from llmrec_cli.requests.queries import RawQueries


class Entries(NamedTuple):
    """Interactions of queries, in order of time within a row: row, item and time int64, value float32 (num,)."""

    row: np.ndarray
    item: np.ndarray
    value: np.ndarray
    time: np.ndarray


class UnknownIds(NamedTuple):
    """Ids in queries that the model does not know: of items, and of members and groups; object arrays of str."""

    items: np.ndarray
    members: np.ndarray


def resolve(raw: RawQueries, users: Catalogue, items: Catalogue, history: sp.csr_array, seen: sp.csr_array,
            groups: KnownGroups | None = None, times: sp.csr_array | None = None, given_value: float = 1.0,
            num_known: int | None = None) -> tuple[Queries, UnknownIds]:
    """Return the queries with everything that the model knows of them, and the ids that it does not know.

    `history`, its `times` and `seen` are by the first of the `users`, of whom the first `num_known` (all with a
    history, where it is None) are those of the model; `groups` is what is known of groups; `users` and `items` may go
    on with ones that the model does not know. What a query says of a known user's or group's history is added to what
    is known, as the newest, with the value `given_value`; an item named twice counts where it was named last, with the
    largest of its values. Without any history a user's or group's own text stands in for a text. Members that are given
    have the place of those a group is known to have.
    """
    num_known, num_items = history.shape[0] if num_known is None else num_known, len(items)
    place_Q = users.find(raw.user_ids)
    user_Q = np.where(place_Q < num_known, place_Q, -1)
    row_Q = np.where(place_Q < history.shape[0], place_Q, -1)
    group_Q = np.full(len(raw), -1, np.int64) if groups is None else groups.entities.find(raw.group_ids)
    row_H = np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    item_H = items.find(raw.history)
    row, item = row_H[item_H >= 0], item_H[item_H >= 0]
    given = Entries(row, item, np.full(len(row), given_value, np.float32), np.full(len(row), UNTIMED))
    known, masked = _entries(history, row_Q, times), _entries(seen, row_Q)
    is_new = (user_Q < 0) & (np.bincount(known.row, minlength=len(raw)) > 0)
    if groups is not None:
        known = _both(known, _entries(groups.history, group_Q, groups.times))
        masked = _both(masked, _entries(groups.seen, group_Q))
    shape = (len(raw), num_items)
    histories, times_QN = _matrices(_both(known, given), shape)
    queries = Queries(raw.ids, raw.user_ids, user_Q, histories, presence(_matrices(_both(masked, given), shape)[0]),
                      raw.texts.copy(), None, attributes_of(users, place_Q), texts_of(users, place_Q),
                      None if times is None else times_QN)
    queries, strangers = with_members(queries, raw, group_Q, users, history, seen, groups, num_known, times)
    mute = (queries.texts == "") & ~queries.informed
    own = texts_of(users, place_Q)
    queries.texts[mute] = np.where(own == "", "" if groups is None else texts_of(groups.entities, group_Q), own)[mute]
    gave_history = (np.bincount(given[0], minlength=len(raw)) > 0) | is_new
    return replace(queries, gave_history=gave_history), UnknownIds(raw.history[item_H < 0], strangers)


def with_members(queries: Queries, raw: RawQueries, group_Q: np.ndarray, users: Catalogue, history: sp.csr_array,
                 seen: sp.csr_array, groups: KnownGroups | None, num_known: int,
                 times: sp.csr_array | None = None) -> tuple[Queries, np.ndarray]:
    """Return the queries with who asks together, and the ids of members and groups that the model does not know.

    A member named twice is one. Members that the model does not know and that have no history are left out.
    """
    num_given_Q = np.diff(raw.member_offsets)
    is_group = (raw.group_ids != "") | (num_given_Q > 0)
    if not is_group.any():
        return queries, np.zeros(0, object)
    row_P = np.repeat(np.arange(len(raw)), num_given_Q)
    user_P = users.find(raw.members)
    has_history_U = np.diff(history.indptr) > 0
    user_P = np.where(user_P < history.shape[0], user_P, -1)
    user_P = np.where((user_P < num_known) | has_history_U[user_P], user_P, -1)
    lost = is_group & (group_Q < 0) & (num_given_Q == 0)
    strangers = np.concatenate([raw.members[user_P < 0], raw.group_ids[lost]])
    row, member = row_P[user_P >= 0], user_P[user_P >= 0]
    if groups is not None:
        listed = _entries(groups.members, np.where(num_given_Q == 0, group_Q, -1))
        row, member = np.concatenate([row, listed.row]), np.concatenate([member, listed.item])
    keys = np.unique(row * max(1, len(users)) + member)
    row, member = keys // max(1, len(users)), keys % max(1, len(users))
    distinct, place = np.unique(member, return_inverse=True)
    rows = sp.csr_array((np.ones(len(row), np.float32), place.ravel(),
                         np.searchsorted(row, np.arange(len(raw) + 1))), shape=(len(raw), len(distinct)))
    alone = known_users(distinct, users.ids, history, seen, users, times)
    alone = replace(alone, user=np.where(distinct < num_known, distinct, -1))
    return replace(queries, groups=Membership(group_Q, alone, rows, is_group)), strangers


def attributes_of(entities: Catalogue, place: np.ndarray) -> sp.csr_array:
    """Return the attributes of some entities, CSR (num, num_attributes); none of those whose place is -1."""
    return presence(_matrices(_entries(entities.attributes, place), (len(place), entities.attributes.shape[1]))[0])


def texts_of(entities: Catalogue, place: np.ndarray) -> np.ndarray:
    """Return the texts of some entities, object (num,); "" for those whose place is -1."""
    found: np.ndarray = np.full(len(place), "", object)
    found[place >= 0] = entities.texts[place[place >= 0]]
    return found


def _both(one: Entries, other: Entries) -> Entries:
    return Entries(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _entries(matrix: sp.csr_array, row_Q: np.ndarray, times: sp.csr_array | None = None) -> Entries:
    """Return the entries of some rows of a matrix, one row per query, with their `times`; none where the row is -1."""
    known = np.flatnonzero(row_Q >= 0)
    chosen = matrix[row_Q[known]]
    time = np.full(chosen.nnz, UNTIMED) if times is None else times[row_Q[known]].data
    return Entries(np.repeat(known, np.diff(chosen.indptr)), chosen.indices.astype(np.int64),
                   chosen.data.astype(np.float32, copy=False), time)


def _matrices(entries: Entries, shape: tuple[int, int]) -> tuple[sp.csr_array, sp.csr_array]:
    """Return CSR of the values and of the times, each pair at its last place; built by hand to keep the order."""
    row, item, value, time = entries
    order = np.argsort(row, kind="stable")
    row, item, value, time = row[order], item[order], value[order], time[order]
    distinct, from_end, pair = np.unique((row * shape[1] + item)[::-1], return_index=True, return_inverse=True)
    largest = np.full(len(distinct), -np.inf, np.float32)
    np.maximum.at(largest, pair.ravel(), value[::-1])
    place = np.argsort(len(row) - 1 - from_end)
    kept = (len(row) - 1 - from_end)[place]
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row[kept], minlength=shape[0]), out=indptr[1:])
    return (sp.csr_array((largest[place], item[kept], indptr), shape=shape),
            sp.csr_array((time[kept], item[kept], indptr), shape=shape))
