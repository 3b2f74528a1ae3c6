"""Held-out queries of users, and their relevant items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import SPLITS, PreparedData
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.errors import DataError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.scoring.heldout import held_out, newer_histories

ITEMS = ["a", "b", "c", "d", "e"]


def entities(ids):
    names = np.array(ids, object)
    return Catalogue(names, names, names, sp.csr_array((len(ids), 0), dtype=np.float32), [])


def prepared(rows, users=("u", "v", "w"), items=ITEMS):
    """Prepared data of rows (user, item, split) in order of time."""
    rows = sorted(enumerate(rows), key=lambda row: (users.index(row[1][0]), row[0]))
    user = np.array([users.index(row[0]) for _, row in rows], np.int64)
    item = np.array([items.index(row[1]) for _, row in rows], np.int64)
    interactions = Interactions(user, item, np.ones(len(rows), np.float32), np.arange(len(rows)), len(users),
                                len(items))
    return PreparedData(Path("data"), {}, entities(users), entities(items), interactions,
                        np.array([SPLITS.index(row[2]) for _, row in rows], np.int8), PinnedFolder(Path(), "again"))


def task(data, split="test", fitted_on=("train",), exclude_seen=True, users=None, items=None, history=None,
         latest=True):
    history = data.part(*fitted_on).matrix if history is None else history
    return held_out(data, split, users or data.users, items or data.items, history, exclude_seen, latest=latest)


def rows_of(matrix):
    return [matrix.indices[matrix.indptr[n]:matrix.indptr[n + 1]].tolist() for n in range(matrix.shape[0])]


DATA = [("u", "b", "train"), ("u", "a", "train"), ("u", "c", "valid"), ("u", "d", "test"),
        ("v", "a", "train"), ("v", "e", "valid"), ("w", "c", "train")]


def test_only_users_with_held_out_interactions_are_asked_for():
    result = task(prepared(DATA))
    assert result.queries.ids.tolist() == ["u"]
    assert rows_of(result.relevant_QN) == [[3]]
    assert result.num_skipped == 0


@pytest.mark.parametrize("fitted_on", [("train",), ("train", "valid")])
def test_the_latest_history_is_everything_before_the_split_oldest_first_whatever_was_fitted_on(fitted_on):
    assert rows_of(task(prepared(DATA), fitted_on=fitted_on).queries.history) == [[1, 0, 2]]
    assert rows_of(task(prepared(DATA), "valid", fitted_on=("train",)).queries.history) == [[1, 0], [0]]


def test_the_history_of_the_fit_is_the_fitted_interactions_oldest_first():
    assert rows_of(task(prepared(DATA), latest=False).queries.history) == [[1, 0]]
    assert rows_of(task(prepared(DATA), fitted_on=("train", "valid"), latest=False).queries.history) == [[1, 0, 2]]


@pytest.mark.parametrize("latest", [True, False])
def test_relevant_and_excluded_items_are_the_same_with_either_history(latest):
    result = task(prepared(DATA), latest=latest)
    assert rows_of(result.relevant_QN) == [[3]]
    assert rows_of(result.queries.seen) == [[0, 1, 2]]


def test_items_returned_before_the_split_are_excluded_and_those_returned_later_are_not(monkeypatch):
    def returned(data, *splits):
        pairs = [("u", "e", "valid"), ("w", "a", "train")]
        return prepared([pair for pair in pairs if pair[2] in splits]).interactions

    monkeypatch.setattr(PreparedData, "returned", returned)
    assert rows_of(task(prepared(DATA)).queries.seen) == [[0, 1, 2, 4]]
    assert rows_of(task(prepared(DATA), "valid").queries.seen) == [[0, 1], [0]]


def test_a_user_who_has_only_validation_interactions_before_the_test_is_asked_for_with_them():
    data = prepared([("u", "b", "train"), ("v", "a", "valid"), ("v", "d", "test")])
    assert rows_of(task(data).queries.history) == [[0]]
    with pytest.raises(DataError, match="none of the 1 users"):
        task(data, latest=False)


def test_nothing_held_out_is_in_a_latest_history_even_where_the_model_was_fitted_on_it():
    data = prepared([*DATA, ("u", "e", "test")])
    everything = data.part("train", "valid", "test").matrix
    assert rows_of(task(data, history=everything, exclude_seen=False).queries.history) == [[1, 0, 2]]
    # The test split comes after validation, so it is in no history of a validation query.
    assert rows_of(task(data, "valid", history=everything, exclude_seen=False).queries.history) == [[1, 0], [0]]


def test_older_history_of_the_model_comes_before_that_of_the_data():
    """The model was fitted on e, b of u; the data begins later, with b again as its first interaction."""
    data = prepared([("u", "b", "train"), ("u", "a", "train"), ("u", "d", "test")])
    known = sp.csr_array((np.ones(2, np.float32), [4, 1], [0, 2, 2, 2]), shape=(3, 5))
    assert rows_of(task(data, history=known).queries.history) == [[4, 1, 0]]


def test_queries_with_interactions_newer_than_the_fit_are_counted():
    data = prepared([*DATA, ("v", "b", "test"), ("w", "d", "test")])
    train = data.part("train").matrix
    result = task(data)
    assert result.queries.ids.tolist() == ["u", "v", "w"]
    assert newer_histories(result.queries, train).tolist() == [True, True, False]
    assert not newer_histories(task(data, latest=False).queries, train).any()
    assert not newer_histories(result.queries, data.part("train", "valid").matrix).any()


def test_values_stay_with_their_interactions_in_a_latest_history():
    data = prepared([("u", "b", "train"), ("u", "a", "valid"), ("u", "d", "test")])
    known = sp.csr_array((np.float32([7, 8]), [4, 1], [0, 2, 2, 2]), shape=(3, 5))
    history = task(data, history=known).queries.history
    assert (history.indices.tolist(), history.data.tolist()) == ([4, 1, 0], [7, 1, 1])


def test_validation_interactions_are_left_out_of_lists_for_the_test_also_when_not_fitted_on():
    assert rows_of(task(prepared(DATA)).queries.seen) == [[0, 1, 2]]


def test_nothing_of_the_test_is_seen_when_validation_is_measured():
    result = task(prepared(DATA), split="valid")
    assert result.queries.ids.tolist() == ["u", "v"]
    assert rows_of(result.relevant_QN) == [[2], [4]]
    assert [sorted(row) for row in rows_of(result.queries.seen)] == [[0, 1], [0]]


def test_a_user_who_has_seen_all_there_is_to_find_is_skipped_and_counted():
    data = prepared([*DATA, ("v", "a", "test")])
    assert task(data).queries.ids.tolist() == ["u"]
    assert task(data).num_skipped == 1
    assert task(data, exclude_seen=False).queries.ids.tolist() == ["u", "v"]


def test_a_relevant_item_counts_once_however_often_it_was_interacted_with():
    assert rows_of(task(prepared([*DATA, ("u", "d", "test")])).relevant_QN) == [[3]]


def test_a_user_without_history_is_skipped_and_counted_as_cold():
    result = task(prepared([row for row in DATA if row[0] != "w"] + [("w", "a", "test")]))
    assert (result.queries.ids.tolist(), result.num_skipped, result.num_cold) == (["u"], 1, 1)


def test_no_warm_user_to_evaluate_is_a_data_error_and_never_a_metric_of_zero():
    with pytest.raises(DataError, match="none of the 1 users with test interactions") as error:
        task(prepared([("u", "a", "train"), ("v", "b", "test")]))
    assert error.value.exit_code == 3


def test_a_split_without_interactions_is_a_data_error():
    with pytest.raises(DataError, match="no test interactions"):
        task(prepared([("u", "a", "train")]))


def test_popularity_and_history_lengths_come_from_the_training_split():
    result = task(prepared(DATA), fitted_on=("train", "valid"))
    assert result.counts_N.tolist() == [2, 1, 1, 0, 0]
    assert result.lengths_Q.tolist() == [2]


def test_newer_data_is_matched_by_id_and_known_users_keep_the_models_history():
    """The model knows users (v, u) and items (e, d, old, a); the data has a new user, new items, and another order."""
    data = prepared([*DATA, ("w", "e", "test")])
    known = sp.csr_array(np.array([[0, 0, 1, 0], [1, 0, 0, 1]], np.float32))
    items = entities(["e", "d", "old", "a", "b", "c"])
    result = task(data, users=entities(["v", "u"]), items=items, history=known, latest=False)
    assert result.queries.ids.tolist() == ["u", "w"]
    assert result.queries.user.tolist() == [1, -1]
    assert rows_of(result.queries.history) == [[0, 3], [5]]
    # u interacted with e before the data begins, then with b, a and c.
    latest = task(data, users=entities(["v", "u"]), items=items, history=known)
    assert rows_of(latest.queries.history) == [[0, 4, 3, 5], [5]]
    assert rows_of(result.queries.seen) == [[0, 3, 4, 5], [5]]
    assert rows_of(result.relevant_QN) == [[1], [0]]
    assert result.candidates_N.tolist() == [True, True, False, True, True, True]


def test_items_an_older_model_was_fitted_on_are_not_relevant_in_newer_data():
    data = prepared(DATA)
    known = data.part("train", "valid", "test").matrix
    with pytest.raises(DataError, match="the others have seen all their held-out items"):
        task(data, history=known)


def test_histories_have_interaction_values_and_other_matrices_ones():
    data = prepared([*DATA, ("x", "b", "train"), ("x", "a", "test")], users=("u", "v", "w", "x"))
    interactions = data.interactions
    interactions.value[:] = np.arange(len(interactions)) + 2
    known = entities(["u", "v", "w"])
    result = held_out(data, "test", known, data.items, data.part("train").values[:3], exclude_seen=True,
                      times=data.part("train").times[:3], latest=False)
    assert rows_of(result.queries.history) == [[1, 0], [1]]
    assert result.queries.history.data.tolist() == [2, 3, 9]
    # A user unknown to the model has the times of the data, which has none.
    assert result.queries.times.data.tolist() == [0, 1, UNTIMED]
    assert (result.queries.seen.data == 1).all()
    assert (result.relevant_QN.data == 1).all()


def test_a_latest_history_has_the_values_and_times_of_the_data():
    data = replace(prepared(DATA), manifest={"timestamp_unit": "s"})
    interactions = data.interactions
    interactions.value[:] = np.arange(len(interactions)) + 2
    train = data.part("train")
    result = held_out(data, "test", data.users, data.items, train.values, exclude_seen=True, times=train.times)
    assert rows_of(result.queries.history) == [[1, 0, 2]]
    assert result.queries.history.data.tolist() == [2, 3, 4]
    assert result.queries.times.data.tolist() == [0, 1, 2]
    assert result.queries.times.indices.tolist() == [1, 0, 2]


OVERLAPPING = [("u", "b", "train"), ("u", "a", "train"), ("u", "b", "valid"), ("u", "c", "valid"), ("u", "d", "test")]


@pytest.mark.parametrize("latest", [True, False])
def test_a_pair_that_several_given_splits_have_is_once_in_a_history_where_it_is_the_newest(latest):
    data = prepared(OVERLAPPING)
    values = np.array([1, 2, 3, 4, 5], np.float32)
    data = replace(data, interactions=replace(data.interactions, value=values), manifest={"timestamp_unit": "s"})
    both = data.part("train", "valid")
    result = held_out(data, "test", data.users, data.items, both.values, True, both.times, latest).queries
    assert rows_of(result.history) == [[0, 1, 2]]
    assert result.history.data.tolist() == [2, 3, 4]
    assert result.times.indices.tolist() == [0, 1, 2]
    assert result.times.data.tolist() == [1, 2, 3]


def test_a_new_user_whose_given_splits_overlap_has_each_item_once():
    data = prepared(OVERLAPPING)
    history = sp.csr_array((1, len(ITEMS)), dtype=np.float32)
    result = task(data, latest=False, users=entities(["somebody else"]), history=history)
    assert rows_of(result.queries.history) == [[0, 1, 2]]


def test_a_refit_on_given_splits_that_overlap_learns_from_each_pair_once():
    assert rows_of(prepared(OVERLAPPING).training("train", "valid").interactions.matrix)[0] == [0, 1, 2]
