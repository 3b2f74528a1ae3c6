"""The scorer that evaluation, recommendation and validation share."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries, known_users
from llmrec_cli.errors import DataError, DivergedError
from llmrec_cli.metrics.hits import ordered_hits
from llmrec_cli.metrics.ranking import recall
from llmrec_cli.scoring.scorer import hits, recommend_lists, validation_values
from llmrec_cli.scoring.topk import item_hash_ranks


def matrix(rows, num_items):
    indptr = np.cumsum([0] + [len(r) for r in rows])
    items = np.array([i for r in rows for i in r], np.int64)
    return sp.csr_array((np.ones(len(items), np.float32), items, indptr), shape=(len(rows), num_items))


def queries_with(seen, num_items):
    ids = np.array([f"u{n}" for n in range(len(seen))], object)
    return known_users(np.arange(len(seen)), ids, matrix(seen, num_items), matrix(seen, num_items))


def fixed(scores):
    """A scorer that looks up the rows of a matrix by the query's user."""
    table = torch.as_tensor(np.asarray(scores), dtype=torch.float32)
    return lambda queries: table[torch.as_tensor(queries.user)]


SCORES = [[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [3, 1, 5, 2, 4]]
SEEN = [[0, 2], [], [4, 0]]


def test_what_a_query_has_seen_is_left_out():
    lists = recommend_lists(fixed(SCORES), queries_with(SEEN, 5), 2, np.arange(5))
    assert lists.items_QK.tolist() == [[1, 3], [4, 3], [2, 3]]
    assert lists.scores_QK.tolist() == [[4, 2], [5, 4], [5, 2]]


def test_seen_items_can_be_included():
    lists = recommend_lists(fixed(SCORES), queries_with(SEEN, 5), 2, np.arange(5), exclude_seen=False)
    assert lists.items_QK.tolist() == [[0, 1], [4, 3], [2, 4]]


def test_only_candidates_are_recommended_and_short_lists_are_not_padded_with_others():
    candidates = np.array([True, False, False, True, False])
    lists = recommend_lists(fixed(SCORES), queries_with(SEEN, 5), 3, np.arange(5), candidates_N=candidates)
    assert lists.items_QK.tolist() == [[3, -1, -1], [3, 0, -1], [3, -1, -1]]


def test_the_block_size_changes_nothing():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 9, (23, 40))
    queries = queries_with([generator.choice(40, 5, replace=False) for _ in range(23)], 40)
    one, many = (recommend_lists(fixed(scores), queries, 7, item_hash_ranks(map(str, range(40))), block_size=size)
                 for size in (1000, 4))
    assert (one.items_QK == many.items_QK).all()
    assert (one.tied_Q == many.tied_Q).all()


def test_scores_that_a_head_shares_between_queries_are_not_written_to():
    row = torch.tensor([3.0, 2.0, 1.0])
    lists = recommend_lists(lambda queries: row.expand(len(queries), 3), queries_with([[0], [1]], 3), 1, np.arange(3))
    assert lists.items_QK.tolist() == [[1], [0]]
    assert row.tolist() == [3, 2, 1]


def test_scores_that_are_not_finite_stop_the_ranking_also_where_they_would_be_masked():
    with pytest.raises(DivergedError):
        recommend_lists(fixed([[math.nan, 1, 2, 3, 4]]), queries_with([[0]], 5), 2, np.arange(5))


def test_no_queries_give_no_lists():
    lists = recommend_lists(fixed(SCORES), queries_with([], 5), 2, np.arange(5))
    assert lists.items_QK.shape == (0, 2)
    assert lists.tie_rate == 0


def test_the_tie_rate_is_the_share_of_lists_that_ties_decided():
    lists = recommend_lists(fixed([[1, 1, 1], [3, 2, 1]]), queries_with([[], []], 3), 2, np.arange(3))
    assert lists.tie_rate == 0.5


def test_hits_are_the_relevant_items_on_the_list_and_padding_never_is_one():
    result = hits(np.array([[3, 1, -1], [0, 2, 4], [1, 0, 2]]), matrix([[1, 0], [], [2]], 5))
    assert result.tolist() == [[False, True, False], [False, False, False], [False, False, True]]


def test_padding_in_a_later_row_does_not_hit_the_last_item_of_the_row_before():
    assert not hits(np.array([[0], [-1]]), matrix([[4], [0]], 5)).any()


def test_hits_do_not_need_sorted_relevant_items():
    assert hits(np.array([[0, 1, 2]]), matrix([[2, 0]], 3)).tolist() == [[True, False, True]]


def test_validation_values_are_of_the_queries_with_relevant_items():
    # u0 has its item at rank 2; u1 has nothing to find and is left out; u2 has it at rank 1.
    values = validation_values(fixed(SCORES), queries_with(SEEN, 5), matrix([[3], [], [2]], 5), "ndcg@10", np.arange(5))
    np.testing.assert_allclose(values, [1 / math.log2(3), 1])


def test_validation_without_anything_relevant_is_a_data_error_and_not_zero():
    with pytest.raises(DataError, match=r"split\.valid"):
        validation_values(fixed(SCORES), queries_with(SEEN, 5), matrix([[], [], []], 5), "ndcg@10", np.arange(5))


def test_a_constant_scorer_scores_like_random():
    """Recall@k of random lists from N items is k / N; over many salts a constant scorer must come out there.

    Items are in order of popularity and the relevant ones are all popular, so ties broken by position would show.
    """
    num_items, k, num_salts, num_queries = 200, 20, 400, 10
    relevant = matrix([range(5)] * num_queries, num_items)
    queries = queries_with([[]] * num_queries, num_items)
    recalls = []
    for salt in range(num_salts):
        ranks = item_hash_ranks(map(str, range(num_items)), str(salt))
        lists = recommend_lists(lambda q: torch.zeros(len(q), num_items), queries, k, ranks)
        assert lists.tie_rate == 1
        recalls.append(recall(ordered_hits(hits(lists.items_QK, relevant), np.full(num_queries, 5), [k])).mean())
    # Hits of 5 relevant items in a sample of 20 of 200 are hypergeometric: variance 5 * .1 * .9 * 195 / 199.
    error = math.sqrt(5 * 0.1 * 0.9 * 195 / 199) / 5 / math.sqrt(num_salts)
    assert abs(np.mean(recalls) - k / num_items) < 4 * error


def test_queries_are_scored_in_the_order_of_the_request():
    asked = []
    def score(queries: Queries) -> torch.Tensor:
        asked.append(list(queries.ids))
        return torch.zeros(len(queries), 3)
    recommend_lists(score, queries_with([[]] * 5, 3), 1, np.arange(3), block_size=2)
    assert asked == [["u0", "u1"], ["u2", "u3"], ["u4"]]
