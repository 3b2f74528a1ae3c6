"""All metrics of one recommender, worked by hand on a small case."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import known_users
from llmrec_cli.scoring.evaluation import measure
from llmrec_cli.scoring.heldout import HeldOut

# Three users, six items of which the last is cold. Counts make item 0 head, 1 to 4 tail, 5 cold.
COUNTS = np.array([9, 5, 3, 2, 1, 0])
RELEVANT = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]], np.float32)
SCORES = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]])


def measured(scores=SCORES, cutoffs=(2, 4), attributes=None, candidates=None):
    history = sp.csr_array(np.array([[0, 0, 0, 0, 1, 0]] * 3, np.float32))
    queries = known_users(np.arange(3), np.array(["u", "v", "w"], object), history, history)
    task = HeldOut(queries, sp.csr_array(RELEVANT), COUNTS, np.array([1, 4, 9]),
                   np.ones(6, bool) if candidates is None else candidates, 0, 0)
    return measure(lambda q: scores[torch.as_tensor(q.user)], task,
                   sp.csr_array((6, 0)) if attributes is None else attributes, np.arange(6), list(cutoffs),
                   exclude_seen=True, block_size=2, num_resamples=200, seed=1)


def mean(name, **kwargs):
    return measured(**kwargs).summary()[name]["mean"]


def test_ranking_metrics_are_means_over_the_users():
    # lists of 4 without the seen item 4: u [0 1 2 3], v the same, w [5 3 2 1]
    assert mean("recall@4") == pytest.approx((1 + 0.5 + 1) / 3)
    assert mean("precision@2") == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert mean("mrr@4") == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_whole_list_metrics_have_no_interval_over_users():
    assert measured().summary()["coverage@2"] == {"mean": pytest.approx(4 / 6), "ci95": None}


def test_coverage_and_gini_are_over_the_candidates_alone():
    candidates = np.array([True, True, True, True, False, False])
    assert mean("coverage@4", candidates=candidates) == 1
    assert mean("gini@4", candidates=candidates) == pytest.approx(0)


def test_diversity_is_there_only_where_items_have_attributes():
    assert "diversity@4" not in measured().summary()
    assert mean("diversity@4", attributes=sp.csr_array(np.eye(6))) == 1


def test_an_item_slice_counts_only_its_items_at_their_rank_in_the_whole_list():
    slices = measured().slice_summary()
    assert slices["item:head"]["recall@2"]["mean"] == 1
    # Relevant tail items: 3 for u at rank 4, 1 for v at rank 2, 2 for w at rank 3.
    assert slices["item:tail"]["mrr@4"]["mean"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 3) / 3)
    assert slices["item:tail"]["ndcg@2"]["mean"] == pytest.approx(1 / math.log2(3) / 3)
    assert slices["item:cold"]["recall@4"]["mean"] == 0
    assert slices["item:mid"] == {}


def test_user_slices_are_means_over_their_users():
    slices = measured().slice_summary()
    assert slices["user:few"]["recall@4"]["mean"] == 1
    assert slices["user:many"]["mrr@4"]["mean"] == pytest.approx(1 / 3)
    assert slices["user:cold"] == {}


def test_the_same_lists_differ_by_nothing():
    compared = measured().comparison(measured())
    assert compared["ndcg@4"] == {"difference": 0, "ci95": [0, 0], "p": 1}
    assert "novelty@4" not in compared


def test_a_comparison_is_the_difference_of_the_means():
    other = measured(scores=-SCORES)
    difference = measured().comparison(other)["recall@2"]["difference"]
    assert difference == pytest.approx(mean("recall@2") - mean("recall@2", scores=-SCORES))


def test_nothing_in_a_summary_is_nan_also_where_lists_are_empty():
    summary = measured(candidates=np.zeros(6, bool) | (np.arange(6) == 4)).summary()
    assert summary["recall@4"]["mean"] == 0
    assert "novelty@4" not in summary
    assert "gini@4" not in summary
