"""Resolving queries of groups in a model."""

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import KnownGroups, without_texts
from llmrec_cli.requests.queries import raw_queries
from llmrec_cli.requests.resolve import resolve

USERS, ITEMS = without_texts(["u", "v", "w"]), without_texts(["a", "b", "c"])


def csr(rows, size):
    indices = np.array([n for row in rows for n in row], np.int64)
    return sp.csr_array((np.ones(len(indices), np.float32), indices, np.cumsum([0, *map(len, rows)])),
                        shape=(len(rows), size))


HISTORY = csr([[0], [1, 2], []], 3)
PLAIN = without_texts(["g", "h"])
GROUPS = KnownGroups(Catalogue(PLAIN.ids, PLAIN.titles, np.array(["", "friends"], object), PLAIN.attributes, []),
                     csr([[0, 1], [2]], 3), csr([[2], []], 3), csr([[2, 0], []], 3))


def resolved(groups=GROUPS, **query):
    names = {"user_ids": [""], "group_ids": [query.get("group_id", "")], "members": [query.get("members", [])],
             "histories": [query.get("history", [])]}
    return resolve(raw_queries(**names, ids=["q"]), USERS, ITEMS, HISTORY, HISTORY, groups)


def who(queries):
    rows = queries.groups.rows
    return queries.groups.members.ids[rows.indices].tolist()


def test_a_known_group_has_its_members_history_and_seen_items():
    queries, _unknown = resolved(group_id="g")
    assert who(queries) == ["u", "v"]
    assert queries.groups.group.tolist() == [0]
    assert queries.history.indices.tolist() == [2]
    assert sorted(queries.seen.indices.tolist()) == [0, 2]
    assert queries.informed.tolist() == [True]


def test_a_given_history_of_a_group_is_appended_as_the_newest():
    assert resolved(group_id="g", history=["b"])[0].history.indices.tolist() == [2, 1]


def test_a_list_of_members_needs_no_group():
    queries, _unknown = resolved(members=["v", "u"])
    assert who(queries) == ["u", "v"]
    assert queries.groups.group.tolist() == [-1]
    assert queries.history.nnz == 0


def test_members_that_are_given_take_the_place_of_those_a_group_has():
    queries, _unknown = resolved(group_id="g", members=["v", "w"])
    assert who(queries) == ["v", "w"]
    assert queries.groups.group.tolist() == [0]


def test_members_named_twice_are_one_and_unknown_ones_are_counted():
    queries, unknown = resolved(members=["u", "nobody", "u"])
    assert who(queries) == ["u"]
    assert unknown.members.tolist() == ["nobody"]


@pytest.mark.parametrize("query", [{"members": ["nobody", "no one"]}, {"group_id": "unheard of"}])
def test_a_group_of_unknown_members_is_an_empty_query(query):
    queries, unknown = resolved(**query)
    assert who(queries) == []
    assert queries.groups.is_group.tolist() == [True]
    assert queries.informed.tolist() == [False]
    assert unknown.members.tolist() == query.get("members", ["unheard of"])


def test_a_group_without_history_is_queried_by_its_text():
    queries, _unknown = resolved(group_id="h")
    assert queries.informed.tolist() == [False]
    assert queries.texts.tolist() == ["friends"]


def test_a_model_without_groups_accepts_member_lists():
    queries, _unknown = resolved(groups=None, members=["u"])
    assert who(queries) == ["u"]
    assert resolved(groups=None, group_id="g")[1].members.tolist() == ["g"]


def test_users_and_groups_are_asked_for_side_by_side():
    result, _ = resolve(raw_queries(["u", ""], group_ids=["", "g"]), USERS, ITEMS, HISTORY, HISTORY, GROUPS)
    assert result.ids.tolist() == ["u", "g"]
    assert result.user.tolist() == [0, -1]
    assert result.groups.is_group.tolist() == [False, True]
    assert np.diff(result.groups.rows.indptr).tolist() == [0, 2]
