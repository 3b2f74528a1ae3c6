"""All metrics of one recommender, worked by hand on a small case."""

import io
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import known_users
from llmrec_cli.evaluation.metric_results import average_seeds, rank_recommenders
from llmrec_cli.evaluation.metric_suite import Measures, PredictionErrors, measure
from llmrec_cli.evaluation.results import per_user
from llmrec_cli.evaluation.slices import Slices
from llmrec_cli.metrics.hits import ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.metrics.slices import ITEM_SLICES, item_slices, user_slices
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import recommend_lists

# Three users and six items. By their counts, item 0 is head, 1 to 4 are tail, 5 is cold.
COUNTS = np.array([9, 5, 3, 2, 1, 0])
RELEVANT = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]], np.float32)
SCORES = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]])


def task_of(candidates=None):
    history = sp.csr_array(np.array([[0, 0, 0, 0, 1, 0]] * 3, np.float32))
    queries = known_users(np.arange(3), np.array(["u", "v", "w"], object), history, history)
    return HeldOut(queries, sp.csr_array(RELEVANT), COUNTS, np.array([1, 4, 9]),
                   np.ones(6, bool) if candidates is None else candidates, 0, 0)


def results(scores=SCORES, cutoffs=(2, 4), attributes=None, candidates=None, gains=None, expected=False,
            prediction_errors=None):
    task = task_of(candidates)
    lists = recommend_lists(lambda q: scores[torch.as_tensor(q.user)], task.queries, cutoffs[-1], np.arange(6),
                            candidates_N=task.candidates_N, relevant_QN=task.relevant_QN, block_size=2)
    groups, users = item_slices(COUNTS), user_slices(task.lengths_Q)
    slices = Slices({f"item:{name}": groups == n for n, name in enumerate(ITEM_SLICES)},
                    {f"user:{name}": mask for name, mask in users.items()})
    return measure(lists, task, Measures(list(cutoffs), slices, attributes, 0.5, 200, 1, gains, expected),
                   prediction_errors)


def mean(name, **kwargs):
    return results(**kwargs).summary()[name]["mean"]


def test_ranking_metrics_are_means_over_the_users():
    # lists of 4 without the seen item 4: u [0 1 2 3], v the same, w [5 3 2 1]
    assert mean("recall@4") == pytest.approx((1 + 0.5 + 1) / 3)
    assert mean("precision@2") == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert mean("mrr@4") == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_whole_list_metrics_have_no_interval_over_users():
    assert results().summary()["coverage@2"] == {"mean": pytest.approx(4 / 6), "ci95": None}


def test_coverage_and_gini_are_over_the_candidates_alone():
    candidates = np.array([True, True, True, True, False, False])
    assert mean("coverage@4", candidates=candidates) == 1
    assert mean("gini@4", candidates=candidates) == pytest.approx(0)


def test_diversity_is_there_only_where_items_have_attributes():
    assert "diversity@4" not in results().summary()
    assert mean("diversity@4", attributes=sp.csr_array(np.eye(6))) == 1


def test_an_item_slice_counts_only_its_items_at_their_rank_in_the_whole_list():
    slices = results().slice_summary()
    assert slices["item:head"]["recall@2"]["mean"] == 1
    # Relevant tail items: 3 for u at rank 4, 1 for v at rank 2, 2 for w at rank 3.
    assert slices["item:tail"]["mrr@4"]["mean"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 3) / 3)
    assert slices["item:tail"]["ndcg@2"]["mean"] == pytest.approx(1 / math.log2(3) / 3)
    assert slices["item:cold"]["recall@4"]["mean"] == 0
    assert slices["item:mid"] == {}


def test_gains_of_one_and_scores_without_ties_leave_item_slices_as_they_are():
    plain = results().slice_summary()
    assert results(gains=sp.csr_array(RELEVANT.astype(np.float64))).slice_summary() == plain
    for name, metrics in results(expected=True).slice_summary().items():
        assert {key: value["mean"] for key, value in metrics.items()} == pytest.approx(
            {key: value["mean"] for key, value in plain[name].items()})


def test_gains_within_an_item_slice_are_those_of_its_items():
    # User u: the tail has item 3, worth 5, at rank 4; the head has item 0, worth 2, at rank 1.
    gains = RELEVANT.astype(np.float64) * np.array([2, 1, 1, 5, 1, 1])
    slices = results(gains=sp.csr_array(gains)).slices
    assert slices["item:tail"]["ndcg@4"][0] == pytest.approx(1 / math.log2(5))
    assert slices["item:head"]["ndcg@4"].tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)


def test_ties_within_an_item_slice_are_in_expectation():
    # All scores are equal: the five unseen items are equally likely on each of the four places; the tail has one
    # relevant item each.
    tail = results(scores=torch.zeros(3, 6), expected=True).slices["item:tail"]
    assert tail["recall@4"].tolist() == pytest.approx([4 / 5] * 3)


def test_user_slices_are_means_over_their_users():
    slices = results().slice_summary()
    assert slices["user:few"]["recall@4"]["mean"] == 1
    assert slices["user:many"]["mrr@4"]["mean"] == pytest.approx(1 / 3)
    assert slices["user:cold"] == {}


def test_the_same_lists_differ_by_nothing():
    compared = results().comparison(results())
    assert compared["ndcg@4"] == {"difference": 0, "ci95": [0, 0], "p": 1}
    assert "novelty@4" not in compared


def test_a_comparison_is_the_difference_of_the_means():
    other = results(scores=-SCORES)
    difference = results().comparison(other)["recall@2"]["difference"]
    assert difference == pytest.approx(mean("recall@2") - mean("recall@2", scores=-SCORES))


def test_nothing_in_a_summary_is_nan_also_where_lists_are_empty():
    summary = results(candidates=np.zeros(6, bool) | (np.arange(6) == 4)).summary()
    assert summary["recall@4"]["mean"] == 0
    assert "novelty@4" not in summary
    assert "gini@4" not in summary


def test_item_slices_count_only_hits_on_their_items():
    """Compare with the metrics of lists in which only hits on the slice's items count."""
    result = results()
    for number, name in enumerate(ITEM_SLICES):
        inside = item_slices(COUNTS) == number
        wanted = (RELEVANT * inside).sum(1).astype(int)
        hits_QK = result.hits_QK & inside[result.lists.items_QK]
        expected = evaluate_all(RANKING, ordered_hits(hits_QK, np.maximum(wanted, 1), [2, 4]), [2, 4])
        for metric, values in result.slices[f"item:{name}"].items():
            np.testing.assert_allclose(values, np.where(wanted > 0, expected[metric], np.nan), err_msg=metric)


def test_gauc_is_auc_weighted_by_the_number_of_relevant_items():
    result = results()
    auc = result.values["auc"]
    assert result.mean("gauc") == pytest.approx((2 * auc[0] + 2 * auc[1] + auc[2]) / 5)
    assert result.summary()["gauc"]["mean"] == pytest.approx(result.mean("gauc"))


def test_seeds_are_averaged_per_user_and_their_spread_is_reported():
    one, other = results(), results(scores=-SCORES)
    both = average_seeds([one, other])
    assert both.mean("ndcg@4") == pytest.approx((one.mean("ndcg@4") + other.mean("ndcg@4")) / 2)
    spread = abs(one.mean("ndcg@4") - other.mean("ndcg@4")) / math.sqrt(2)
    assert both.summary()["ndcg@4"]["sd"] == pytest.approx(spread)
    assert average_seeds([one]) is one


def test_rmse_is_the_root_of_the_mean_over_all_pairs_and_the_lowest_comes_first():
    # Squared errors of 1, 4 and 9 with 1, 1 and 2 pairs; the other recommender is off by 1 everywhere.
    off = results(prediction_errors=PredictionErrors({"rmse": np.array([1.0, 4, 9])}, np.array([1, 1, 2])))
    near = results(prediction_errors=PredictionErrors({"rmse": np.ones(3)}, np.array([1, 1, 2])))
    assert off.mean("rmse") == off.summary()["rmse"]["mean"] == pytest.approx(math.sqrt((1 + 4 + 2 * 9) / 4))
    assert off.comparison(near)["rmse"]["difference"] > 0
    assert rank_recommenders({"off": off, "near": near}, "rmse").names == ["near", "off"]
    assert rank_recommenders({"off": off, "near": near}, "rmse").letters["near"] == "a"


def test_the_table_per_user_has_the_error_of_each_user_and_not_its_square():
    off = results(prediction_errors=PredictionErrors({"rmse": np.array([1.0, 4, 9])}, np.ones(3)))
    table = per_user({"off": off}, task_of(), None)
    assert pq.read_table(io.BytesIO(table)).column("rmse").to_pylist() == [1, 2, 3]


def test_a_ranking_names_the_best_first_and_equals_share_a_letter():
    models = {"one": results(), "same": results(), "other": results(scores=-SCORES)}
    board = rank_recommenders(models, "ndcg@4")
    assert board.names == sorted(models, key=lambda name: -models[name].mean("ndcg@4"))
    assert board.letters["one"] == board.letters["same"]
    assert board.p["one", "same"] == 1


def test_figures_keep_their_names_their_order_and_their_values():
    """Names and order of the metrics from before the metric table, for per_user.parquet and metrics.json."""
    result = results(attributes=sp.csr_array(np.eye(6)))
    before = {
        "recall@2": 0.333333333, "recall@4": 0.833333333, "precision@2": 0.333333333, "precision@4": 0.333333333,
        "f1@2": 0.333333333, "f1@4": 0.466666667, "hit@2": 0.666666667, "hit@4": 1.0, "ndcg@2": 0.333333333,
        "ndcg@4": 0.588022708, "map@2": 0.25, "map@4": 0.444444444, "mrr@2": 0.5, "mrr@4": 0.611111111, "auc": 0.5,
        "gauc": 0.5, "ips_recall@2": 0.209798078, "stratified_recall@2": 0.254664246, "ips_recall@4": 0.769672331,
        "stratified_recall@4": 0.67373615, "novelty@2": 2.324643729, "arp@2": 5.0, "tail_share@2": 0.5, "novelty@4":
        2.566884612, "arp@4": 4.0, "tail_share@4": 0.75, "diversity@2": 1.0, "diversity@4": 1.0, "coverage@2":
        0.666666667, "gini@2": 0.444444444, "coverage@4": 0.833333333, "gini@4": 0.305555556}
    assert [name for name in (*result.values, *result.pooled) if name in before] == list(before)
    assert {name: result.mean(name) for name in before} == pytest.approx(before, abs=1e-9)
    assert [name for name in result.slices["item:tail"] if name in before] == [
        "recall@2", "recall@4", "hit@2", "hit@4", "ndcg@2", "ndcg@4", "mrr@2", "mrr@4"]
