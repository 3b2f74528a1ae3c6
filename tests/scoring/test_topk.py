"""Top-k, deterministic for tied scores."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmrec_cli.errors import DivergedError
from llmrec_cli.scoring.topk import item_hash_ranks, require_finite, topk, topk_cpu


def top(scores, k, ranks=None):
    """Return items, scores and ties of the top k, after checking that both functions agree."""
    scores = np.asarray(scores, np.float32)
    ranks = np.arange(scores.shape[1]) if ranks is None else np.asarray(ranks)
    result = topk(torch.from_numpy(scores), k, torch.from_numpy(ranks))
    limit = np.sort(scores, axis=1)[:, max(0, scores.shape[1] - k)]
    other = topk_cpu(scores + 0, k, ranks, np.argsort(ranks), limit)
    for name in ("items_QK", "scores_QK", "tied_Q", "last_size_Q"):
        np.testing.assert_array_equal(getattr(other, name), getattr(result, name), name)
    return result.items_QK.tolist(), result.scores_QK.tolist(), result.tied_Q.tolist()


def test_the_best_k_come_in_descending_order():
    assert top([[0.1, 0.9, 0.5, 0.7]], 3)[0] == [[1, 3, 2]]


def test_equal_scores_are_ordered_by_hash_rank():
    assert top([[1, 1, 2, 1]], 4, [3, 1, 2, 0])[0] == [[2, 3, 1, 0]]


def test_the_tie_across_the_end_of_the_list_is_decided_by_hash_rank():
    assert top([[1, 1, 2, 1, 1]], 2, [4, 3, 2, 0, 1])[0] == [[2, 3]]


def test_negative_zero_ties_with_zero():
    assert top([[0.0, -0.0]], 1, [1, 0])[0] == [[1]]


def test_masked_items_never_appear_and_short_lists_are_padded():
    items, values, _ = top([[1, -torch.inf, 3]], 3)
    assert items == [[2, 0, -1]]
    assert values == [[3, 1, -torch.inf]]


def test_a_list_longer_than_the_catalogue_is_padded():
    assert top([[1, 2]], 4)[0] == [[1, 0, -1, -1]]


def test_a_row_of_masked_items_gives_an_empty_list_without_ties():
    assert top([[-torch.inf] * 3], 2) == ([[-1, -1]], [[-torch.inf, -torch.inf]], [False])


def test_ties_count_across_the_end_of_the_list_but_not_below_it():
    assert top([[4, 3, 1, 1], [4, 3, 3, 1], [4, 4, 3, 1]], 2)[2] == [False, True, True]


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)),
                  elements=st.sampled_from([-np.inf, -1, 0, 0.5, 2])), st.integers(1, 14), st.randoms())
def test_topk_equals_sorting_every_row_by_score_and_hash_rank(scores, k, random):
    ranks = list(range(scores.shape[1]))
    random.shuffle(ranks)
    expected = [sorted((n for n in range(len(row)) if row[n] > -np.inf), key=lambda n, row=row: (-row[n], ranks[n]))[:k]
                for row in scores]
    assert top(scores, k, ranks)[0] == [row + [-1] * (k - len(row)) for row in expected]


def test_hash_ranks_are_a_permutation_that_depends_on_the_salt_alone():
    ids = np.array([f"item {n}" for n in range(200)], object)
    ranks = item_hash_ranks(ids)
    assert sorted(ranks) == list(range(200))
    assert (item_hash_ranks(ids) == ranks).all()
    assert (item_hash_ranks(ids, "other") != ranks).any()
    assert (item_hash_ranks(ids[::-1])[::-1] == ranks).all()


def test_hash_ranks_do_not_depend_on_the_python_process():
    # BLAKE2b-64 of "llmreca", "llmrecb", "llmrecc", "llmrecd" computed with b2sum -l 64.
    assert item_hash_ranks(["a", "b", "c", "d"]).tolist() == [3, 0, 2, 1]


def test_hash_ranks_follow_neither_position_nor_id():
    ranks = item_hash_ranks([f"{n:04}" for n in range(2000)])
    assert abs(np.corrcoef(ranks, np.arange(2000))[0, 1]) < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_with_exit_code_6(bad):
    with pytest.raises(DivergedError, match="1 of 4 scores") as error:
        require_finite(torch.tensor([[1.0, 2.0], [bad, 3.0]]), "queries 0 to 1")
    assert error.value.exit_code == 6
