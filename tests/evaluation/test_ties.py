"""Expected metrics over the order of ties, compared with the mean over all orders."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmrec_cli.evaluation.metric_suite import tie_blocks
from llmrec_cli.metrics.hits import TiedHits, ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.scoring.scorer import graded, hits, recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from tests.scoring.oracle import candidates_of, cases, csr, fixed, queries_of
from tests.some_slow import num_examples

CUTOFFS = [1, 2, 3, 5, 8]
EXPECTED = [metric for metric in RANKING if metric.expected]


def ranking_metrics(hits, num_relevant, cutoffs, graded=None):
    return evaluate_all(EXPECTED, ordered_hits(hits, num_relevant, cutoffs, graded), cutoffs)


def expected_metrics(blocks, num_relevant, cutoffs, graded=None):
    ideal = None if graded is None else graded.ideal_QI
    return evaluate_all(EXPECTED, TiedHits(blocks, num_relevant, cutoffs, ideal), cutoffs)


def listed(case, k=8, **more):
    scores, seen, relevant, given_, _, ranks = case
    return recommend_lists(fixed(scores), queries_of(seen), k, np.array(ranks), relevant_QN=csr(relevant),
                           candidates_QN=csr(given_), **more)


def orders(members, scores):
    """All lists that sort the members by score, equally likely."""
    groups = [[n for n in members if scores[n] == level] for level in sorted({scores[n] for n in members})[::-1]]
    return [list(itertools.chain(*order)) for order in itertools.product(*map(itertools.permutations, groups))]


def averaged(case, row, gains=None, inside=None):
    """Mean of the plain metrics over all orders of a row's ties; only items of `inside` are relevant."""
    wanted = case[2][row] if inside is None else case[2][row] & inside
    result = []
    for order in orders(candidates_of(row, case), case[0][row]):
        items = np.full((1, 8), -1)
        items[0, :len(order[:8])] = order[:8]
        relevant = csr(wanted[None])
        worth = None if gains is None else graded(items, csr(wanted[None], gains[row][None]))
        result.append(ranking_metrics(hits(items, relevant), np.array([wanted.sum()]), CUTOFFS, worth))
    return {name: np.mean([one[name][0] for one in result]) for name in result[0]}


@given(cases(max_items=6))
@settings(max_examples=num_examples(150), deadline=None)
def test_expected_metrics_are_means_over_all_orders_of_equal_scores(case):
    wanted = case[2].sum(axis=1)
    assume((wanted > 0).any())
    lists = listed(case)
    values = expected_metrics(tie_blocks(lists, csr(case[2])), np.maximum(wanted, 1), CUTOFFS)
    for row in np.flatnonzero(wanted):
        for name, mean in averaged(case, row).items():
            assert values[name][row] == pytest.approx(mean, abs=1e-9), name


@pytest.mark.slow
@given(cases(max_items=6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_graded_gains_and_slices_of_items_are_expected_alike(case, seed):
    generator = np.random.default_rng(seed)
    gains, inside = generator.integers(1, 6, case[0].shape).astype(float), generator.random(case[0].shape[1]) < 0.7
    relevant = case[2] & inside
    rows = np.flatnonzero(relevant.any(axis=1))
    assume(len(rows))
    lists = listed(case)
    blocks = tie_blocks(lists, csr(case[2]), csr(case[2], gains), inside)
    ideal = graded(lists.items_QK, csr(relevant, gains))
    values = expected_metrics(blocks, np.maximum(relevant.sum(axis=1), 1), CUTOFFS, ideal)
    for row in rows:
        for name, mean in averaged(case, row, gains, inside).items():
            assert values[name][row] == pytest.approx(mean, abs=1e-9), name


@pytest.mark.slow
@given(cases())
@settings(max_examples=100, deadline=None)
def test_without_ties_expected_metrics_are_the_ordinary_ones(case):
    generator = np.random.default_rng(0)
    case = (generator.permuted(np.arange(case[0].size, dtype=np.float32).reshape(case[0].shape), axis=1), *case[1:])
    lists, relevant = listed(case), csr(case[2])
    wanted = np.maximum(case[2].sum(axis=1), 1)
    expected = expected_metrics(tie_blocks(lists, relevant), wanted, CUTOFFS)
    for name, values in ranking_metrics(hits(lists.items_QK, relevant), wanted, CUTOFFS).items():
        np.testing.assert_allclose(expected[name], values, atol=1e-12, err_msg=name)


def test_a_constant_scorer_is_expected_to_score_exactly_like_chance():
    num_items, num_relevant, k = 50, 4, 10
    relevant = np.zeros((3, num_items), bool)
    relevant[:, :num_relevant] = True
    lists = recommend_lists(lambda queries: torch.ones(len(queries), num_items), queries_of(np.zeros_like(relevant)),
                            k, item_hash_ranks(map(str, range(num_items))), relevant_QN=csr(relevant))
    values = expected_metrics(tie_blocks(lists, csr(relevant)), np.full(3, num_relevant), [k])
    chance = num_relevant / num_items
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, num_relevant + 1))
    assert values["recall@10"] == pytest.approx(k / num_items)
    assert values["precision@10"] == pytest.approx(chance)
    assert values["ndcg@10"] == pytest.approx(chance * sum(1 / math.log2(r + 1) for r in range(1, k + 1)) / ideal)
    assert values["hit@10"] == pytest.approx(1 - math.comb(num_items - num_relevant, k) / math.comb(num_items, k))
    assert lists.auc_Q == pytest.approx(0.5)
    assert (lists.tie_rate, lists.degenerate) == (1, 1)
