"""Popularity over a window of days, with trend: hand-worked numbers."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.recency import DAY
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.settings.head import FusionSettings, ModelConfig, PopularitySettings
from llmrec_cli.settings.search import proposal
from tests.heads.by_hand import entities, fit, queries
from tests.heads.conftest import configs

# Item of each interaction, and its day. The newest is of day 10.
ITEMS = [0, 0, 0, 1, 1, 0, 1, 2, 1, 2]
DAYS = [0, 1, 2, 5, 6, 7, 8.5, 9, 9.5, 10]


def dated(values=None, moments=True):
    """Return training data of ten users with an interaction each, in a catalogue of four items."""
    value = np.ones(10, np.float32) if values is None else np.array(values, np.float32)
    interactions = Interactions(np.arange(10), np.array(ITEMS), value, (np.array(DAYS) * DAY).astype(np.int64), 10, 4)
    return TrainingData(entities(10, kind="u"), entities(4), interactions, value_kind="event_weight", has_order=True,
                        has_moments=moments)


def counts(data=None, **settings):
    head = fit(PopularitySettings(**settings), dated() if data is None else data)
    return head.score(queries(np.eye(4)[:1]))[0].tolist()


def test_without_a_window_all_interactions_are_counted():
    assert counts() == [4, 4, 2, 0]


def test_the_window_has_the_interactions_of_less_than_its_days_before_the_newest():
    assert counts(window=2) == [0, 2, 2, 0]
    assert counts(window=3) == [0, 2, 2, 0]  # Day 7 is three days old.
    assert counts(window=3.5) == [1, 2, 2, 0]
    assert counts(window=100) == [4, 4, 2, 0]


def test_the_trend_is_the_ratio_to_the_window_before_with_shrinkage_in_both_counts():
    # Five days: item 0 once (day 7) after twice (1, 2), item 1 three times (6, 8.5, 9.5) after once (5), item 2 twice.
    assert counts(window=5) == [1, 3, 2, 0]
    for trend in (1, 2):
        expected = [1 * (3 / 4)**trend, 3 * (5 / 3)**trend, 2 * (4 / 2)**trend, 0]
        np.testing.assert_allclose(counts(window=5, trend=trend, trend_shrinkage=2), expected, rtol=1e-6)


def test_weights_are_summed_in_the_window():
    # Their mean is 2: item 1 has 4 and 1, item 2 has 3 and 3.
    values = [1, 1, 1, 1, 3, 2, 4, 3, 1, 3]
    assert np.mean(values) == 2
    assert counts(dated(values), window=2) == [0, 2.5, 3, 0]


def test_data_without_times_is_refused_and_not_tuned():
    data = dated(moments=False)
    with pytest.raises(DataError, match=r"head\.window=3: the prepared data has no times"):
        counts(data, window=3)
    head = fit(PopularitySettings(), data)
    assert set(head.unused_settings(data)) == {"window", "trend", "trend_shrinkage"}
    assert head.unused_settings(dated()) == {}


def test_how_much_is_counted_and_a_span_too_short_for_the_trend_are_said():
    assert fit(PopularitySettings(), dated()).unused_values(dated()) == []
    assert fit(PopularitySettings(window=3), dated()).unused_values(dated()) == [
        "head=popularity counts the 4 of 10 interactions of the newest 3 days (head.window)"]
    trended = fit(PopularitySettings(window=6, trend=1), dated()).unused_values(dated())
    assert "span 10.0 days, less than two windows of 6 days" in trended[1]


def test_as_a_member_of_a_fusion_it_adds_its_counts(shop):
    ease = replace(configs(shop)["ease"].head, search={})
    popular = PopularitySettings(window=6.0)
    members = {"ease": ModelConfig(head=ease), "popular": ModelConfig(head=popular)}
    weights = {"ease": 1.0, "popular": 0.5}
    query, train = shop.known_users([0, 7]), shop.data.training("train")
    both = fit(FusionSettings(members=members, weights=weights, normalise="raw"), train).score(query)
    alone = [fit(settings, train).score(query) for settings in (ease, popular)]
    np.testing.assert_allclose(both, alone[0] + 0.5 * alone[1], rtol=1e-5)


@pytest.mark.parametrize(("settings", "words"), [
    ({"window": 0}, "window=0: must be above 0"), ({"trend": 1}, "trend=1: has no effect without window"),
    ({"window": 3, "trend": -1}, "trend=-1: must be at least 0"),
    ({"window": 3, "trend_shrinkage": 4}, "trend_shrinkage=4: has no effect with trend=0")])
def test_a_setting_out_of_range_or_without_effect_is_refused(settings, words):
    assert words in next(PopularitySettings(**settings).problems())


def test_a_search_proposes_no_trend_without_a_window(shop):
    config = configs(shop)["popularity"]
    assert config.head.search.keys() == {"window", "trend"}
    assert proposal(config, {"window": None, "trend": 1.5}) == {"window": None, "trend": 0}
    assert proposal(config, {"window": 7.0, "trend": 1.5}) == {"window": 7, "trend": 1.5}
