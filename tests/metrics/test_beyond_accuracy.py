"""Coverage, popularity and diversity against hand-worked numbers."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmrec_cli.metrics import beyond_accuracy as beyond
from llmrec_cli.metrics.lists import (
    RecommendedLists,
    VectorLists,
    WeightedHits,
    exposure,
    group_shares,
    inverse_propensity,
)

COUNTS = np.array([8, 4, 2, 2, 0])
LISTS = np.array([[0, 1], [0, 4], [3, -1], [-1, -1]])


def lists(items, counts=None, num_items=None):
    """Whole lists, all items candidates."""
    num_items = len(counts) if num_items is None else num_items
    return RecommendedLists(items, counts, np.ones(num_items, bool), [items.shape[1]])


def coverage(items, num_items):
    return beyond.coverage(lists(items, num_items=num_items))[0]


def gini(items, num_items):
    return beyond.gini(lists(items, num_items=num_items))[0]


def novelty(items, counts):
    return beyond.novelty(lists(items, counts))[:, 0]


def arp(items, counts):
    return beyond.arp(lists(items, counts))[:, 0]


def diversity(items, vectors, cutoffs):
    return beyond.diversity(VectorLists(items, vectors, cutoffs))


def weighted_recall(hits, items, relevant, weights, cutoffs):
    weighted = WeightedHits(hits, items, relevant, weights, cutoffs)
    return weighted.recall_QC, weighted.total_Q


def test_coverage_is_the_share_of_the_catalogue_on_any_list():
    assert coverage(LISTS, 5) == pytest.approx(4 / 5)


def test_exposure_counts_lists_and_not_padding():
    assert exposure(LISTS, 5).tolist() == [2, 1, 0, 1, 1]


def test_gini_is_zero_when_all_items_are_shown_equally_often():
    assert gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)


def test_gini_of_one_item_shown_to_everybody_is_three_quarters_of_four_items():
    assert gini(np.array([[2], [2], [2]]), 4) == pytest.approx(3 / 4)


def test_gini_of_nothing_recommended_is_undefined():
    assert math.isnan(gini(np.array([[-1]]), 4))


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.integers(0, 6)))
def test_gini_equals_the_mean_absolute_difference_of_all_pairs(items):
    counts = np.bincount(items.ravel(), minlength=7)
    expected = np.abs(counts[:, None] - counts[None]).mean() / 2 / counts.mean()
    assert gini(items, 7) == pytest.approx(expected)


def test_novelty_is_the_mean_information_in_bits_and_a_cold_item_counts_as_seen_once():
    # shares of 16: 8 -> 1 bit, 4 -> 2 bits, 2 -> 3 bits, 1 (cold) -> 4 bits
    assert novelty(LISTS, COUNTS)[:3].tolist() == [1.5, 2.5, 3.0]


def test_an_empty_list_has_no_average():
    for values in (novelty(LISTS, COUNTS), arp(LISTS, COUNTS), beyond.tail_share(lists(LISTS, COUNTS))[:, 0]):
        assert np.isnan(values).tolist() == [False, False, False, True]


def test_arp_is_the_mean_training_count_of_the_items_on_the_list():
    assert arp(LISTS, COUNTS)[:3].tolist() == [6, 4, 2]


def test_tail_share_is_the_share_of_the_list_and_not_of_its_padding():
    # Of four items in training the first is head and none is mid.
    assert beyond.tail_share(lists(LISTS, COUNTS))[:3, 0].tolist() == [0.5, 0, 1]


ATTRIBUTES = sp.csr_array(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], float))


def test_diversity_is_one_minus_the_mean_cosine_of_all_pairs():
    # pairs of [0, 1, 2]: cos(0, 1) = 1 / sqrt(2), the others 0
    values = diversity(np.array([[0, 1, 2], [0, 3, -1], [1, 4, -1], [2, -1, -1]]), ATTRIBUTES, [3])[:, 0]
    assert values[:3] == pytest.approx([1 - 1 / math.sqrt(2) / 3, 0, 1])
    assert math.isnan(values[3])


def test_dense_vectors_give_the_diversity_of_sparse_ones_at_every_length():
    lists = np.array([[0, 1, 2], [0, 3, -1], [1, 4, -1], [2, -1, -1]])
    sparse = diversity(lists, ATTRIBUTES, [1, 2, 3])
    np.testing.assert_allclose(diversity(lists, ATTRIBUTES.toarray(), [1, 2, 3]), sparse, atol=1e-6)
    assert diversity(lists, ATTRIBUTES, [2, 3])[0] == pytest.approx([1 - 1 / math.sqrt(2), 1 - 1 / math.sqrt(2) / 3])


def test_inverse_propensity_recall_counts_a_rare_item_for_more():
    # counts 4 and 1, exponent .5: weights 1/2 and 1
    weights = inverse_propensity(np.array([4, 1, 0]), 0.5)
    assert weights.tolist() == [0.5, 1, 1]
    relevant = sp.csr_array(np.array([[1, 1, 0], [1, 0, 0]], np.float32))
    lists = np.array([[0, 2], [0, -1]])
    hits = np.array([[True, False], [True, False]])
    recall, weight = weighted_recall(hits, lists, relevant, weights, [1, 5])
    assert recall[:, 1] == pytest.approx([0.5 / 1.5, 1])
    # Steck 2011: the weight of all users' hits, 1, divided by the weight of all their relevant items, 2.
    assert recall[:, 1] @ weight / weight.sum() == pytest.approx(1 / 2)


def test_exponent_zero_makes_it_plain_recall():
    relevant = sp.csr_array(np.array([[1, 1, 1]], np.float32))
    recall, _ = weighted_recall(np.array([[True, False]]), np.array([[2, 0]]), relevant,
                               inverse_propensity(np.array([9, 2, 4]), 0), [2])
    assert recall[0, 0] == pytest.approx(1 / 3)


def test_shares_of_groups_add_up_to_one_and_higher_places_count_more():
    groups = sp.csr_array(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], float))
    relevant = sp.csr_array(np.array([[0, 1, 0, 0]], np.float32))
    shares = group_shares(np.array([[0, 1]]), groups, np.array([3, 1, 4, 9]), relevant)
    second = 1 / math.log2(3)
    assert shares["exposure"] == pytest.approx([1 / (1 + second), second / (1 + second)])
    assert shares["catalogue"] == pytest.approx([0.5, 0.5])
    assert shares["training"] == pytest.approx([5 / 8, 3 / 8])
    assert shares["held_out"] == pytest.approx([0, 1])
