"""Matching queries of groups with what a model knows."""

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Entities
from llmrec_cli.data.groups import KnownGroups, without_texts
from llmrec_cli.requests.asked import asked, match

USERS, ITEMS = without_texts(["u", "v", "w"]), without_texts(["a", "b", "c"])


def csr(rows, size):
    indices = np.array([n for row in rows for n in row], np.int64)
    return sp.csr_array((np.ones(len(indices), np.float32), indices, np.cumsum([0, *map(len, rows)])),
                        shape=(len(rows), size))


HISTORY = csr([[0], [1, 2], []], 3)
PLAIN = without_texts(["g", "h"])
GROUPS = KnownGroups(Entities(PLAIN.ids, PLAIN.titles, np.array(["", "friends"], object), PLAIN.attributes, []),
                     csr([[0, 1], [2]], 3), csr([[2], []], 3), csr([[2, 0], []], 3))


def matched(groups=GROUPS, **query):
    names = {"user_ids": [""], "group_ids": [query.get("group_id", "")], "members": [query.get("members", [])],
             "histories": [query.get("history", [])]}
    return match(asked(**names, ids=["q"]), USERS, ITEMS, HISTORY, HISTORY, groups)


def who(found):
    rows = found.queries.groups.rows
    return found.queries.groups.members.ids[rows.indices].tolist()


def test_a_known_group_comes_with_its_members_its_history_and_what_it_has_seen():
    found = matched(group_id="g")
    assert who(found) == ["u", "v"]
    assert found.queries.groups.group.tolist() == [0]
    assert found.queries.history.indices.tolist() == [2]
    assert sorted(found.queries.seen.indices.tolist()) == [0, 2]
    assert found.queries.informed.tolist() == [True]


def test_what_a_query_says_a_group_did_is_added_as_the_newest():
    assert matched(group_id="g", history=["b"]).queries.history.indices.tolist() == [2, 1]


def test_a_list_of_members_needs_no_group():
    found = matched(members=["v", "u"])
    assert who(found) == ["u", "v"]
    assert found.queries.groups.group.tolist() == [-1]
    assert found.queries.history.nnz == 0


def test_members_that_are_given_take_the_place_of_those_a_group_has():
    found = matched(group_id="g", members=["v", "w"])
    assert who(found) == ["v", "w"]
    assert found.queries.groups.group.tolist() == [0]


def test_members_named_twice_are_one_and_unknown_ones_are_counted():
    found = matched(members=["u", "nobody", "u"])
    assert who(found) == ["u"]
    assert found.strangers.tolist() == ["nobody"]


@pytest.mark.parametrize("query", [{"members": ["nobody", "no one"]}, {"group_id": "unheard of"}])
def test_a_group_of_whom_nobody_is_known_is_asked_for_as_one_of_whom_nothing_is_known(query):
    found = matched(**query)
    assert who(found) == []
    assert found.queries.groups.is_group.tolist() == [True]
    assert found.queries.informed.tolist() == [False]
    assert found.strangers.tolist() == query.get("members", ["unheard of"])


def test_a_group_without_any_history_is_asked_for_by_its_own_text():
    found = matched(group_id="h")
    assert found.queries.informed.tolist() == [False]
    assert found.queries.texts.tolist() == ["friends"]


def test_a_model_that_knows_no_groups_takes_lists_of_members_all_the_same():
    found = matched(groups=None, members=["u"])
    assert who(found) == ["u"]
    assert matched(groups=None, group_id="g").strangers.tolist() == ["g"]


def test_users_and_groups_are_asked_for_side_by_side():
    found = match(asked(["u", ""], group_ids=["", "g"]), USERS, ITEMS, HISTORY, HISTORY, GROUPS).queries
    assert found.ids.tolist() == ["u", "g"]
    assert found.user.tolist() == [0, -1]
    assert found.groups.is_group.tolist() == [False, True]
    assert np.diff(found.groups.rows.indptr).tolist() == [0, 2]
