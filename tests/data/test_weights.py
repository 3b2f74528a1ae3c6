"""Interaction weights: hand-worked values, and the properties that all heads rely on."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import Groups
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import UNTIMED, known_users
from llmrec_cli.data.recency import DAY
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights, unused_values
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import build
from llmrec_cli.settings.head import EaseSettings, FusionSettings, ItemKnnSettings, ModelConfig, PopularitySettings
from llmrec_cli.settings.heads.groups import GroupAttentionSettings


def training(values, days=None, **facts) -> TrainingData:
    """Return data of one user with one interaction per value."""
    size = len(values)
    names = np.array([f"i{n}" for n in range(size)], object)
    blank = np.full(size, "", object)
    nothing = sp.csr_array((size, 0), dtype=np.float32)
    items = Catalogue(names, names, blank, nothing, [])
    users = Catalogue(names[:1], names[:1], blank[:1], nothing[:1], [])
    time = np.arange(size) if days is None else np.array(days) * DAY
    interactions = Interactions(np.zeros(size, np.int64), np.arange(size), np.array(values, np.float32), time, 1, size)
    usual = {"has_moments": days is not None, "value_kind": "event_weight"}
    return TrainingData(users, items, interactions, **(usual | facts))


def weights(data: TrainingData, **settings) -> list[float]:
    return fit_weights(data, EaseSettings(**settings)).of(data.interactions).tolist()


def test_a_value_weighs_in_proportion_and_the_average_interaction_weighs_one():
    assert weights(training([1, 1, 4])) == [0.5, 0.5, 2]


def test_log_counts_in_units_of_the_median():
    # epsilon = 2: log 2, log 2 and log 4 = 2 log 2; their mean is 4/3 log 2.
    assert weights(training([2, 2, 6]), weight="log") == pytest.approx([0.75, 0.75, 1.5])


def test_an_interaction_a_half_life_older_than_the_newest_weighs_half_of_it():
    assert weights(training([1, 1, 1], days=[0, 10, 20]), decay=10.0) == pytest.approx([3 / 7, 6 / 7, 12 / 7])


def test_value_and_age_are_multiplied():
    # 8 / 2 and 2: their mean is 3.
    assert weights(training([8, 2], days=[0, 5]), decay=5.0) == pytest.approx([4 / 3, 2 / 3])


@pytest.mark.parametrize("weight", ["value", "log", "none", None])
@pytest.mark.parametrize("value", [1, 5, 0.1])
def test_equal_values_weigh_exactly_one_and_leave_nothing_to_save(weight, value):
    data = training([value] * 7)
    result = fit_weights(data, EaseSettings(weight=weight))
    assert result.is_uniform
    assert result.state() == {}
    assert result.matrix(data.interactions) is data.interactions.matrix


@pytest.mark.parametrize("weight", ["value", "log"])
def test_values_in_other_units_give_the_same_weights(weight):
    values = [1, 3, 100, 7]
    assert weights(training(values), weight=weight) == weights(training([v * 1024 for v in values]), weight=weight)


def test_history_weights_equal_those_of_the_fit_and_query_items_count_as_newest():
    data = training([3, 1, 1], days=[0, 1, 2])
    result = fit_weights(data, EaseSettings(decay=1.0))
    expected_ = data.interactions
    queries = known_users(np.array([0]), data.users.ids, expected_.values, expected_.matrix, times=expected_.times)
    np.testing.assert_array_equal(result.history(queries).data, result.of(expected_))
    now = replace(queries, times=expected_.with_data(np.full(3, UNTIMED)))
    later = replace(queries, times=expected_.with_data(np.full(3, 9 * DAY)))
    np.testing.assert_array_equal(result.history(now).data, result.history(later).data)
    assert result.history(now).data[0] == 4 * result.history(queries).data[0]


def test_saved_weights_are_read_back_the_same():
    data = training([3, 1, 8], days=[0, 1, 2])
    for settings in (EaseSettings(weight="log", decay=3.0), EaseSettings(weight="value"),
                     EaseSettings(weight="none", decay=0.5)):
        result = fit_weights(data, settings)
        assert InteractionWeights.read(TensorReader(result.state())) == result


def test_by_default_weights_of_events_count_as_they_are_and_other_strengths_by_their_logarithm():
    assert weights(training([1, 1, 4])) == weights(training([1, 1, 4]), weight="value")
    assert weights(training([1, 1, 4], value_kind="strength")) == weights(training([1, 1, 4]), weight="log")


def test_ratings_above_a_threshold_weigh_the_same_by_default():
    data = training([4, 5, 5], value_kind="rating")
    assert weights(data) == [1, 1, 1]
    assert weights(data, weight="value") == pytest.approx([6 / 7, 7.5 / 7, 7.5 / 7])


@pytest.mark.parametrize(("data", "settings", "says"), [
    (training([1, 100]), PopularitySettings(weight="none"),
     "(1 to 100) are not used as weights: head.weight=none"),
    (training([4, 5], value_kind="rating"), ItemKnnSettings(), "head.weight=value weights by them"),
    (training([-2, 5]), ItemKnnSettings(), "1 of them are 0 or below"),
    (training([1, 2], value_kind=""), ItemKnnSettings(), "their kind is unknown in this data"),
    (training([1, 100]), ItemKnnSettings(), None), (training([3, 3]), ItemKnnSettings(weight="none"), None),
    (training([1, 100]), FusionSettings(members={"a": ModelConfig(head=ItemKnnSettings())}), None)])
def test_unused_interaction_values_are_reported_with_the_reason(data, settings, says):
    result = unused_values(data, settings)
    assert (result is None) if says is None else says in result


@pytest.mark.parametrize("head", [PopularitySettings(), GroupAttentionSettings()])
def test_values_of_groups_that_differ_and_are_not_used_are_named_by_the_heads_that_weigh_groups(head):
    """Users' values are all 1, groups' are ratings of 4 and 5."""
    both, alone = training([4, 5], value_kind="rating"), training([1, 1], value_kind="rating")
    groups = Groups(both.users, sp.csr_array(np.ones((1, 1), np.float32)), both.interactions,
                    np.zeros(2, np.int8))
    data = replace(alone, groups=groups)
    (result,) = build(ModelConfig(head=head)).unused_values(data)
    assert f"head={head.kind}: the values of groups' interactions (4 to 5) are not used as weights" in result
    assert build(ModelConfig(head=head)).unused_values(alone) == []
    assert build(ModelConfig(head=ItemKnnSettings())).unused_values(data) == []


def test_values_of_zero_and_below_are_refused_as_weights():
    with pytest.raises(DataError, match=r"head.weight=log: 2 of 3 training .* \(-1 the lowest\).*dataset.min_value"):
        fit_weights(training([-1, 0, 3]), EaseSettings(weight="log"))


def test_decay_without_times_is_refused():
    with pytest.raises(DataError, match=r"head.decay=30: .*no times.*dataset.timestamp_unit"):
        fit_weights(training([1, 2]), EaseSettings(decay=30.0))


def test_a_fusion_refuses_interaction_weights_of_its_own():
    result = list(FusionSettings(members={"a": ModelConfig(head=ItemKnnSettings())}, weight="log").problems())
    assert result == ["weight=log: has no effect on head=fusion, since each member has its own; set "
                     "members.<name>.weight"]
    assert any("decay=0" in problem for problem in EaseSettings(decay=0.0).problems())
    assert any("weight=values" in problem for problem in EaseSettings(weight="values").problems())


def test_beyond_twenty_half_lives_nothing_weighs_less():
    # 1 for the newest and 2^-20 for the others.
    mean = (1 + 2 * 2**-20) / 3
    assert weights(training([1, 1, 1], days=[0, 9000, 10_000]), decay=10.0) == pytest.approx(
        [2**-20 / mean, 2**-20 / mean, 1 / mean])


def test_decay_without_times_of_histories_is_an_error_in_the_data_that_names_the_way_out():
    values = training([1, 1]).interactions.values
    with pytest.raises(DataError, match=r"head.decay=7: .*no times.*dataset.columns.timestamp"):
        InteractionWeights(decay=7.0).entries(values, None)
