"""First interactions of users, and held-out cold-start users."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.heldout import held_out_cold, served
from llmrec_cli.scoring.heldout import ordered_matrix, split_rows
from llmrec_cli.settings.evaluation import ColdUsersSettings
from tests.scoring.test_heldout import prepared, rows_of

ROWS = [("u", "a", "train"), ("u", "b", "train"), ("v", "c", "test"), ("v", "a", "test"), ("v", "e", "test"),
        ("v", "b", "test"), ("w", "d", "test")]


def interactions(user, item, timestamp):
    return Interactions(np.array(user), np.array(item), np.ones(len(user), np.float32), np.array(timestamp),
                        max(user) + 1, max(item) + 1)


def test_rows_are_ordered_by_time_and_keep_all_interactions():
    matrix = ordered_matrix(interactions([0, 0, 0, 1], [2, 0, 1, 2], [30, 10, 20, 5]))
    assert rows_of(matrix) == [[0, 1, 2], [2]]


def test_equal_times_keep_the_order_of_the_data():
    same = interactions([0, 0, 0, 1, 1], [2, 0, 1, 1, 0], [7, 7, 7, 7, 7])
    assert rows_of(ordered_matrix(same)) == [[2, 0, 1], [1, 0]]


def test_first_and_later_entries_share_a_row_between_them():
    matrix = sp.csr_array((np.ones(5, np.float32), np.array([3, 0, 2, 1, 1]), np.array([0, 4, 4, 5])), shape=(3, 4))
    first, rest = split_rows(matrix, 2)
    assert rows_of(first) == [[3, 0], [], [1]]
    assert rows_of(rest) == [[2, 1], [], []]
    assert rows_of(split_rows(matrix, 0)[1]) == [[3, 0, 2, 1], [], [1]]


@pytest.mark.parametrize(("told", "history"), [(0, []), (1, [2]), (2, [2, 0])])
def test_any_number_of_given_interactions_has_the_same_relevant_and_excluded_items(told, history):
    data = prepared(ROWS)
    task = held_out_cold(data, "test", data.users, data.items, told, after=2)
    assert list(task.queries.ids) == ["v"]  # u has a history, w has nothing after the first two.
    assert rows_of(task.queries.history) == [history]
    assert sorted(task.queries.seen.indices) == [0, 2]
    assert rows_of(task.relevant_QN) == [[1, 4]]
    assert task.queries.user.tolist() == [-1]
    assert task.num_skipped == 1
    assert task.counts_N.tolist() == [1, 1, 0, 0, 0]


def test_a_users_text_is_used_without_given_interactions_and_attributes_always():
    data = prepared(ROWS)
    about = sp.csr_array(np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    data = replace(data, users=replace(data.users, texts=np.array(["old", "young", "?"], object), attributes=about,
                                       attribute_names=["a=1", "b=1"]))
    for told, text in ((0, "young"), (1, "")):
        queries = held_out_cold(data, "test", data.users, data.items, told, after=2).queries
        assert list(queries.texts) == [text]
        assert list(queries.profiles) == ["young"]
        assert queries.attributes.toarray().tolist() == [[0, 1]]


def test_users_with_a_validation_history_are_not_cold_on_test():
    data = prepared([*ROWS, ("v", "d", "valid")])
    with pytest.raises(DataError, match="of 2 users with test interactions, 1 have earlier inter"):
        held_out_cold(data, "test", data.users, data.items, 0, after=2)


def test_a_head_that_cannot_score_cold_users_falls_back_to_popularity():
    class Deaf:
        supports_text_queries = uses_user_profiles = False

        def score(self, queries):
            return torch.arange(5.0).expand(len(queries), -1)

    data = prepared(ROWS)
    counts = np.array([3, 9, 1, 0, 2], np.float32)
    nothing, one = (held_out_cold(data, "test", data.users, data.items, told, after=2).queries for told in (0, 1))
    scored_by = Counter()
    score = served(Deaf(), counts, scored_by)
    assert score(nothing).tolist() == [counts.tolist()]
    assert score(one).tolist() == [[0, 1, 2, 3, 4]]
    assert scored_by == {"popularity": 1, "model": 1}


@pytest.mark.parametrize(("settings", "message"), [
    (ColdUsersSettings(first=[1]), "no effect"), (ColdUsersSettings(after=7), "no effect"),
    (ColdUsersSettings(on=True, first=[]), "at least"),
    (ColdUsersSettings(on=True, first=[1, 1]), "different"), (ColdUsersSettings(on=True, first=[-1]), "at least 0"),
    (ColdUsersSettings(on=True, after=4), "at least 5")])
def test_settings_without_effect_or_sense_are_refused(settings, message):
    assert any(message in problem for problem in settings.problems())


def test_the_largest_given_number_is_excluded_by_default():
    assert ColdUsersSettings(on=True, first=[0, 3]).num_excluded == 3
    assert ColdUsersSettings(on=True, first=[0], after=5).num_excluded == 5
    assert not list(ColdUsersSettings(on=True, first=[0], after=5).problems())


@pytest.mark.parametrize("unit", ["s", "order", ""])
def test_without_timestamps_a_new_users_history_counts_as_newest(unit):
    data = replace(prepared(ROWS), manifest={"timestamp_unit": unit})
    queries = held_out_cold(data, "test", data.users, data.items, 2, after=2).queries
    assert queries.times.indices.tolist() == queries.history.indices.tolist()
    assert InteractionWeights(decay=7.0, newest=10).history(queries).data == pytest.approx([1, 1])
    assert unit == "s" or queries.times.data.tolist() == [UNTIMED, UNTIMED]
