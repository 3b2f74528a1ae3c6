"""Coverage, popularity and variety, with numbers worked by hand."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmrec_cli.metrics.beyond_accuracy import arp, coverage, diversity, exposure, gini, novelty, tail_share

COUNTS = np.array([8, 4, 2, 2, 0])
LISTS = np.array([[0, 1], [0, 4], [3, -1], [-1, -1]])


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
    for values in (novelty(LISTS, COUNTS), arp(LISTS, COUNTS), tail_share(LISTS, COUNTS < 3)):
        assert np.isnan(values).tolist() == [False, False, False, True]


def test_arp_is_the_mean_training_count_of_the_items_on_the_list():
    assert arp(LISTS, COUNTS)[:3].tolist() == [6, 4, 2]


def test_tail_share_is_the_share_of_the_list_and_not_of_its_padding():
    assert tail_share(LISTS, np.array([0, 0, 1, 1, 0], bool))[:3].tolist() == [0, 0, 1]


ATTRIBUTES = sp.csr_array(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], float))


def test_diversity_is_one_minus_the_mean_cosine_of_all_pairs():
    # pairs of [0, 1, 2]: cos(0, 1) = 1 / sqrt(2), the others 0
    values = diversity(np.array([[0, 1, 2], [0, 3, -1], [1, 4, -1], [2, -1, -1]]), ATTRIBUTES)
    assert values[:3] == pytest.approx([1 - 1 / math.sqrt(2) / 3, 0, 1])
    assert math.isnan(values[3])
