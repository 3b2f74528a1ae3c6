"""The scorer on generated cases, compared with loops: lists, masks, ties and AUC, for any block and chunk size."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from llmrec_cli.data.queries import Queries
from llmrec_cli.errors import DivergedError
from llmrec_cli.scoring import blocks
from llmrec_cli.scoring.blocks import Allowed, _rank_on_device, rank_block
from llmrec_cli.scoring.scorer import pair_scores, recommend_lists
from tests.scoring.oracle import auc, candidates_of, cases, csr, fixed, queries_of
from tests.some_slow import num_examples


def listed(case, block_size=1024, given=True):
    scores, seen, relevant, chosen, k, ranks = case
    return recommend_lists(fixed(scores), queries_of(seen), k, np.array(ranks), block_size=block_size,
                           candidates_QN=csr(chosen) if given else None, relevant_QN=csr(relevant))


@given(cases(), st.booleans(), st.integers(1, 5))
@settings(max_examples=num_examples(500), deadline=None)
def test_lists_are_the_candidates_by_score_then_hash_rank_never_padded(case, given, block_size):
    scores, _, _, _, k, ranks = case
    lists = listed(case, block_size, given)
    for row in range(len(scores)):
        ordered = sorted(candidates_of(row, case, given), key=lambda n: (-scores[row, n], ranks[n]))
        top, rest = ordered[:k], ordered[k:]
        assert lists.items_QK[row].tolist() == top + [-1] * (k - len(top))
        assert lists.scores_QK[row].tolist() == [scores[row, n] for n in top] + [-np.inf] * (k - len(top))
        values = [scores[row, n] for n in [*top, *rest[:1]]]
        assert lists.tied_Q[row] == any(a == b for a, b in itertools.pairwise(values))
        assert lists.last_size_Q[row] == (sum(scores[row, n] == values[len(top) - 1] for n in ordered) if top else 0)
        assert lists.constant_Q[row] == (len(ordered) > 1 and len({scores[row, n] for n in ordered}) == 1)


@given(cases(), st.booleans())
@settings(max_examples=num_examples(500), deadline=None)
def test_auc_is_how_often_relevant_items_rank_above_others(case, given):
    lists = listed(case, given=given)
    for row in range(len(case[0])):
        assert lists.auc_Q[row] == pytest.approx(auc(row, case, given), abs=1e-12, nan_ok=True)
        members = candidates_of(row, case, given)
        truth = case[2][row][members]
        if 0 < truth.sum() < len(truth):
            assert lists.auc_Q[row] == pytest.approx(roc_auc_score(truth, case[0][row][members]), abs=1e-9)


@given(cases())
@settings(max_examples=num_examples(200), deadline=None)
def test_relevant_items_have_their_scores_in_order_and_non_candidates_none(case):
    scores, _, relevant, _, _, _ = case
    result, expected = listed(case, block_size=2).relevant_scores, []
    for row, item in zip(*np.nonzero(relevant), strict=True):
        expected.append(scores[row, item] if item in candidates_of(row, case) else -np.inf)
    assert result.tolist() == expected


@given(cases())
@settings(max_examples=num_examples(300), deadline=None)
def test_the_gpu_code_path_gives_the_same(case):
    scores, seen, relevant, chosen, k, ranks = case
    allowed = Allowed(csr(seen), csr(chosen), np.zeros(scores.shape[1], np.float32))
    one, other = (way(torch.from_numpy(scores), k, np.array(ranks), allowed, csr(relevant))
                  for way in (rank_block, _rank_on_device))
    for name in ("items_QK", "scores_QK", "tied_Q", "last_size_Q"):
        np.testing.assert_array_equal(getattr(one.top, name), getattr(other.top, name), name)
    for name in ("constant_B", "relevant_R", "auc_B"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


@pytest.mark.parametrize("cells", [1, 100, 10**6])
def test_lists_do_not_depend_on_chunk_or_block_size(cells, monkeypatch):
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 30, (50, 40)).astype(np.float32)
    case = (scores, generator.random(scores.shape) < 0.3, generator.random(scores.shape) < 0.2,
            generator.random(scores.shape) < 0.8, 12, generator.permutation(40))
    whole = listed(case)
    monkeypatch.setattr(blocks, "CHUNK_CELLS", cells)
    for name, values in vars(listed(case, block_size=17)).items():
        np.testing.assert_array_equal(values, getattr(whole, name), name)


def test_the_heads_score_matrix_is_not_modified():
    scores = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = scores.copy()
    listed((scores, np.eye(3, 4, dtype=bool), np.eye(3, 4, k=1, dtype=bool), np.ones((3, 4), bool), 2, range(4)))
    assert (scores == before).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused_also_where_they_would_be_masked(bad):
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = bad
    seen = np.zeros((2, 3), bool)
    seen[1, 2] = True
    with pytest.raises(DivergedError, match="1 of 6 scores"):
        recommend_lists(fixed(scores), queries_of(seen), 1, np.arange(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_another_precision_are_ranked_as_float32(dtype):
    lists = recommend_lists(lambda queries: torch.tensor([[1, 3, 2]], dtype=dtype), queries_of(np.zeros((1, 3), bool)),
                            2, np.arange(3))
    assert lists.items_QK.tolist() == [[1, 2]]
    assert lists.scores_QK.dtype == np.float32


@given(cases(), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_pair_scores_equal_the_matrix_and_only_users_with_pairs_are_scored(case, block_size):
    scores, seen, wanted, _, _, _ = case
    asked = []

    def score(queries: Queries) -> torch.Tensor:
        asked.extend(queries.user)
        return torch.from_numpy(scores[queries.user])

    result = pair_scores(score, queries_of(seen), csr(wanted), block_size=block_size)
    assert result.tolist() == scores[wanted].tolist()
    assert asked == np.flatnonzero(wanted.any(axis=1)).tolist()
