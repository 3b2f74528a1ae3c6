"""Resolve queries in a model: look up ids and add known histories, texts and members.

Shapes: Q queries, N items, H items of all histories in the queries.
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
    """Unknown ids in queries: of items, and of members and groups; object arrays of str."""

    items: np.ndarray
    members: np.ndarray


def resolve(raw: RawQueries, users: Catalogue, items: Catalogue, history: sp.csr_array, seen: sp.csr_array,
            groups: KnownGroups | None = None, times: sp.csr_array | None = None, given_value: float = 1.0,
            num_known: int | None = None, replaces_history: bool = False) -> tuple[Queries, UnknownIds]:
    """Return the queries with known histories, texts and members, and the unknown ids.

    `history`, its `times` and `seen` have a row for the first of the `users`; the first `num_known` of these (None: all
    with a row) are the model's. `users` and `items` may continue with added ones that the model does not know. The
    history in a query is appended to the known history of its user or group, with the value `given_value`; a repeated
    item counts at its last position, with its largest value. With `replaces_history` it is the whole history of the
    query, also if it is empty; members keep theirs. Without any history, the text of the user or group is used as the
    query's text. Members in a query replace the known members of its group.
    """
    num_known, num_items = history.shape[0] if num_known is None else num_known, len(items)
    place_Q = users.find(raw.user_ids)
    user_Q = np.where(place_Q < num_known, place_Q, -1)
    row_Q = np.where(place_Q < history.shape[0], place_Q, -1)
    group_Q = np.full(len(raw), -1, np.int64) if groups is None else groups.entities.find(raw.group_ids)
    row_H = np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    item_H = items.find(raw.history)
    row, item = row_H[item_H >= 0], item_H[item_H >= 0]
    query_entries = Entries(row, item, np.full(len(row), given_value, np.float32), np.full(len(row), UNTIMED))
    own_Q = np.full(len(raw), -1, np.int64) if replaces_history else row_Q
    history_entries, seen_entries = _entries(history, own_Q, times), _entries(seen, own_Q)
    is_new = (user_Q < 0) & (np.bincount(history_entries.row, minlength=len(raw)) > 0)
    if groups is not None and not replaces_history:
        history_entries = _both(history_entries, _entries(groups.history, group_Q, groups.times))
        seen_entries = _both(seen_entries, _entries(groups.seen, group_Q))
    shape = (len(raw), num_items)
    histories, times_QN = _matrices(_both(history_entries, query_entries), shape)
    queries = Queries(raw.ids, raw.user_ids, user_Q, histories, presence(_matrices(_both(seen_entries, query_entries),
                                                                                   shape)[0]),
                      raw.texts.copy(), None, attributes_of(users, place_Q), texts_of(users, place_Q),
                      None if times is None else times_QN)
    queries, unknown_ids = with_members(queries, raw, group_Q, users, history, seen, groups, num_known, times)
    needs_text = (queries.texts == "") & ~queries.informed
    own = texts_of(users, place_Q)
    queries.texts[needs_text] = np.where(own == "", "" if groups is None else texts_of(groups.entities, group_Q),
                                         own)[needs_text]
    gave_history = (np.bincount(query_entries[0], minlength=len(raw)) > 0) | is_new
    return replace(queries, gave_history=gave_history), UnknownIds(raw.history[item_H < 0], unknown_ids)


def with_members(queries: Queries, raw: RawQueries, group_Q: np.ndarray, users: Catalogue, history: sp.csr_array,
                 seen: sp.csr_array, groups: KnownGroups | None, num_known: int,
                 times: sp.csr_array | None = None) -> tuple[Queries, np.ndarray]:
    """Return the queries with their members, and the unknown ids of members and groups.

    A repeated member counts once. Unknown members without a history are left out.
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
    is_unknown = is_group & (group_Q < 0) & (num_given_Q == 0)
    unknown_ids = np.concatenate([raw.members[user_P < 0], raw.group_ids[is_unknown]])
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
    return replace(queries, groups=Membership(group_Q, alone, rows, is_group)), unknown_ids


def attributes_of(entities: Catalogue, place: np.ndarray) -> sp.csr_array:
    """Return the attributes of some rows of a catalogue, CSR (num, num_attributes); empty where the place is -1."""
    return presence(_matrices(_entries(entities.attributes, place), (len(place), entities.attributes.shape[1]))[0])


def texts_of(entities: Catalogue, place: np.ndarray) -> np.ndarray:
    """Return the texts of some rows of a catalogue, object (num,); "" where the place is -1."""
    texts: np.ndarray = np.full(len(place), "", object)
    texts[place >= 0] = entities.texts[place[place >= 0]]
    return texts


def _both(one: Entries, other: Entries) -> Entries:
    return Entries(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _entries(matrix: sp.csr_array, row_Q: np.ndarray, times: sp.csr_array | None = None) -> Entries:
    """Return the entries of some rows of a matrix, one row per query, with their `times`; none where the row is -1."""
    rows = np.flatnonzero(row_Q >= 0)
    entries = matrix[row_Q[rows]]
    time = np.full(entries.nnz, UNTIMED) if times is None else times[row_Q[rows]].data
    return Entries(np.repeat(rows, np.diff(entries.indptr)), entries.indices.astype(np.int64),
                   entries.data.astype(np.float32, copy=False), time)


def _matrices(entries: Entries, shape: tuple[int, int]) -> tuple[sp.csr_array, sp.csr_array]:
    """Return CSR of the values and of the times, each pair at its last position; built by hand to keep the order."""
    row, item, value, time = entries
    order = np.argsort(row, kind="stable")
    row, item, value, time = row[order], item[order], value[order], time[order]
    distinct, from_end, pair = np.unique((row * shape[1] + item)[::-1], return_index=True, return_inverse=True)
    largest = np.full(len(distinct), -np.inf, np.float32)
    np.maximum.at(largest, pair.ravel(), value[::-1])
    place = np.argsort(len(row) - 1 - from_end)
    last_places = (len(row) - 1 - from_end)[place]
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(row[last_places], minlength=shape[0]), out=indptr[1:])
    return (sp.csr_array((largest[place], item[last_places], indptr), shape=shape),
            sp.csr_array((time[last_places], item[last_places], indptr), shape=shape))
