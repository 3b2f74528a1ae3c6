"""Intervals and p-values from resampling the queries."""

import time

import numpy as np
import pytest

from llmrec_cli.metrics import significance
from llmrec_cli.metrics.significance import bootstrap, paired_difference


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


def test_blocks_change_nothing(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = bootstrap(values, 200, seed=1).resampled_BM
    monkeypatch.setattr(significance, "BLOCK_CELLS", 50 * 7)
    np.testing.assert_allclose(bootstrap(values, 200, seed=1).resampled_BM, whole, atol=1e-12)


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
    """A constant lead of 0.1 under large differences between users is certain only when pairs are kept."""
    theirs = np.random.default_rng(0).random((100, 1))
    difference, (low, high), p = paired_difference(bootstrap(theirs + 0.1, 999, 5), bootstrap(theirs, 999, 5))
    assert difference[0] == pytest.approx(0.1)
    assert low[0] == pytest.approx(0.1)
    assert high[0] == pytest.approx(0.1)
    assert p[0] == pytest.approx(2 / 1000)


def test_p_is_one_where_nothing_differs_and_never_zero():
    values = np.random.default_rng(0).random((100, 1))
    same = bootstrap(values, 999, 5)
    assert paired_difference(same, same)[2][0] == 1
    assert paired_difference(bootstrap(values + 9, 999, 5), same)[2][0] > 0


def test_p_is_about_uniform_where_the_truth_is_no_difference():
    generator = np.random.default_rng(11)
    ours, theirs = generator.normal(size=(150, 400)), generator.normal(size=(150, 400))
    p = paired_difference(bootstrap(ours, 500, 1), bootstrap(theirs, 500, 1))[2]
    assert 0.02 <= np.mean(p < 0.05) <= 0.09
    assert 0.42 <= np.mean(p < 0.5) <= 0.58


def test_a_thousand_resamples_of_a_thousand_users_and_thirty_metrics_take_well_under_a_second():
    values = np.random.default_rng(0).random((1000, 30))
    start = time.process_time()
    bootstrap(values, 1000, seed=1)
    assert time.process_time() - start < 1.0
