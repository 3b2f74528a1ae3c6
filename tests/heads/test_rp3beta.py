"""RP3beta: hand-worked walks on a tiny graph, a dense oracle, and properties."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmrec_cli.heads.shared import matrix_products
from llmrec_cli.settings.heads.rp3beta import Rp3BetaSettings
from tests.heads.by_hand import fit, queries, training

# Users: 0 {i0, i1}, 1 {i1, i2}, 2 {i3}. Items have 1, 2, 1 and 1 users.
GRAPH = np.array([[1, 1, 0, 0],
                  [0, 1, 1, 0],
                  [0, 0, 0, 1]])


def scores(settings, matrix, history):
    return fit(settings, training(matrix)).score(queries(history)).numpy()


def walks_by_hand(matrix, settings):
    """Return the damped walks from item to item (N, N), written out densely, before the k best are selected."""
    users, items = matrix.sum(axis=1, keepdims=True), matrix.sum(axis=0)
    to_item = np.divide(matrix, users, out=np.zeros_like(matrix), where=users > 0) ** settings.alpha
    to_user = np.divide(matrix, items, out=np.zeros_like(matrix), where=items > 0).T ** settings.alpha
    walks = np.where(to_user > 0, to_user, 0) @ np.where(matrix > 0, to_item, 0)
    np.fill_diagonal(walks, 0)
    return walks / np.where(items > 0, items, 1) ** settings.beta


def scores_by_hand(matrix, settings):
    """Return the scores of a matrix's users, scaled as in the head."""
    walks = walks_by_hand(matrix, settings)
    for target in walks.T:
        target[np.argsort(-target, kind="stable")[settings.k:]] = 0
    walks /= walks[walks > 0].mean() if walks.any() else 1
    lengths = matrix.sum(axis=1, keepdims=True)
    first = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    return np.where(matrix > 0, first ** settings.alpha, 0) @ walks


def test_scores_are_the_probabilities_of_three_steps_by_hand():
    # From i0: to user 0, then to i1 with 1/2. From i1: to either user with 1/2, then to i0 or i2 with 1/2.
    # From i2: to user 1, then to i1 with 1/2. The mean of the four walks 1/2, 1/4, 1/4, 1/2 is 3/8.
    histories = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
    actual = scores(Rp3BetaSettings(alpha=1, beta=0), GRAPH, histories)
    walks = [[0, 1 / 2, 0, 0], [1 / 4, 0, 1 / 4, 0], [0, 1 / 2, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(actual, np.array(walks) / (3 / 8), rtol=1e-6)


def test_alpha_is_a_power_of_each_step_and_beta_damps_by_the_number_of_users():
    # alpha=2: 1/4 to i1 from i0 and i2, 1/16 from i1 to either; beta=1: that to i1 by its 2 users. Their mean is 3/32.
    actual = scores(Rp3BetaSettings(alpha=2, beta=1), GRAPH, np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0]]))
    walks = [[0, 1 / 8, 0, 0], [1 / 16, 0, 1 / 16, 0], [0, 2 / 4 / 8, 0, 0]]
    np.testing.assert_allclose(actual, np.array(walks) / (3 / 32), rtol=1e-6)


def test_an_interaction_of_twice_the_weight_is_walked_twice_as_often():
    # User 0 has i0 with 1 and i1 with 3 and is the only one of i0; i1 has user 1 with 1 too, who has nothing else.
    values = np.array([[1, 3], [0, 1]])
    actual = scores(Rp3BetaSettings(alpha=1, beta=0, weight="value"), values, np.array([[1, 0], [0, 1]]))
    to_second, to_first = 3 / 4, 3 / 4 * 1 / 4
    mean = (to_second + to_first) / 2
    np.testing.assert_allclose(actual, [[0, to_second / mean], [to_first / mean, 0]], rtol=1e-6)


def test_each_item_keeps_the_k_items_with_the_largest_walk_probabilities():
    # To i1 the walks from i0 and i2 are equally probable; the first is kept.
    actual = scores(Rp3BetaSettings(k=1, alpha=1, beta=0), GRAPH, np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]))
    assert actual[0].tolist() == pytest.approx([0, 1 / 2 / (1 / 3), 0, 0])
    assert not actual[1].any()
    assert actual[2, 0] == actual[2, 2] > 0


def random_graph(seed, num_users, num_items, weighted):
    """Return a matrix with crowded and empty rows and columns, of 1s unless `weighted`, whose entries weigh 1 each."""
    rng = np.random.default_rng(seed)
    shown = rng.random((num_users, num_items)) < np.outer(rng.random(num_users), rng.random(num_items) * 1.5)
    values = shown * (rng.choice([1.0, 5.0, 30.0], shown.shape) if weighted else 1.0)
    return values, values / (values[values > 0].mean() if values.any() else 1)


@given(seed=st.integers(0, 10**6), num_users=st.integers(1, 12), num_items=st.integers(1, 12), weighted=st.booleans(),
       k=st.integers(1, 10), alpha=st.sampled_from([0.5, 1.0, 1.7]), beta=st.sampled_from([0.0, 0.6, 1.0]))
def test_scores_are_those_of_the_dense_formula(seed, num_users, num_items, weighted, k, alpha, beta):
    settings = Rp3BetaSettings(k=k, alpha=alpha, beta=beta, weight="value" if weighted else "none")
    values, weights = random_graph(seed, num_users, num_items, weighted)
    ordered = -np.sort(-walks_by_hand(weights, settings).T, axis=1)
    if k < num_items:  # Rounding must not change the k best.
        assume((ordered[:, k - 1] - ordered[:, k] > 1e-5 * ordered[:, k - 1])[ordered[:, k] > 0].all())
    np.testing.assert_allclose(scores(settings, values, values), scores_by_hand(weights, settings), rtol=1e-4,
                               atol=1e-6)


@given(seed=st.integers(0, 10**6))
def test_without_damping_and_k_walk_probabilities_sum_to_those_that_do_not_return(seed):
    _, graph = random_graph(seed, 9, 7, False)
    head = fit(Rp3BetaSettings(k=7, alpha=1, beta=0), training(graph))
    walks = walks_by_hand(graph, Rp3BetaSettings(alpha=1, beta=0))
    assume(walks.any())
    mean = walks[walks > 0].mean()
    reached = head.score(queries(np.eye(7))).numpy().sum(axis=1) * mean
    degree, length = graph.sum(axis=0), graph.sum(axis=1)
    returns = np.array([(graph[:, n] / np.maximum(length, 1)).sum() / max(degree[n], 1) for n in range(7)])
    np.testing.assert_allclose(reached, np.where(degree > 0, 1 - returns, 0), atol=1e-5)


def test_a_higher_beta_puts_the_popular_item_behind_the_rare_one():
    # Both i1 (4 users) and i2 (2 users) are reached from i0; i1 more often.
    graph = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    for beta, first in ((0.0, 1), (2.0, 2)):
        assert scores(Rp3BetaSettings(beta=beta), graph, np.array([[1, 0, 0]]))[0].argmax() == first


def test_an_item_that_no_walk_leaves_and_an_empty_history_score_nothing():
    actual = scores(Rp3BetaSettings(), GRAPH, np.array([[0, 0, 0, 1], [0, 0, 0, 0]]))
    assert not actual.any()


@pytest.mark.parametrize(("cells", "share"), [(1, 2.0), (100, 0.1), (2**22, 0.0)])
def test_blocks_and_dense_features_change_no_score(monkeypatch, cells, share):
    graph, _ = random_graph(3, 40, 30, False)
    before = scores(Rp3BetaSettings(k=5), graph, graph)
    monkeypatch.setattr(matrix_products, "BLOCK_CELLS", cells)
    monkeypatch.setattr(matrix_products, "DENSE_SHARE", share)
    np.testing.assert_allclose(scores(Rp3BetaSettings(k=5), graph, graph), before, rtol=1e-5)


@pytest.mark.parametrize(("settings", "words"), [
    (Rp3BetaSettings(k=0), "k=0"), (Rp3BetaSettings(alpha=0), "alpha=0"), (Rp3BetaSettings(beta=-1), "beta=-1")])
def test_a_setting_out_of_range_is_refused(settings, words):
    (problem,) = settings.problems()
    assert words in problem
