"""iALS against its normal equations written out densely, one user and one item at a time."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import DataError, DivergedError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.ials import least_squares as module
from llmrec_cli.heads.ials.least_squares import LinearPrior, Observed, Penalty, Ridge
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.ials import IalsSettings
from tests.heads.by_hand import entities, fit, queries, training

CPU = torch.device("cpu")
RNG = np.random.default_rng(7)
MATRIX = (RNG.random((30, 14)) < 0.3) * 1.0
MATRIX[:, 0] = 1.0
MATRIX[0] = 1.0
VALUES = MATRIX * np.random.default_rng(8).choice([1.0, 4.0, 25.0], MATRIX.shape)
WEIGHTS = VALUES / VALUES[VALUES > 0].mean()
ATTRIBUTES = (RNG.random((14, 5)) < 0.4) * 1
FEATURES = FeatureWeightsSettings(attributes=1.0)
SETTINGS = IalsSettings(embedding_size=5, unobserved_weight=0.3, l2=0.08, frequency_exponent=0.7, iterations=6)


def mean_penalty(matrix, settings):
    """Return the mean penalty: l2 times the sum of the roots of the mean non-zero counts of users and of items."""
    counts = matrix.sum(axis=1), matrix.sum(axis=0)
    return settings.l2 * sum(c[c > 0].mean()**0.5 for c in counts)


def penalties(matrix, settings):
    """Return the penalty of each row (Rendle et al. 2022, eq. 5), scaled to the mean."""
    counts = matrix.sum(axis=1)
    sizes = (counts + settings.unobserved_weight * matrix.any(axis=0).sum())**settings.frequency_exponent
    return mean_penalty(matrix, settings) * sizes / sizes[counts > 0].mean()


def solve(matrix, fixed, settings, penalty, prior=None):
    """Return each row's solution of its normal equations; columns of 0s are no unobserved pairs.

    Entries of the matrix are the weights of interactions. With the unobserved weight w and alpha = 1 / w confidences
    are those of Hu et al. 2008, eq. 3 and 4: w (1 + alpha times the weight).
    """
    warm = fixed[matrix.any(axis=0)]
    rows = []
    for n, row in enumerate(matrix):
        own, confidence = fixed[row > 0], row[row > 0, None]
        gram = (own.T @ (confidence * own) + settings.unobserved_weight * warm.T @ warm
                + penalty[n] * np.eye(fixed.shape[1]))
        right = (confidence * own).sum(axis=0) + (0 if prior is None else penalty[n] * prior[n])
        rows.append(np.linalg.solve(gram, right))
    return np.array(rows)


def loss(matrix, users, items, settings, prior=0.0):
    """Return the loss (Rendle et al. 2022, eq. 3 to 5) of interactions in which every user and item occurs."""
    scores = users @ items.T
    user_penalty = penalties(matrix, settings)
    item_penalty = penalties(matrix.T, settings)
    return ((matrix * (1 - scores)**2).sum() + settings.unobserved_weight * (scores**2).sum()
            + (user_penalty * (users**2).sum(axis=1)).sum() + (item_penalty * ((items - prior)**2).sum(axis=1)).sum())


def ridge(fixed, matrix, settings):
    """Return the solver of rows of a matrix (R, C) with fixed factors (C, D), and the rows."""
    counts = matrix.sum(axis=1)
    penalty = Penalty.of(counts, settings.unobserved_weight * matrix.shape[1], mean_penalty(matrix, settings),
                         settings.frequency_exponent)
    shared = Ridge(torch.from_numpy(fixed).float(), torch.from_numpy(matrix.sum(axis=0)).float(),
                   settings.unobserved_weight, penalty)
    return shared, Observed(sp.csr_array(matrix.astype(np.float32)), fixed.shape[1], CPU, weighted=True)


def test_one_user_folded_into_items_of_one_dimension():
    # Trained on 9 users with 4 items each, mean penalty .12 * (2 + 3) = .6 at 4 + 1/2 * 4 = 6, so .3 for one item.
    # Items 2, 1, 0, 0, history {2}, weight 1/2: x = 2 / (2*2 + 1/2 * (2*2 + 1*1) + .3) = 2 / 6.8.
    head = fit(IalsSettings(embedding_size=1, unobserved_weight=0.5, l2=0.12), training(np.ones((9, 4))))
    head.items_MD = torch.tensor([[2.0], [1.0], [0.0], [0.0]])
    x = 2 / 6.8
    np.testing.assert_allclose(head.score(queries(np.array([[1, 0, 0, 0]]))).numpy(), [[2 * x, x, 0, 0]], rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("weight", "l2"), [(0.05, 0.5), (0.4, 0.01), (1.0, 0.001)])
@pytest.mark.parametrize("matrix", [MATRIX, WEIGHTS])
def test_solutions_are_those_of_the_normal_equations(exponent, weight, l2, matrix):
    ials = IalsSettings(embedding_size=5, unobserved_weight=weight, l2=l2, frequency_exponent=exponent)
    fixed = RNG.normal(size=(14, 5))
    shared, observed = ridge(fixed, matrix, ials)
    expected = solve(matrix, fixed, ials, penalties(matrix, ials))
    np.testing.assert_allclose(shared.solve(observed, 1e-6).numpy(), expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 25), st.integers(2, 25), st.integers(1, 12), st.floats(0.01, 1),
       st.floats(1e-3, 1), st.floats(0, 1), st.integers(1, 4), st.booleans(), st.booleans())
def test_every_half_step_lowers_the_loss(seed, num_users, num_items, size, weight, l2, exponent, steps, with_prior,
                                         weighted):
    rng = np.random.default_rng(seed)
    matrix = (rng.random((num_users, num_items)) < 0.3) * 1.0
    matrix[0], matrix[:, 0] = 1, 1
    matrix *= rng.choice([0.1, 1, 7], matrix.shape) if weighted else 1
    ials = IalsSettings(embedding_size=size, unobserved_weight=weight, l2=l2, frequency_exponent=exponent)
    users, items = rng.normal(size=(num_users, size)), rng.normal(size=(num_items, size))
    prior = rng.normal(size=items.shape) if with_prior else np.zeros(items.shape)
    before = loss(matrix, users, items, ials, prior)
    for _ in range(3):
        for rows in ("users", "items"):
            fixed, moved = (items, users) if rows == "users" else (users, items)
            shared, observed = ridge(fixed, matrix if rows == "users" else matrix.T, ials)
            better = torch.from_numpy(moved).float()
            shared.improve(observed, better, steps, torch.from_numpy(prior).float() if rows == "items" else None)
            moved[:] = better.numpy()
            after = loss(matrix, users, items, ials, prior)
            assert after <= before * (1 + 1e-5)
            before = after


@pytest.mark.parametrize(("values", "weights"), [(MATRIX, MATRIX), (VALUES, WEIGHTS)])
def test_training_ends_where_neither_users_nor_items_can_be_improved(values, weights):
    ials = IalsSettings(embedding_size=3, unobserved_weight=0.3, l2=0.08, frequency_exponent=0.7, iterations=300)
    items = fit(ials, training(values)).items_MD.numpy().astype(np.float64)
    users = solve(weights, items, ials, penalties(weights, ials))
    again = solve(weights.T, users, ials, penalties(weights.T, ials))
    assert np.abs(items).max() > 0.1
    np.testing.assert_allclose(again, items, atol=2e-3)


# The solver stops at a share of each row's right-hand side, which weights of up to 2.4 enlarge.
@pytest.mark.parametrize(("values", "weights", "tolerance"), [(MATRIX, MATRIX, 2e-3), (VALUES, WEIGHTS, 4e-3)])
def test_known_and_new_users_get_the_scores_of_an_exact_solve_for_their_history(values, weights, tolerance):
    head = fit(SETTINGS, training(values))
    items = head.items_MD.numpy().astype(np.float64)
    expected = solve(weights, items, SETTINGS, penalties(weights, SETTINGS)) @ items.T
    known_users, new = head.score(queries(values, list(range(30)))), head.score(queries(values))
    assert torch.equal(known_users, new)
    np.testing.assert_allclose(known_users.numpy(), expected, atol=tolerance)


@pytest.mark.parametrize(("working_set", "num_batches"), [(1, 30), (400, 14), (2000, 3)])
def test_batches_change_nothing(monkeypatch, working_set, num_batches):
    whole = fit(SETTINGS, training(MATRIX, ATTRIBUTES))
    monkeypatch.setattr(module, "BATCH_BYTES", working_set)
    parts = fit(SETTINGS, training(MATRIX, ATTRIBUTES))
    one = Observed(sp.csr_array(MATRIX), 5, CPU)
    assert [b.rows.start for b in one.batches()][1:] == [b.rows.stop for b in one.batches()][:-1]
    assert len(list(one.batches())) == num_batches
    torch.testing.assert_close(parts.items_MD, whole.items_MD, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(parts.score(queries(MATRIX)), whole.score(queries(MATRIX)), rtol=1e-3, atol=1e-3)


def test_users_and_items_without_interactions_are_no_part_of_the_loss():
    wider = np.zeros((33, 17))
    wider[:30, :14] = MATRIX
    actual = fit(SETTINGS, training(wider)).score(queries(wider))
    head = fit(SETTINGS, training(MATRIX))
    assert head.penalty == fit(SETTINGS, training(wider)).penalty
    assert not actual[:, 14:].any()
    assert not actual[30:].any()
    assert actual[:30, :14].abs().max() > 0.3
    # The factors start from the same random numbers, since users and items without interactions draw none.
    torch.testing.assert_close(actual[:30, :14], head.score(queries(MATRIX)), rtol=1e-3, atol=1e-3)


def test_the_frequency_exponent_moves_the_penalty_and_keeps_its_mean():
    counts = np.array([1.0, 4.0, 25.0])
    flat, steep = (Penalty.of(counts, 5.0, 1.5, exponent)(torch.tensor(counts)).numpy() for exponent in (0.0, 1.0))
    np.testing.assert_allclose(flat, [1.5, 1.5, 1.5])
    np.testing.assert_allclose(steep, [0.6, 0.9, 3.0])


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_the_linear_bound_touches_the_penalty_at_the_weighted_mean_count(exponent):
    penalty = Penalty.of(np.array([1.0, 4.0, 25.0]), 5.0, 1.5, exponent)
    base, slope = penalty.line()
    assert penalty.usual == pytest.approx((1 + 16 + 625) / 30)
    assert base + slope * penalty.usual == pytest.approx(float(penalty(torch.tensor(penalty.usual))))
    assert base + slope * 100 >= float(penalty(torch.tensor(100.0))) - 1e-6
    assert base >= 0
    assert slope >= 0


def test_the_map_from_features_to_factors_is_the_weighted_ridge_regression():
    dense, sparse = RNG.normal(size=(20, 3)).astype(np.float32), (RNG.random((20, 4)) < 0.5).astype(np.float32)
    factors, weights = RNG.normal(size=(20, 2)), RNG.random(20)
    weights[:5] = 0
    prior = LinearPrior(dense, sp.csr_array(sparse), 2, CPU)
    for _ in range(3):
        prior.fit(torch.from_numpy(factors).float(), torch.from_numpy(weights[:, None]).float())
    features = np.concatenate([dense, sparse], axis=1)
    gram = features.T @ (weights[:, None] * features) + np.eye(7)
    expected = np.linalg.solve(gram, features.T @ (weights[:, None] * factors))
    np.testing.assert_allclose(prior.map_FD.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(prior.means().numpy(), features @ expected, atol=1e-4)


def test_an_item_with_a_prior_solves_the_normal_equations_with_it():
    users, prior = RNG.normal(size=(30, 5)), RNG.normal(size=(14, 5))
    shared, observed = ridge(users, MATRIX.T, SETTINGS)
    actual = torch.zeros((14, 5))
    shared.improve(observed, actual, 40, torch.from_numpy(prior).float())
    expected = solve(MATRIX.T, users, SETTINGS, penalties(MATRIX.T, SETTINGS), prior)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-3)


def cold():
    """Return interactions of two tastes and attributes that distinguish them; the last two items are cold."""
    taste = np.arange(14) % 2
    matrix = ((np.arange(40)[:, None] % 2 == taste) & (RNG.random((40, 14)) < 0.7)) * 1.0
    matrix[:, 12:] = 0
    return matrix, np.stack([taste, 1 - taste], axis=1)


def test_an_item_without_interactions_has_the_factors_that_its_features_say():
    matrix, attributes = cold()
    scores = fit(IalsSettings(embedding_size=4, features=FEATURES), training(matrix, attributes)).score(queries(matrix))
    even, odd = scores[::2], scores[1::2]
    assert (even[:, 12] > even[:, 13] + 0.1).all()
    assert (odd[:, 13] > odd[:, 12] + 0.1).all()


def test_an_item_added_later_scores_as_if_it_had_been_there_without_interactions():
    matrix, attributes = cold()
    ials = IalsSettings(embedding_size=4, features=FEATURES)
    before = fit(ials, training(matrix, attributes))
    later = fit(ials, training(matrix[:, :13], attributes[:13]))
    later.add_items(entities(1, attributes[13:]))
    matrix[0, 13] = 1  # Counts in a history, since it has features.
    torch.testing.assert_close(later.score(queries(matrix)), before.score(queries(matrix)), rtol=1e-4, atol=1e-5)


def test_an_added_item_in_a_history_is_passed_over_without_features():
    head = fit(SETTINGS, training(MATRIX))
    plain = head.score(queries(MATRIX))
    head.add_items(entities(1))
    with_new = np.concatenate([MATRIX, np.ones((30, 1))], axis=1)
    torch.testing.assert_close(head.score(queries(with_new))[:, :-1], plain)
    assert not head.score(queries(with_new))[:, -1].any()


def test_two_threads_give_the_scores_of_one():
    matrix = (RNG.random((800, 300)) < 0.1) * 1.0
    before = torch.get_num_threads()
    actual = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            actual.append(fit(IalsSettings(embedding_size=32, iterations=3), training(matrix)).score(queries(matrix)))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(actual[1], actual[0], rtol=1e-3, atol=1e-3)


def test_another_seed_gives_other_factors():
    heads = [build(ModelConfig(head=SETTINGS)) for _ in range(2)]
    for seed, head in enumerate(heads):
        head.fit(training(MATRIX), Context(CPU, seed=seed))
    assert (heads[0].state()["items"] != heads[1].state()["items"]).any()


def test_equations_that_cannot_be_solved_are_reported():
    with pytest.raises(DivergedError, match=r"head=ials: the normal equations .* a head\.l2 nearer to its default"):
        fit(IalsSettings(embedding_size=40, l2=1e-40), training(MATRIX))


def test_factors_that_are_not_finite_are_reported(monkeypatch):
    monkeypatch.setattr(Ridge, "improve", lambda self, observed, x_RD, *more: x_RD.fill_(torch.nan))
    with pytest.raises(DivergedError, match="head=ials"):
        fit(SETTINGS, training(MATRIX))


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(DataError, match="head=ials: the training split has no interactions"):
        fit(SETTINGS, training(np.zeros((3, 2))))


@pytest.mark.parametrize(("changed", "problem"), [
    ({"embedding_size": 0}, "embedding_size=0: must be at least 1"),
    ({"iterations": 0}, "iterations=0: must be at least 1"),
    ({"l2": 0.0}, "l2=0.0: must be above 0"),
    ({"unobserved_weight": 0.0}, "unobserved_weight=0.0: must be above 0"),
    ({"unobserved_weight": 1.5}, "unobserved_weight=1.5: must be at most 1"),
    ({"frequency_exponent": 1.1}, "frequency_exponent=1.1: must be at most 1")])
def test_settings_out_of_range_are_named(changed, problem):
    assert list(IalsSettings(**changed).problems()) == [problem]
