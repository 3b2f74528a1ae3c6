"""Slices of items and users."""

import numpy as np

from llmrec_cli.metrics.slices import ITEM_SLICES, item_slices, restrict, user_slices


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


def test_a_slice_keeps_the_ranks_of_its_hits_and_drops_the_others():
    slices = item_slices(np.array([9, 5, 0]))  # head, tail, cold
    hits, items = np.array([[True, True, False, False]]), np.array([[1, 0, 2, -1]])
    assert restrict(hits, items, slices, "head").tolist() == [[False, True, False, False]]
    assert restrict(hits, items, slices, "tail").tolist() == [[True, False, False, False]]
