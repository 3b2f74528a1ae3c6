"""EASE and collective EASE against each item's ridge regression on the others."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.heads.base import build
from llmrec_cli.heads.ease import head as module
from llmrec_cli.heads.ease import solvers as ease_forms
from llmrec_cli.heads.shared import matrix_products as gram
from llmrec_cli.settings.head import EaseSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from tests.heads.by_hand import CONTEXT, entities, fit, queries, training
from tests.heads.peak_bytes import PeakBytes

RNG = np.random.default_rng(5)
MATRIX = (RNG.random((40, 12)) < 0.3) * 1.0
ATTRIBUTES = (RNG.random((12, 5)) < 0.4) * 1
FEATURES = FeatureWeightsSettings(attributes=2.0)
FORMS = ("primal", "dual")

VALUES = MATRIX * RNG.choice([1.0, 3.0, 20.0], MATRIX.shape)
WEIGHTS = VALUES / VALUES[VALUES > 0].mean()

every_form = pytest.mark.parametrize("form", FORMS)


def by_column(rows, l2_N):
    """Return the weights with zero diagonal: each item's ridge regression on all others, one item at a time."""
    num_items = rows.shape[1]
    weights = np.zeros((num_items, num_items))
    for item in range(num_items):
        others = np.arange(num_items) != item
        rest = rows[:, others]
        gram = rest.T @ rest + np.diag(np.broadcast_to(l2_N, num_items)[others])
        weights[others, item] = np.linalg.solve(gram, rest.T @ rows[:, item])
    return weights


def as_users(attributes, weight):
    """Return attributes as additional rows: normalised per item, times their weight."""
    norm = np.maximum(np.sqrt(attributes.sum(axis=1, keepdims=True)), 1)
    return weight * (attributes / norm).T


def scores(ease, matrix, history, attributes=None):
    return fit(ease, training(matrix, attributes)).score(queries(history)).numpy()


def test_two_items_that_always_go_together():
    # X = [[1, 1]] * 3, l2 = 1: G = [[4, 3], [3, 4]], P = [[4, -3], [-3, 4]] / 7, B = 3/4 off the diagonal.
    actual = scores(EaseSettings(l2=1), np.ones((3, 2)), np.array([[1, 0], [0, 1], [1, 1]]))
    np.testing.assert_allclose(actual, [[0, 0.75], [0.75, 0], [0.75, 0.75]], rtol=1e-5)


@every_form
@pytest.mark.parametrize("l2", [1.0, 50.0])
def test_scores_are_the_ridge_regressions_of_each_item_on_the_others(l2, form):
    np.testing.assert_allclose(scores(EaseSettings(l2=l2, form=form), MATRIX, MATRIX), MATRIX @ by_column(MATRIX, l2),
                               atol=1e-5)


@every_form
def test_a_feature_counts_as_one_more_user_with_its_items(form):
    rows = np.concatenate([MATRIX, as_users(ATTRIBUTES, 2.0)])
    actual = scores(EaseSettings(l2=5, features=FEATURES, form=form), MATRIX, MATRIX, ATTRIBUTES)
    np.testing.assert_allclose(actual, MATRIX @ by_column(rows, 5), atol=1e-5)


@every_form
def test_with_weights_each_items_weight_is_regressed_on_those_of_the_others(form):
    actual = scores(EaseSettings(l2=5, form=form), VALUES, VALUES)
    np.testing.assert_allclose(actual, WEIGHTS @ by_column(WEIGHTS, 5), atol=1e-4)


def test_with_weights_the_penalty_grows_with_the_sum_of_their_squares():
    square_N = (WEIGHTS**2).sum(axis=0)
    l2_N = 5 * square_N.mean() * (square_N / square_N.mean())**0.5
    actual = scores(EaseSettings(l2_exponent=0.5, form="primal"), VALUES, VALUES)
    np.testing.assert_allclose(actual, WEIGHTS @ by_column(WEIGHTS, l2_N), atol=1e-4)


def test_a_purchase_that_counts_a_hundred_views_changes_who_comes_first():
    # Two users of item 0 viewed item 1, one bought item 2: as ones item 1 is ahead, with the weights item 2 is.
    plain = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1.0]])
    bought = plain * np.array([1, 1, 100])
    one, hundred = (scores(EaseSettings(l2=1), matrix, np.array([[1.0, 0, 0]]))[0] for matrix in (plain, bought))
    assert one[1] > one[2]
    assert hundred[1] < hundred[2]


@every_form
def test_penalties_grow_with_popularity_and_weights_fall_with_the_length_of_a_history(form):
    count_N, length_U = MATRIX.sum(axis=0), MATRIX.sum(axis=1)
    assert count_N.min() > 0
    l2_N = 5 * (count_N / count_N.mean())**0.5
    average = length_U.sum() / (length_U > 0).sum()
    rows = (np.maximum(length_U, 1) / average)[:, None]**-0.2 * MATRIX
    actual = scores(EaseSettings(l2=5, l2_exponent=0.5, user_exponent=0.4, form=form), MATRIX, MATRIX)
    np.testing.assert_allclose(actual, MATRIX @ by_column(rows, l2_N), atol=1e-5)


def test_the_penalty_grows_with_the_data_unless_it_is_given():
    average = MATRIX.sum() / 12
    np.testing.assert_array_equal(scores(EaseSettings(), MATRIX, MATRIX),
                                  scores(EaseSettings(l2=float(5 * average)), MATRIX, MATRIX))


@every_form
def test_the_size_of_the_blocks_changes_nothing(form, monkeypatch):
    expected = MATRIX @ by_column(np.concatenate([MATRIX, as_users(ATTRIBUTES, 2.0)]), 5)
    monkeypatch.setattr(gram, "DENSE_BYTES", 1)
    monkeypatch.setattr(gram, "FEWEST", 5)
    monkeypatch.setattr(gram, "MIRRORED_AT_ONCE", 5)
    monkeypatch.setattr(ease_forms, "BLOCK_ITEMS", 5)
    monkeypatch.setattr(ease_forms, "BLOCK_QUERIES", 2)
    actual = scores(EaseSettings(l2=5, features=FEATURES, form=form), MATRIX, MATRIX, ATTRIBUTES)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), num_users=st.integers(1, 30), num_items=st.integers(1, 30),
       density=st.floats(0.05, 0.9), l2=st.floats(0.5, 500), l2_exponent=st.floats(0, 1), user_exponent=st.floats(0, 1),
       weight=st.floats(0, 8))
@settings(max_examples=60, deadline=None)
def test_primal_and_dual_give_the_same_scores(seed, num_users, num_items, density, l2, l2_exponent, user_exponent,
                                              weight):
    rng = np.random.default_rng(seed)
    matrix = (rng.random((num_users, num_items)) < density) * 1
    attributes = (rng.random((num_items, 4)) < 0.4) * 1
    variants = [EaseSettings(l2=l2, l2_exponent=l2_exponent, user_exponent=user_exponent, form=form,
                         features=FeatureWeightsSettings(attributes=weight)) for form in FORMS]
    heads = [fit(ease, training(matrix, attributes)) for ease in variants]
    for head in heads:
        head.add_items(entities(2, (rng.random((2, 4)) < 2) * 1))
    wider = queries(np.concatenate([matrix, np.ones((num_users, 2))], axis=1))
    primal, dual = (head.score(wider).numpy() for head in heads)
    np.testing.assert_allclose(dual, primal, atol=1e-4)


@pytest.mark.parametrize(("num_users", "num_items", "form"), [
    (40, 12, "Primal"), (12, 40, "Dual"), (10, 12, "Primal"), (8, 12, "Dual")])
def test_the_form_with_the_smaller_matrix_is_chosen(num_users, num_items, form):
    matrix = (RNG.random((num_users, num_items)) < 0.4) * 1
    assert type(fit(EaseSettings(), training(matrix)).form).__name__ == form


@every_form
def test_dense_features_such_as_text_vectors_count_as_users(form, shop):
    head = shop.fit(shop.config(EaseSettings(l2=5, features=FeatureWeightsSettings(text=3.0, words=2.0), form=form)))
    features, matrix = head.features, shop.data.part("train").matrix.toarray()
    rows = np.concatenate([matrix, features.sparse_NF.toarray().T, features.dense_ND.T])
    expected = matrix @ by_column(rows.astype(float), 5)
    np.testing.assert_allclose(head.score(shop.known_users()).numpy(), expected, atol=1e-4)
    assert head.text_vectors.shape == (44, features.dense_ND.shape[1])


@every_form
def test_a_loaded_model_scores_the_same_bits_also_with_new_items(form):
    data = training(MATRIX, ATTRIBUTES)
    ease = EaseSettings(l2=5, features=FEATURES, form=form)
    head, loaded = fit(ease, data), build(ModelConfig(head=ease))
    loaded.load(head.state(), data.users, data.items, CONTEXT)
    for one in (head, loaded):
        one.add_items(entities(1, np.array([[1, 0, 1, 0, 1]])))
    wider = queries(np.concatenate([MATRIX, np.zeros((len(MATRIX), 1))], axis=1))
    assert torch.equal(head.score(wider), loaded.score(wider))


@every_form
def test_an_item_added_later_scores_as_if_it_had_been_there_without_interactions(form):
    new = np.array([[1, 0, 1, 0, 1]])
    later = fit(EaseSettings(l2=5, features=FEATURES, form=form), training(MATRIX, ATTRIBUTES))
    later.add_items(entities(1, new))
    wider = np.concatenate([MATRIX, np.zeros((len(MATRIX), 1))], axis=1)
    before = fit(EaseSettings(l2=5, features=FEATURES, form=form), training(wider, np.concatenate([ATTRIBUTES, new])))
    actual, expected = later.score(queries(wider)).numpy(), before.score(queries(wider)).numpy()
    assert np.abs(expected[:, -1]).max() > 0.01
    np.testing.assert_allclose(actual[:, -1], expected[:, -1], atol=1e-5)


def test_an_added_item_with_attributes_that_nobody_knows_scores_zero():
    head = fit(EaseSettings(l2=5, features=FEATURES), training(MATRIX, ATTRIBUTES))
    stranger = entities(1, np.array([[1]]))
    stranger.attribute_names[:] = ["a=unheard of"]
    head.add_items(stranger)
    wider = np.concatenate([MATRIX, np.zeros((len(MATRIX), 1))], axis=1)
    assert not head.score(queries(wider))[:, -1].any()


def test_an_added_item_in_a_history_is_passed_over():
    head = fit(EaseSettings(l2=5), training(MATRIX))
    plain = head.score(queries(MATRIX))
    head.add_items(entities(1))
    with_new = np.concatenate([MATRIX, np.ones((len(MATRIX), 1))], axis=1)
    assert torch.equal(head.score(queries(with_new))[:, :-1], plain)


@pytest.mark.parametrize(("form", "num_users", "num_items"), [("primal", 1500, 2500), ("dual", 1000, 3000)])
def test_the_estimated_memory_is_the_peak_of_the_allocations(form, num_users, num_items):
    fit(EaseSettings(form=form), training(np.eye(8)))  # Imports at first use are not part of the fit.
    data = training(np.random.default_rng(2).random((num_users, num_items), np.float32) < 0.01)
    data.interactions.matrix  # noqa: B018
    head = build(ModelConfig(head=EaseSettings(form=form)))
    estimate = head.estimate_memory(data)
    with PeakBytes() as allocated:
        head.fit(data, CONTEXT)
    assert 0.8 < estimate / allocated.peak < 1.25


def test_a_catalogue_that_does_not_fit_into_memory_is_refused_before_anything_is_computed(monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(ResourceError, match=r"head=ease: 12 items and 40 users need .* choose head=item_knn, or"):
        fit(EaseSettings(), training(MATRIX))


@every_form
@pytest.mark.parametrize("l2", [1e-7, 1e-20])
def test_a_penalty_too_small_to_solve_is_refused_with_one_that_works(l2, form):
    # The first two items always go together, so without a penalty each is the other.
    matrix = np.column_stack([MATRIX[:, 0], MATRIX])
    if form == "dual" and l2 == 1e-7:
        # Double precision separates them: each is explained by the other only.
        actual = scores(EaseSettings(l2=l2, form=form), matrix, np.eye(13))
        assert (actual[0].argmax(), actual[1].argmax()) == (1, 0)
        return
    with pytest.raises(ConfigError, match=rf"head.l2={l2}: too small .* set head.l2=1 or more") as raised:
        scores(EaseSettings(l2=l2, form=form), matrix, matrix)
    assert ("head.form=dual" in str(raised.value)) == (form == "primal")


def test_a_small_penalty_is_solved_where_no_item_is_explained_by_others():
    np.testing.assert_allclose(scores(EaseSettings(l2=1e-7, form="primal"), MATRIX, MATRIX),
                               MATRIX @ by_column(MATRIX, 1e-7),
                               atol=1e-4)
