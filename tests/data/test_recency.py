"""Weights of a history by recency: hand-worked numbers, and a loop over entries as the oracle."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.data.recency import DAY, Recency
from llmrec_cli.errors import DataError
from llmrec_cli.settings.head import EaseSettings
from tests.heads.by_hand import training

# Rows, oldest first: items 3, 0, 2; nothing; item 1. The item numbers do not say the order.
HISTORY = sp.csr_array((np.array([1, 1, 2, 1], np.float32), np.array([3, 0, 2, 1]), np.array([0, 3, 3, 4])), (3, 4))


def times_of(*times):
    return sp.csr_array((np.array(times), HISTORY.indices, HISTORY.indptr), HISTORY.shape)


def test_an_interaction_one_half_life_of_places_older_weighs_one_half():
    weighed = Recency("place", 2).weigh(HISTORY, None)
    # Two, one and no later interactions; the newest of the first row has weight 2 before.
    np.testing.assert_allclose(weighed.data, [1 / 2, 2**-0.5, 2, 1], rtol=1e-6)
    assert weighed.indices.tolist() == [3, 0, 2, 1]
    assert weighed.indptr.tolist() == [0, 3, 3, 4]
    assert HISTORY.data.tolist() == [1, 1, 2, 1]


def test_with_time_the_days_to_the_newest_of_the_same_history_count():
    # 3 days, then 1 day before the newest. The other history is older, but its newest weighs 1 too.
    weighed = Recency("time", 1).weigh(HISTORY, times_of(7 * DAY, 9 * DAY, 10 * DAY, 0))
    np.testing.assert_allclose(weighed.data, [1 / 8, 1 / 2, 2, 1])


def test_interactions_at_the_same_time_have_the_same_weight_with_time_and_their_order_with_place():
    times = times_of(5, 5, 5, 5)
    assert Recency("time", 1).weigh(HISTORY, times).data.tolist() == [1, 1, 2, 1]
    np.testing.assert_allclose(Recency("place", 1).weigh(HISTORY, times).data, [1 / 4, 1 / 2, 2, 1])


def test_an_interaction_of_unknown_time_counts_as_the_newest_and_ages_no_other():
    # Of a known user's history and one item of the query: 3 days before the newest known time, that, and no time.
    weighed = Recency("time", 3).weigh(HISTORY, times_of(0, 3 * DAY, UNTIMED, UNTIMED))
    np.testing.assert_allclose(weighed.data, [1 / 2, 1, 2, 1])


def test_weights_stop_falling_after_twenty_half_lives():
    long = sp.csr_array((np.ones(200, np.float32), np.arange(200), np.array([0, 200])), (1, 200))
    data = Recency("place", 0.5).weigh(long, None).data
    assert data[0] == data[189] == np.float32(2**-20)
    assert data[190] > data[189]


def test_without_recency_the_history_is_the_same_object():
    assert Recency().weigh(HISTORY, None) is HISTORY
    empty = sp.csr_array((2, 4), dtype=np.float32)
    assert Recency("time", 1).weigh(empty, None) is empty


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["place", "time"]), half_life=st.sampled_from([0.5, 3.0, 50.0]))
def test_weights_are_those_of_a_loop_over_the_entries(seed, kind, half_life):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, 5)
    indptr, num = np.concatenate([[0], np.cumsum(lengths)]), lengths.sum()
    data = rng.random(num).astype(np.float32)
    times = rng.integers(0, 30, num) * DAY // 2
    times[rng.random(num) < 0.2] = UNTIMED
    indices = np.concatenate([rng.permutation(6)[:n] for n in lengths]) if num else np.zeros(0, np.int64)
    history = sp.csr_array((data, indices, indptr), (5, 6))
    expected = []
    for row in range(5):
        own = times[indptr[row]:indptr[row + 1]].tolist()
        newest = max((time for time in own if time != UNTIMED), default=0)
        for place, time in enumerate(own):
            days = 0 if time == UNTIMED else (newest - time) / DAY
            age = len(own) - 1 - place if kind == "place" else days
            expected.append(data[indptr[row] + place] * 0.5 ** min(age / half_life, 20))
    weighed = Recency(kind, half_life).weigh(history, sp.csr_array((times, indices, indptr), (5, 6)))
    np.testing.assert_allclose(weighed.data, expected, rtol=1e-6)


def test_histories_without_an_order_or_without_times_are_refused():
    plain = training(np.ones((2, 2)))
    for kind in ("place", "time"):
        with pytest.raises(DataError, match=rf"head\.recency={kind}: the prepared data has no times"):
            Recency(kind).require_order(plain)
    ordered = replace(plain, has_order=True)
    Recency("place").require_order(ordered)
    with pytest.raises(DataError, match="or only an order"):
        Recency("time").require_order(ordered)
    Recency("time").require_order(replace(ordered, has_moments=True))
    Recency().require_order(plain)
    with pytest.raises(DataError, match="histories of this data have no times"):
        Recency("time").weigh(HISTORY, None)


@pytest.mark.parametrize(("settings", "words"), [
    (EaseSettings(recency="newest"), "recency=newest: choose one of none, place, time"),
    (EaseSettings(recency="place", recency_half_life=0), "recency_half_life=0: must be above 0"),
    (EaseSettings(recency_half_life=3), "recency_half_life=3: has no effect with recency=none")])
def test_a_setting_out_of_range_or_without_effect_is_refused(settings, words):
    (problem,) = settings.problems()
    assert words in problem
