"""Slices of items and users."""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.slices import ITEM_SLICES, attribute_values, columns_of, item_slices, quantiles, user_slices


def names(counts):
    return [ITEM_SLICES[n] for n in item_slices(np.array(counts))]


def test_of_twenty_items_one_is_head_three_are_mid_and_sixteen_are_tail():
    assert names(range(20, 0, -1)) == ["head"] + ["mid"] * 3 + ["tail"] * 16


def test_items_without_training_interactions_are_cold_and_do_not_count_for_the_shares():
    assert names([0, *range(20, 0, -1), 0]) == ["cold", "head"] + ["mid"] * 3 + ["tail"] * 16 + ["cold"]


def test_equally_popular_items_are_sliced_in_their_order():
    assert names([3] * 20) == ["head"] + ["mid"] * 3 + ["tail"] * 16


def test_the_smallest_catalogue_has_a_head():
    assert names([5, 1]) == ["head", "tail"]
    assert names([0]) == ["cold"]


def test_the_tail_is_four_fifths_for_every_size_of_catalogue():
    for size in range(1, 400):
        assert names([1] * size).count("tail") == size * 80 // 100


def members(lengths):
    return {name: np.flatnonzero(mask).tolist() for name, mask in user_slices(np.array(lengths)).items()}


def test_few_and_many_are_the_lowest_and_highest_third_of_the_users_with_a_history():
    assert members([9, 1, 0, 5, 7, 2, 4]) == {"few": [1, 5], "many": [0, 4], "cold": [2]}


def test_users_with_equally_long_histories_are_sliced_in_their_order():
    assert members([4, 4, 4]) == {"few": [0], "many": [2], "cold": []}


def test_two_users_are_too_few_for_thirds():
    assert members([4, 9]) == {"few": [], "many": [], "cold": []}


def parts(values, number):
    return {name: np.flatnonzero(mask).tolist() for name, mask in quantiles(np.array(values, float), number).items()}


def test_quantiles_are_of_equal_size_and_called_by_their_ends():
    assert parts([5, 1, 2, 9, 7, 3], 3) == {"1-2": [1, 2], "3-5": [0, 5], "7-9": [3, 4]}


def test_equal_values_are_in_one_quantile_and_nan_in_none():
    assert parts([1, 1, 1, 1, 8, np.nan], 4) == {"1": [0, 1, 2, 3], "8": [4]}
    assert parts([np.nan], 2) == {}


def test_an_item_of_two_genres_is_in_the_slice_of_each():
    attributes = sp.csr_array(np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]]))
    masks = attribute_values(attributes, ["genre=a", "genre=b", "year=1"], "genre")
    assert {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()} == {"a": [0], "b": [0, 1]}
    assert columns_of(["genre=a", "genre=b", "year=1"]) == ["genre", "year"]
