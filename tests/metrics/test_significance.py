"""Bootstrap intervals, p-values and letter displays."""

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrec_cli.metrics import significance
from llmrec_cli.metrics.significance import (
    bootstrap,
    default_weights,
    holm,
    influence,
    letters,
    paired_difference,
    paired_test,
)


def test_p(ours, theirs):
    """The p-value of two samples of plain values (Q, M)."""
    return paired_test(ours.mean(0) - theirs.mean(0), *(influence(v, default_weights(v)) for v in (ours, theirs)))


test_p.__test__ = False


def test_the_interval_is_that_of_the_normal_approximation_for_many_queries():
    values = np.random.default_rng(0).normal(5, 2, (4000, 1))
    low, high = bootstrap(values, 2000, seed=1).interval_2M[:, 0]
    error = values.std() / np.sqrt(4000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_the_interval_covers_the_truth_in_about_95_of_100_samples():
    generator = np.random.default_rng(3)
    values = generator.exponential(1, (200, 400))
    low, high = bootstrap(values, 600, seed=2).interval_2M
    assert 0.90 <= np.mean((low < 1) & (high > 1)) <= 0.98


def test_a_constant_has_an_interval_of_no_width():
    result = bootstrap(np.full((7, 1), 0.25), 100, seed=0)
    assert result.mean_M.tolist() == [0.25]
    assert result.interval_2M.tolist() == [[0.25], [0.25]]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).random((50, 2))
    first, same, other = (bootstrap(values, 200, seed).interval_2M for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_the_block_size_changes_no_bootstrap_value(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = bootstrap(values, 200, seed=1).resampled_BM
    monkeypatch.setattr(significance, "BLOCK_CELLS", 50 * 7)
    np.testing.assert_allclose(bootstrap(values, 200, seed=1).resampled_BM, whole, atol=1e-6)


def test_undefined_values_are_left_out_of_mean_and_interval():
    values = np.array([[1.0, 2.0], [np.nan, 4.0], [3.0, np.nan]])
    result = bootstrap(values, 500, seed=0)
    assert result.mean_M.tolist() == [2.0, 3.0]
    assert result.interval_2M.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_metric_that_is_defined_nowhere_has_neither_mean_nor_interval():
    result = bootstrap(np.full((3, 1), np.nan), 100, seed=0)
    assert np.isnan(result.mean_M).all()
    assert np.isnan(result.interval_2M).all()


def test_differences_are_paired():
    """A constant lead of 0.1 is significant only in a paired test, because users differ much more than that."""
    theirs = np.random.default_rng(0).random((100, 1))
    difference, (low, high) = paired_difference(bootstrap(theirs + 0.1, 999, 5), bootstrap(theirs, 999, 5))
    assert difference[0] == pytest.approx(0.1)
    assert low[0] == pytest.approx(0.1)
    assert high[0] == pytest.approx(0.1)
    assert test_p(theirs + 0.1, theirs)[0] < 1e-9


def test_p_is_one_where_nothing_differs_or_there_is_one_query_alone():
    values = np.random.default_rng(0).random((100, 1))
    assert test_p(values, values)[0] == 1
    assert test_p(values[:1], values[1:2])[0] == 1


def test_p_is_that_of_scipys_paired_t_test():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(11)
    ours, theirs = generator.random((40, 3)), generator.random((40, 3)) + np.array([0, 0.1, 0.4])
    assert test_p(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-9)


def test_p_is_about_uniform_where_the_truth_is_no_difference():
    generator = np.random.default_rng(11)
    p = test_p(generator.normal(size=(150, 400)), generator.normal(size=(150, 400)))
    assert 0.02 <= np.mean(p < 0.05) <= 0.09
    assert 0.42 <= np.mean(p < 0.5) <= 0.58


def test_weights_make_the_mean_that_of_the_weighted_values():
    result = bootstrap(np.array([[1.0], [4.0]]), 200, 1, np.array([[3.0], [1.0]]))
    assert result.mean_M[0] == pytest.approx(7 / 4)
    assert result.interval_2M[:, 0] == pytest.approx([1, 4])


def test_holm_multiplies_the_smallest_p_most_and_never_turns_the_order():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == [1, 1]


def test_recommenders_that_cannot_be_told_apart_share_a_letter_and_others_do_not():
    differ = np.zeros((4, 4), bool)
    for one, other in ((0, 2), (0, 3), (1, 3)):
        differ[one, other] = differ[other, one] = True
    assert letters(np.array([0.5, 0.4, 0.3, 0.2]), differ) == ["a", "ab", "bc", "c"]
    assert letters(np.array([0.2, 0.5]), np.zeros((2, 2), bool)) == ["a", "a"]
    assert letters(np.array([0.2, 0.5]), ~np.eye(2, dtype=bool)) == ["b", "a"]


def test_any_letters_say_exactly_which_pairs_differ():
    generator = np.random.default_rng(4)
    for size in range(1, 8):
        upper = np.triu(generator.random((size, size)) < 0.4, 1)
        differ = upper | upper.T
        display = letters(generator.random(size), differ)
        shared = np.array([[bool(set(one) & set(other)) for other in display] for one in display])
        assert (shared == ~differ).all()


def test_a_thousand_resamples_of_a_thousand_users_and_thirty_metrics_take_well_under_a_second():
    values = np.random.default_rng(0).random((1000, 30))
    start = time.process_time()
    bootstrap(values, 1000, seed=1)
    assert time.process_time() - start < 1.0


@settings(max_examples=60, deadline=None)
@given(values=arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.floats(0, 1)),
       weight=st.floats(1e-3, 1e3), constant=st.booleans(), seed=st.integers(0, 99))
def test_means_and_intervals_lie_within_the_range_of_the_values(values, weight, constant, seed):
    values[:, 0] = values[0, 0] if constant else values[:, 0]
    weights = np.full(values.shape, weight, np.float32)
    weights[::3] = 1 / 3
    result = bootstrap(values, 50, seed, weights)
    for means in (result.mean_M, *result.interval_2M):
        assert (means >= values.min(0)).all()
        assert (means <= values.max(0)).all()


def test_a_recall_of_one_for_everybody_is_one_whatever_the_weights():
    weights = np.random.default_rng(0).random((5000, 1)).astype(np.float32)
    result = bootstrap(np.ones((5000, 1)), 200, 1, weights)
    assert (result.mean_M[0], result.interval_2M.max()) == (1.0, 1.0)


def test_clusters_of_one_query_give_the_plain_bootstrap_and_repeated_queries_no_narrower_interval():
    generator = np.random.default_rng(5)
    values = generator.random((30, 2))
    weights = generator.random((30, 2)).astype(np.float32)
    plain = bootstrap(values, 200, 1, weights)
    alone = bootstrap(values, 200, 1, weights, np.arange(30))
    assert np.array_equal(plain.resampled_BM, alone.resampled_BM)
    fivefold = bootstrap(np.repeat(values, 5, axis=0), 200, 1, np.repeat(weights, 5, axis=0),
                         np.repeat(np.arange(30), 5))
    assert np.allclose(plain.mean_M, fivefold.mean_M)
    assert np.allclose(plain.resampled_BM, fivefold.resampled_BM, atol=1e-5)


def test_with_equal_cluster_sizes_the_test_equals_the_paired_test_of_cluster_means():
    generator = np.random.default_rng(6)
    ours, theirs = generator.random((2, 60, 1))
    cluster = np.repeat(np.arange(20), 3)
    weights = np.ones((60, 1), np.float32)
    difference = ours.mean(0) - theirs.mean(0)
    p = paired_test(difference, influence(ours, weights, cluster), influence(theirs, weights, cluster))
    means = [values.reshape(20, 3).mean(axis=1) for values in (ours, theirs)]
    assert p[0] == pytest.approx(scipy.stats.ttest_rel(*means).pvalue)
