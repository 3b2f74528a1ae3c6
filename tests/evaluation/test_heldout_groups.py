"""Held-out groups, their slices, and metrics of the members."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec_cli.data.groups import Groups, KnownGroups, without_texts
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import SPLITS, PreparedData
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.heldout import held_out_groups, newer_groups
from llmrec_cli.evaluation.metric_results import member_satisfaction
from llmrec_cli.evaluation.slices import cohesion, group_masks
from llmrec_cli.heads.base import build
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import ItemKnnSettings, ModelConfig
from tests.scoring.test_group_scores import csr

USERS, ITEMS, GROUPS = ["u", "v", "w", "x"], ["a", "b", "c", "d", "e"], ["g", "h", "k"]
MEMBERS = [[0, 1], [2], [3]]
"""w and x have no history, so h has only its joint interactions, and k has nothing."""


def rows(result, who):
    """Interactions and splits of rows (who, item, split)."""
    result = sorted(result, key=lambda row: who.index(row[0]))
    columns = [np.array([names.index(row[n]) for row in result], np.int64) for n, names in ((0, who), (1, ITEMS))]
    interactions = Interactions(*columns, np.ones(len(result), np.float32), np.arange(len(result)), len(who),
                                len(ITEMS))
    return interactions, np.array([SPLITS.index(row[2]) for row in result], np.int8)


class Prepared(PreparedData):
    """Prepared data whose groups need no files."""

    told: Groups

    @property
    def _groups(self):
        return self.told


def prepared(together, more=()):
    users = rows([("u", "a", "train"), ("v", "b", "train"), ("v", "c", "train"), *more, ("u", "d", "test"),
                  ("x", "a", "test"), ("v", "e", "test")], USERS)
    data = Prepared(Path("data"), {}, without_texts(USERS), without_texts(ITEMS), *users,
                    PinnedFolder(Path(), "again"))
    object.__setattr__(data, "told", Groups(without_texts(GROUPS), csr(MEMBERS, len(USERS)), *rows(together, GROUPS)))
    return data


TOGETHER = [("g", "a", "train"), ("g", "b", "valid"), ("g", "d", "test"), ("h", "c", "train"), ("h", "e", "test"),
            ("k", "b", "test")]


def task(data, split="test", known=None, exclude_seen=True, latest=True, history=None):
    history = data.part("train").matrix if history is None else history
    return held_out_groups(data, split, data.users, data.items, history, known, exclude_seen, latest=latest)


def lists(matrix):
    return [matrix.indices[matrix.indptr[n]:matrix.indptr[n + 1]].tolist() for n in range(matrix.shape[0])]


def test_groups_with_a_history_are_queried_and_the_others_counted():
    result = task(prepared(TOGETHER))
    assert result.queries.ids.tolist() == ["g", "h"]
    assert lists(result.relevant_QN) == [[3], [4]]
    assert (result.num_skipped, result.num_cold) == (1, 1)


def test_a_group_query_has_its_own_history_and_its_members_histories():
    result = task(prepared(TOGETHER))
    assert lists(result.queries.history) == [[0, 1], [2]]
    together = result.queries.groups
    assert together.members.ids.tolist() == ["u", "v", "w"]
    assert lists(together.members.history) == [[0], [1, 2], []]
    assert lists(together.rows) == [[0, 1], [2]]
    assert together.group.tolist() == [-1, -1]


def test_the_latest_history_of_a_group_is_everything_before_the_split_and_nothing_held_out():
    """The recommender was fitted on h's test interaction with e; g interacted with b after the fit."""
    data = prepared(TOGETHER)
    known = KnownGroups(without_texts(["h", "g"]), csr([[2], [0]], 4), csr([[4], [0]]), csr([[4], [0]]))
    result = task(data, known=known, exclude_seen=False)
    assert lists(result.queries.history) == [[0, 1], [2]]
    assert newer_groups(result.queries, data.part("train").matrix, known).tolist() == [True, True]


def test_members_of_a_group_query_have_their_latest_histories():
    data = prepared(TOGETHER, [("v", "a", "valid")])
    train = data.part("train").matrix
    for latest, history in ((True, [[0], [1, 2, 0], []]), (False, [[0], [1, 2], []])):
        result = task(data, latest=latest)
        assert lists(result.queries.groups.members.history) == history
        # g interacted with b in validation, but the recommender knows no groups, so all interactions of g are new to
        # it.
        assert newer_groups(result.queries, train, None).tolist() == [latest, False]


def test_a_known_group_can_be_queried_with_its_history_of_the_fit():
    data = prepared(TOGETHER)
    known = KnownGroups(without_texts(["h", "g"]), csr([[2], [0]], 4), csr([[4], [0]]), csr([[4], [0]]))
    result = task(data, known=known, exclude_seen=False, latest=False)
    assert result.queries.groups.group.tolist() == [1, 0]
    assert lists(result.queries.history) == [[0], [4]]
    # Members are those in the data.
    assert lists(result.queries.groups.rows) == [[0, 1], [2]]


def test_validation_measures_the_groups_later_interactions():
    result = validation_of(prepared(TOGETHER), "ndcg@2", "groups")
    assert result.queries.ids.tolist() == ["g"]
    assert lists(result.relevant) == [[1]]
    assert lists(result.queries.history) == [[0]]
    assert validation_of(prepared([row for row in TOGETHER if row[2] != "valid"]), "ndcg@2", "groups") is None


def test_data_without_held_out_group_interactions_is_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"groups have no test interactions .* dataset.group_test"):
        task(prepared([("g", "a", "train")]))
    with pytest.raises(DataError, match=r"of 1 groups .* 1 have no earlier interactions"):
        task(prepared([("k", "a", "test")]))


def test_cohesion_is_the_mean_cosine_of_two_members_who_have_a_history():
    histories = csr([[0, 1], [1, 2], [3], []])
    result = cohesion(csr([[0, 1], [0, 1, 2], [2], [2, 3]], 4), histories)
    np.testing.assert_allclose(result, [1 / 2, 1 / 6, np.nan, np.nan])


def test_groups_are_sliced_by_known_members_and_by_their_own_history():
    data = prepared(TOGETHER)
    lengths = np.diff(data.groups("train").interactions.matrix.indptr)
    masks = group_masks(data, np.array([0, 1, 2]), lengths)
    assert masks["group:members=all known"].tolist() == [True, False, False]
    assert masks["group:members=none known"].tolist() == [False, True, True]
    assert masks["group:standing"].tolist() == [True, True, False]
    assert masks["group:occasional"].tolist() == masks["group:cold"].tolist() == [False, False, True]
    assert masks["group:size=1"].tolist() == [False, True, True]
    assert masks["group:size=2"].tolist() == [True, False, False]


def test_members_are_satisfied_by_their_own_items_on_the_groups_list():
    # Held-out items of the first group's members: d, none, b; the list has d first and b second.
    result = member_satisfaction(np.array([[3, 1], [0, 1]]), csr([[0, 1, 2], [1]], 3), csr([[3], [], [1]]), [1, 2])
    second = 1 / np.log2(3)
    np.testing.assert_allclose(result["member_ndcg@2"], [(1 + second) / 2, np.nan])
    np.testing.assert_allclose(result["least_member_ndcg@2"], [second, np.nan])
    np.testing.assert_allclose(result["member_spread@2"], [1 - second, np.nan])
    np.testing.assert_allclose(result["member_ndcg@1"], [1 / 2, np.nan])


def test_a_pair_in_several_given_splits_is_once_in_a_group_or_member_history():
    result = task(prepared([*TOGETHER, ("g", "a", "valid")], more=[("u", "a", "valid")]))
    g, u = result.queries.ids.tolist().index("g"), result.queries.groups.members.ids.tolist().index("u")
    assert sorted(lists(result.queries.history)[g]) == [0, 1]
    assert lists(result.queries.groups.members.history)[u] == [0]


@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("knows_groups", [True, False])
@pytest.mark.parametrize("latest", [True, False])
def test_a_model_that_uses_times_gets_those_of_unknown_groups_too(moments, knows_groups,
                                                                                          latest):
    data = replace(prepared(TOGETHER), manifest={"timestamp_unit": "s" if moments else "order"})
    object.__setattr__(data, "told", prepared(TOGETHER).told)
    train = data.part("train")
    together = data.groups("train").interactions
    known = KnownGroups(without_texts(GROUPS), csr(MEMBERS, len(USERS)), together.values, together.matrix) \
        if knows_groups else None
    result = held_out_groups(data, "test", data.users, data.items, train.values, known, True, train.times,
                             latest).queries
    assert result.times.indices.tolist() == result.history.indices.tolist()
    expected = together.times.data if moments and latest and not knows_groups else None
    if expected is not None:
        assert set(expected) <= set(result.times.data)
    if not moments and not knows_groups:
        assert set(result.times.data) == {UNTIMED}
    head = build(ModelConfig(head=ItemKnnSettings(decay=7.0)))
    head.interaction_weights = InteractionWeights(decay=7.0, newest=10)
    assert (head.history(result).data > 0).all()
