"""Turbo-CF: hand-worked numbers on a tiny graph, a dense oracle, and memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.heads import turbo_cf
from llmrec_cli.heads.base import build
from llmrec_cli.heads.shared.matrix_products import ColumnBlocks
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.turbo_cf import TurboCfSettings
from tests.heads.by_hand import CONTEXT, fit, queries, training
from tests.heads.peak_bytes import PeakBytes

# Users: 0 {i0, i1}, 1 {i1}. Items have 1, 2 and no users.
GRAPH = np.array([[1, 1, 0], [0, 1, 0]])


def filter_of(matrix, **settings):
    """Return the filter of a fitted head: the scores of histories of one item."""
    return fit(TurboCfSettings(**settings), training(matrix)).score(queries(np.eye(matrix.shape[1]))).numpy()


def by_hand(matrix, settings):
    """Return the filter by dense products (N, N)."""
    users, items = matrix.sum(axis=1, keepdims=True), matrix.sum(axis=0)
    scaled = matrix / np.where(users > 0, users, 1)**settings.alpha / np.where(items > 0, items, 1)**(
        1 - settings.alpha)
    p = (scaled.T @ scaled)**settings.power
    third = p + .01 * (-p @ p @ p + 10 * p @ p - 29 * p)
    return {"linear": p, "second": 2 * p - p @ p, "third": third}[settings.filter]


def test_interactions_are_divided_by_powers_of_both_sums():
    # alpha=1: rows (1/2, 1/2) and (0, 1). Products: 1/4, 1/4, 1/4 + 1.
    np.testing.assert_allclose(filter_of(GRAPH, alpha=1, power=1), [[1 / 4, 1 / 4, 0], [1 / 4, 5 / 4, 0], [0, 0, 0]])
    # alpha=0: columns (1, 0) and (1/2, 1/2).
    np.testing.assert_allclose(filter_of(GRAPH, alpha=0, power=1), [[1, 1 / 2, 0], [1 / 2, 1 / 2, 0], [0, 0, 0]])


def test_the_power_is_taken_entry_by_entry():
    np.testing.assert_allclose(filter_of(GRAPH, alpha=1, power=2)[:2, :2], [[1 / 16, 1 / 16], [1 / 16, 25 / 16]])


def test_filters_of_second_and_third_order_by_hand():
    # P is ((1, 1/2), (1/2, 1/2)), P^2 ((5/4, 3/4), (3/4, 1/2)), P^3 ((13/8, 1), (1, 5/8)).
    second = filter_of(GRAPH, alpha=0, power=1, filter="second")[:2, :2]
    np.testing.assert_allclose(second, [[3 / 4, 1 / 4], [1 / 4, 1 / 2]], rtol=1e-6)
    third = filter_of(GRAPH, alpha=0, power=1, filter="third")[:2, :2]
    between = .5 + .01 * (-1 + 30 / 4 - 29 / 2)
    np.testing.assert_allclose(third, [[1 + .01 * (-13 / 8 + 50 / 4 - 29), between],
                                       [between, .5 + .01 * (-5 / 8 + 5 - 29 / 2)]], rtol=1e-6)


@given(seed=st.integers(0, 10**6), num_users=st.integers(1, 12), num_items=st.integers(1, 12), weighted=st.booleans(),
       alpha=st.sampled_from([0.0, 0.4, 1.0]), power=st.sampled_from([0.5, 1.0, 1.6]),
       kind=st.sampled_from(["linear", "second", "third"]))
def test_filters_are_those_of_dense_products(seed, num_users, num_items, weighted, alpha, power, kind):
    rng = np.random.default_rng(seed)
    shown = rng.random((num_users, num_items)) < np.outer(rng.random(num_users), rng.random(num_items) * 1.5)
    values = shown * (rng.choice([1.0, 5.0, 30.0], shown.shape) if weighted else 1.0)
    settings = TurboCfSettings(alpha=alpha, power=power, filter=kind, weight="value" if weighted else "none")
    weights = values / (values[values > 0].mean() if values.any() else 1)
    actual = fit(settings, training(values)).score(queries(np.eye(num_items) * values.max(initial=0))).numpy()
    scale = values.max(initial=0) / (values[values > 0].mean() if values.any() else 1)
    expected = by_hand(weights, settings) * scale
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("kind", ["second", "third"])
def test_blocks_of_rows_change_no_score(monkeypatch, kind):
    graph = np.random.default_rng(1).random((30, 20)) < 0.3
    before = filter_of(graph, filter=kind)
    monkeypatch.setattr(turbo_cf, "_BLOCK_ITEMS", 7)
    np.testing.assert_allclose(filter_of(graph, filter=kind), before, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "third"])
def test_the_stated_memory_is_that_of_the_matrices(kind):
    data = training(np.random.default_rng(1).random((1500, 1500)) < 0.01)
    head = build(ModelConfig(head=TurboCfSettings(filter=kind)))
    stated = head.estimate_memory(data)
    for _ in range(2):  # The first time imports modules.
        with PeakBytes() as measured:
            head.fit(data, CONTEXT)
        head.weights = ColumnBlocks(0)
    assert 0.75 * stated < measured.peak < 1.25 * stated


@pytest.mark.parametrize(("settings", "words"), [
    (TurboCfSettings(alpha=1.5), "alpha=1.5"), (TurboCfSettings(power=0), "power=0"),
    (TurboCfSettings(filter="fourth"), "filter=fourth: choose one of linear, second, third")])
def test_a_setting_out_of_range_is_refused(settings, words):
    (problem,) = settings.problems()
    assert words in problem
