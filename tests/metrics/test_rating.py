"""Rating metrics against hand-worked numbers and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, root_mean_squared_error

from llmrec_cli.metrics import rating
from llmrec_cli.metrics.rating import Predictions
from tests.some_slow import num_examples


def rmse(scores, values):
    return math.sqrt(rating.rmse(Predictions(scores, values)).mean())


def mae(scores, values):
    return rating.mae(Predictions(scores, values)).mean()


def logloss(logits, liked):
    return rating.logloss(Predictions(logits, liked)).mean()


def accuracy(logits, liked):
    return rating.accuracy(Predictions(logits, liked)).mean()


def test_rmse_and_mae_of_errors_of_three_and_four():
    predicted, values = np.array([1.0, 8.0], np.float32), np.array([4.0, 4.0])
    assert rmse(predicted, values) == pytest.approx(math.sqrt(12.5))
    assert mae(predicted, values) == pytest.approx(3.5)


def test_logloss_of_a_logit_of_zero_is_log_two_and_zero_foretells_no_like():
    assert logloss(np.zeros(2), np.array([True, False])) == pytest.approx(math.log(2))
    assert accuracy(np.zeros(2), np.array([True, False])) == 0.5


def test_logloss_stays_finite_where_the_probability_rounds_to_zero():
    assert logloss(np.array([-1000.0], np.float32), np.array([True])) == pytest.approx(1000)
    assert logloss(np.array([1000.0], np.float32), np.array([True])) == 0


rated = st.lists(st.tuples(st.floats(-20, 20, width=32), st.floats(0, 5, width=32), st.booleans()), min_size=1,
                 max_size=40)


@given(rated)
@settings(max_examples=num_examples(500), deadline=None)
def test_rating_metrics_are_those_of_scikit_learn(case):
    scores, values, liked = (np.array(column) for column in zip(*case, strict=True))
    assert rmse(scores, values) == pytest.approx(root_mean_squared_error(values, scores), abs=1e-9)
    assert mae(scores, values) == pytest.approx(mean_absolute_error(values, scores), abs=1e-9)
    assert accuracy(scores, liked) == accuracy_score(liked, scores > 0)
    expected = log_loss(liked, 1 / (1 + np.exp(-scores)), labels=[False, True])
    assert logloss(scores, liked) == pytest.approx(expected, abs=1e-6)


def test_precision_recall_and_f1_of_likes_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    pairs = Predictions(generator.normal(size=200), generator.random(200) < 0.4)
    for ours, of in ((rating.precision_pairs, oracle.precision_score), (rating.recall_pairs, oracle.recall_score),
                     (rating.f1_pairs, oracle.f1_score)):
        assert ours(pairs) == pytest.approx(of(pairs.truth_P, pairs.scores_P > 0))
    none = Predictions(-np.ones(3), np.array([True, False, True]))
    assert [rating.precision_pairs(none), rating.recall_pairs(none), rating.f1_pairs(none)] == [0, 0, 0]
