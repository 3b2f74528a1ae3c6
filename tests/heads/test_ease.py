"""EASE and collective EASE against the closed form written out densely."""

import numpy as np
import pytest
import torch

from llmrec_cli.errors import ResourceError
from llmrec_cli.heads import ease as module
from llmrec_cli.settings.head import Ease
from llmrec_cli.settings.heads.features import FeatureWeights
from tests.heads.by_hand import entities, fit, queries, training

RNG = np.random.default_rng(5)
MATRIX = (RNG.random((40, 12)) < 0.3) * 1.0
ATTRIBUTES = (RNG.random((12, 5)) < 0.4) * 1
FEATURES = FeatureWeights(attributes=2.0)


def closed_form(rows, l2):
    """Return the weights (Steck 2019, eq. 8) with zero diagonal for the rows (users, and features as users)."""
    inverse = np.linalg.inv(rows.T @ rows + l2 * np.eye(rows.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def as_users(attributes, weight):
    """Return attributes as further rows: normalised per item, times their weight."""
    norm = np.maximum(np.sqrt(attributes.sum(axis=1, keepdims=True)), 1)
    return weight * (attributes / norm).T


def scores(settings, matrix, history, attributes=None):
    return fit(settings, training(matrix, attributes)).score(queries(history)).numpy()


def test_two_items_that_always_go_together():
    # X = [[1, 1]] * 3, l2 = 1: G = [[4, 3], [3, 4]], P = [[4, -3], [-3, 4]] / 7, B = 3/4 off the diagonal.
    found = scores(Ease(l2=1), np.ones((3, 2)), np.array([[1, 0], [0, 1], [1, 1]]))
    np.testing.assert_allclose(found, [[0, 0.75], [0.75, 0], [0.75, 0.75]], rtol=1e-5)


@pytest.mark.parametrize("l2", [1.0, 50.0])
def test_scores_are_those_of_the_closed_form(l2):
    np.testing.assert_allclose(scores(Ease(l2=l2), MATRIX, MATRIX), MATRIX @ closed_form(MATRIX, l2), atol=1e-5)


def test_a_feature_is_one_more_user_with_the_items_that_have_it():
    rows = np.concatenate([MATRIX, as_users(ATTRIBUTES, 2.0)])
    found = scores(Ease(l2=5, features=FEATURES), MATRIX, MATRIX, ATTRIBUTES)
    np.testing.assert_allclose(found, MATRIX @ closed_form(rows, 5), atol=1e-5)


def test_an_item_added_later_scores_as_if_it_had_been_there_without_interactions():
    new = np.array([[1, 0, 1, 0, 1]])
    later = fit(Ease(l2=5, features=FEATURES), training(MATRIX, ATTRIBUTES))
    later.add_items(entities(1, new))
    wider = np.concatenate([MATRIX, np.zeros((len(MATRIX), 1))], axis=1)
    before = fit(Ease(l2=5, features=FEATURES), training(wider, np.concatenate([ATTRIBUTES, new])))
    found, wanted = later.score(queries(wider)).numpy(), before.score(queries(wider)).numpy()
    assert np.abs(wanted[:, -1]).max() > 0.01
    np.testing.assert_allclose(found[:, -1], wanted[:, -1], atol=1e-5)


def test_an_added_item_with_attributes_that_nobody_knows_scores_zero():
    head = fit(Ease(l2=5, features=FEATURES), training(MATRIX, ATTRIBUTES))
    stranger = entities(1, np.array([[1]]))
    stranger.attribute_names[:] = ["a=unheard of"]
    head.add_items(stranger)
    wider = np.concatenate([MATRIX, np.zeros((len(MATRIX), 1))], axis=1)
    assert not head.score(queries(wider))[:, -1].any()


def test_an_added_item_in_a_history_is_passed_over():
    head = fit(Ease(l2=5), training(MATRIX))
    plain = head.score(queries(MATRIX))
    head.add_items(entities(1))
    with_new = np.concatenate([MATRIX, np.ones((len(MATRIX), 1))], axis=1)
    assert torch.equal(head.score(queries(with_new))[:, :-1], plain)


def test_a_catalogue_that_does_not_fit_into_memory_is_refused_before_anything_is_computed(monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(ResourceError, match=r"head=ease: 12 items need .* choose head=item_knn, or prepare fewer"):
        fit(Ease(), training(MATRIX))
