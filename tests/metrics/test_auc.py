"""AUC against hand-worked numbers, brute force and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from llmrec_cli.metrics.auc import auc_of_counts, binary_auc
from tests.some_slow import num_examples


def test_auc_of_one_relevant_item_above_two_of_three_others_is_two_thirds():
    assert auc_of_counts(np.array([0]), np.array([2]), np.array([1]), np.array([4])) == pytest.approx(2 / 3)


def test_equal_scores_count_half():
    # One relevant and one irrelevant candidate with the same score.
    assert auc_of_counts(np.array([0]), np.array([0]), np.array([2]), np.array([2])) == pytest.approx(0.5)


def test_auc_is_not_defined_without_relevant_or_without_other_candidates():
    values = auc_of_counts(np.array([1, 1]), np.array([0, 1]), np.array([1, 1]), np.array([3, 2, 0]))
    assert np.isnan(values).all()


pairs = st.lists(st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 0.1, 3.0]), st.booleans()), min_size=1, max_size=30)


@given(pairs)
@settings(max_examples=num_examples(500), deadline=None)
def test_binary_auc_is_that_of_scikit_learn_and_of_all_pairs(case):
    scores, liked = (np.array(column) for column in zip(*case, strict=True))
    if liked.all() or not liked.any():
        assert np.isnan(binary_auc(scores, liked))
        return
    wins = [(a > b) + 0.5 * (a == b) for a in scores[liked] for b in scores[~liked]]
    assert binary_auc(scores, liked) == pytest.approx(np.mean(wins), abs=1e-12)
    assert binary_auc(scores, liked) == pytest.approx(roc_auc_score(liked, scores), abs=1e-9)
