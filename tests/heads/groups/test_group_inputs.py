"""Inputs of group models: sums over members, members' other groups, and overlapping groups."""

import numpy as np
import torch

from llmrec_cli.heads.groups.inputs import Bags, Past, inputs_of, without
from llmrec_cli.heads.groups.model import GroupModel, Sizes
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings
from tests.heads.group_shop import csr

CPU = torch.device("cpu")
# Users 0, 1, 2; groups A = {0, 1} who chose items 0 and 1, and B = {1, 2} who chose item 2.
PAST = Past(csr([[0, 1], [1, 2]], 3), csr([[0, 1], [2]], 4))
ITEMS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [5.0, 5.0]])


def plain() -> GroupModel:
    """Return a model whose member vectors are plain sums, with ids 0."""
    model = GroupModel(Sizes(3, 2, 0, 0, 0, 0), TrainedGroupsSettings(embedding_size=2), np.ones(4, int),
                       np.ones(4, int))
    with torch.no_grad():
        model.user_ids.weight.zero_()
        model.group_ids.weight.zero_()
    return model.eval()


def test_entries_are_left_out_by_their_place_and_the_order_of_the_others_stays():
    matrix = csr([[3, 1], [], [0, 2, 1]], 4)
    rest = without(matrix, np.array([0, 3]))
    assert rest.indices.tolist() == [1, 0, 1]
    assert rest.indptr.tolist() == [0, 1, 1, 3]
    assert rest.shape == (3, 4)


def test_a_bag_sums_the_vectors_that_its_row_names_and_an_empty_one_is_zero():
    bags = Bags.of(csr([[0, 2], []], 4), CPU)
    assert bags.sums(ITEMS).tolist() == [[3.0, 2.0], [0.0, 0.0]]
    assert bags.means(ITEMS).tolist() == [[1.5, 1.0], [0.0, 0.0]]
    np.testing.assert_allclose(bags.scaled_sums(ITEMS)[0], np.array([3, 2]) / np.sqrt(2), rtol=1e-6)


def test_a_member_of_a_known_group_brings_interactions_with_other_groups_only():
    # The query is group A: user 0 is in no other group; user 1 chose item 2 with B. User 0 alone chose item 3.
    rows, histories = csr([[0, 1]], 2), csr([[3], []], 4)
    inputs = inputs_of(PAST, rows, np.array([0, 1]), histories, csr([[0, 1]], 4), np.array([0]), CPU)
    assert inputs.is_own.tolist() == [True, True]
    assert plain().members(inputs, ITEMS).tolist() == [[5.0, 5.0], [2.0, 2.0]]


def test_an_ad_hoc_member_brings_all_interactions_over_the_root_of_their_number():
    inputs = inputs_of(PAST, csr([[0]], 1), np.array([1]), csr([[]], 4), csr([[]], 4), np.array([-1]), CPU)
    # User 1 chose items 0 and 1 with A and item 2 with B: their sum over the root of 3.
    np.testing.assert_allclose(plain().members(inputs, ITEMS).detach()[0], np.array([3, 3]) / np.sqrt(3), rtol=1e-6)


def test_a_guest_of_a_known_group_keeps_all_interactions():
    # User 2 is not in A, so A's history is not subtracted from what user 2 did with B.
    inputs = inputs_of(PAST, csr([[0]], 1), np.array([2]), csr([[]], 4), csr([[]], 4), np.array([0]), CPU)
    assert inputs.is_own.tolist() == [False]
    assert plain().members(inputs, ITEMS).tolist() == [[2.0, 2.0]]


def test_an_unknown_member_has_a_history_and_no_groups():
    inputs = inputs_of(PAST, csr([[0, 1]], 2), np.array([-1, 0]), csr([[3], []], 4), csr([[]], 4), np.array([-1]), CPU)
    vectors = plain().members(inputs, ITEMS).detach()
    assert vectors[0].tolist() == [5.0, 5.0]
    np.testing.assert_allclose(vectors[1], np.array([1, 1]) / np.sqrt(2), rtol=1e-6)


def test_overlaps_count_shared_members_without_the_query_group():
    rows, user = csr([[0, 1], [0, 1]], 2), np.array([0, 1])
    inputs = inputs_of(PAST, rows, user, csr([[], []], 4), csr([[], []], 4), np.array([0, -1]), CPU)
    dense = np.zeros((2, 2))
    for query in range(2):
        start, stop = inputs.overlap.indptr[query:query + 2].tolist()
        dense[query, inputs.overlap.indices[start:stop]] = inputs.overlap.weights[start:stop]
    assert dense.tolist() == [[0.0, 1.0], [2.0, 1.0]]


def test_a_steps_targets_are_hidden_from_the_group_and_from_overlapping_groups():
    # The first entry of the past is (A, item 0): without it user 1 brings only A's item 1 to other groups.
    past = PAST.without(np.array([0]))
    inputs = inputs_of(past, csr([[0]], 1), np.array([1]), csr([[]], 4), csr([[2]], 4), np.array([1]), CPU)
    assert plain().members(inputs, ITEMS).tolist() == [[0.0, 1.0]]


def test_sums_by_query_skip_a_query_without_members():
    inputs = inputs_of(PAST, csr([[0], [], [0, 1]], 2), np.array([0, 1]), csr([[], []], 4), csr([[], [], []], 4),
                       np.array([-1, -1, -1]), CPU)
    summed = inputs.by_query(torch.tensor([[1.0], [2.0], [4.0]]))
    assert summed.tolist() == [[1.0], [0.0], [6.0]]
    assert inputs.sizes.tolist() == [1.0, 0.0, 2.0]


def test_biases_start_at_the_logarithm_of_counts_and_a_later_item_where_one_never_chosen_starts():
    model = GroupModel(Sizes(1, 1, 0, 0, 0, 0), TrainedGroupsSettings(embedding_size=2), np.array([0, 3]),
                       np.array([1, 0]))
    bias = model.bias(3).detach().numpy()
    np.testing.assert_allclose(bias[1] - bias[0], np.log(4), rtol=1e-6)
    assert bias[2] == bias[0]
    assert model.user_bias(3)[2] == model.user_bias_N[1]
