"""Ranking metrics against hand-worked numbers, a brute-force oracle, pytrec_eval and ranx."""

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.metrics.hits import ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.metrics.table import METRICS

CUTOFFS = [1, 2, 3, 5, 10, 50]


def value(name, hits, relevant, k):
    return METRICS[name].function(ordered_hits(np.array([hits], bool), np.array([relevant]), [k]))[0, 0]


def ranking_metrics(hits, num_relevant, cutoffs):
    return evaluate_all(RANKING, ordered_hits(hits, num_relevant, cutoffs), cutoffs)


def test_recall_of_two_hits_among_five_relevant_items_is_two_fifths():
    assert value("recall", [1, 0, 1, 0], 5, 4) == pytest.approx(2 / 5)


def test_precision_divides_by_k_also_where_the_list_is_shorter():
    assert value("precision", [1, 1], 2, 10) == pytest.approx(0.2)


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    # precision 2/4, recall 2/5
    assert value("f1", [1, 0, 1, 0], 5, 4) == pytest.approx(2 * 0.5 * 0.4 / 0.9)
    assert value("f1", [0, 0], 5, 2) == 0


def test_hit_is_one_whatever_the_number_of_hits():
    assert value("hit", [0, 1, 1], 3, 3) == 1
    assert value("hit", [0, 1, 1], 3, 1) == 0


def test_ndcg_of_a_hit_at_rank_two_is_one_over_log2_three():
    assert value("ndcg", [0, 1, 0], 1, 3) == pytest.approx(1 / math.log2(3))


def test_ndcg_of_a_full_list_of_hits_is_one_although_more_items_are_relevant():
    assert value("ndcg", [1, 1, 1], 7, 3) == pytest.approx(1)


def test_ndcg_of_all_relevant_items_at_the_top_is_one_although_k_is_larger():
    assert value("ndcg", [1, 1, 0, 0], 2, 4) == pytest.approx(1)
    assert value("ndcg", [1, 1], 2, 10) == pytest.approx(1)


def test_map_averages_the_precision_at_each_hit():
    # hits at ranks 1 and 3: (1/1 + 2/3) / 2
    assert value("map", [1, 0, 1], 2, 3) == pytest.approx((1 + 2 / 3) / 2)


def test_map_divides_by_all_relevant_items_like_trec_eval():
    assert value("map", [1, 1], 4, 2) == pytest.approx(2 / 4)


def test_mrr_is_one_over_the_rank_of_the_first_hit_within_k():
    assert value("mrr", [0, 0, 1, 1], 2, 4) == pytest.approx(1 / 3)
    assert value("mrr", [0, 0, 1, 1], 2, 2) == 0


def test_a_user_without_recommendations_scores_zero_and_is_counted():
    none = np.zeros((2, 10), bool)
    none[0, 0] = True
    values = ranking_metrics(none, np.array([1, 3]), CUTOFFS)
    assert all(v.shape == (2,) and v[1] == 0 for v in values.values())
    assert values["ndcg@10"].mean() == pytest.approx(0.5)


def test_lists_of_length_zero_score_zero():
    assert all((v == 0).all() for v in ranking_metrics(np.zeros((3, 0), bool), np.ones(3, int), CUTOFFS).values())


def test_every_cutoff_comes_from_one_pass_in_the_order_asked_for():
    names = list(ranking_metrics(np.ones((1, 2), bool), np.array([2]), [10, 5]))
    assert names[:4] == ["recall@10", "recall@5", "precision@10", "precision@5"]


# A case: per query the ranked item numbers and the relevant ones, out of a catalogue of 30.
query = st.tuples(st.permutations(range(30)), st.integers(0, 30), st.sets(st.integers(0, 29), min_size=1))
cases = st.lists(query, min_size=1, max_size=6)


def as_arrays(case):
    hits = np.zeros((len(case), 30), bool)
    for row, (ranked, length, relevant) in enumerate(case):
        hits[row, :length] = [item in relevant for item in ranked[:length]]
    return hits, np.array([len(relevant) for _, _, relevant in case])


def brute_force(ranked, relevant, k):
    """Straight from the textbook, with sets and loops."""
    top = ranked[:k]
    num_hits = len(set(top) & relevant)
    precision, recall = num_hits / k, num_hits / len(relevant)
    precisions = [len(set(ranked[:r]) & relevant) / r for r in range(1, len(top) + 1) if ranked[r - 1] in relevant]
    dcg = sum(1 / math.log2(r + 1) for r, item in enumerate(top, 1) if item in relevant)
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(relevant)) + 1))
    first = next((r for r, item in enumerate(top, 1) if item in relevant), None)
    return {"recall": recall, "precision": precision, "hit": float(num_hits > 0), "ndcg": dcg / ideal,
            "f1": 2 * precision * recall / (precision + recall) if num_hits else 0.0,
            "map": sum(precisions) / len(relevant), "mrr": 1 / first if first else 0.0}


@given(cases)
def test_metrics_equal_a_brute_force_oracle(case):
    values = ranking_metrics(*as_arrays(case), CUTOFFS)
    for row, (ranked, length, relevant) in enumerate(case):
        for k in CUTOFFS:
            for name, expected in brute_force(ranked[:length], relevant, k).items():
                assert abs(values[f"{name}@{k}"][row] - expected) < 1e-9, (name, k)


@given(cases)
def test_metrics_lie_between_zero_and_one(case):
    for values in ranking_metrics(*as_arrays(case), CUTOFFS).values():
        assert (values >= 0).all()
        assert (values <= 1 + 1e-12).all()


@given(cases)
def test_recall_hit_map_and_mrr_never_fall_as_k_grows(case):
    values = ranking_metrics(*as_arrays(case), CUTOFFS)
    for name in ("recall", "hit", "map", "mrr"):
        for shorter, longer in itertools.pairwise(CUTOFFS):
            assert (values[f"{name}@{shorter}"] <= values[f"{name}@{longer}"] + 1e-12).all()


def as_trec(case):
    """Runs with strictly decreasing whole scores: nothing is tied, so no two tools can differ by tie rules."""
    run = {f"q{n}": {f"i{item}": 100 - place for place, item in enumerate(ranked[:length])}
           for n, (ranked, length, _) in enumerate(case)}
    return {f"q{n}": {f"i{item}": 1 for item in relevant} for n, (_, _, relevant) in enumerate(case)}, run


@given(cases)
@settings(max_examples=60, deadline=None)
def test_metrics_agree_with_pytrec_eval(case):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    case = [(ranked, max(1, length), relevant) for ranked, length, relevant in case]
    qrels, run = as_trec(case)
    ks = ",".join(map(str, CUTOFFS))
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {f"{m}.{ks}" for m in
                                                    ("recall", "P", "ndcg_cut", "map_cut", "success")}).evaluate(run)
    ours = ranking_metrics(*as_arrays(case), CUTOFFS)
    for name, their_name in (("recall", "recall"), ("precision", "P"), ("ndcg", "ndcg_cut"), ("map", "map_cut"),
                             ("hit", "success")):
        for k in CUTOFFS:
            for row in range(len(case)):
                assert abs(ours[f"{name}@{k}"][row] - theirs[f"q{row}"][f"{their_name}_{k}"]) < 1e-9, (name, k)


RANX = """
import json, sys, ranx
qrels, run, names = json.load(sys.stdin)
run = ranx.Run(run)
ranx.evaluate(ranx.Qrels(qrels), run, names)
json.dump({name: {query: float(v) for query, v in scores.items()} for name, scores in run.scores.items()}, sys.stdout)
"""


@pytest.mark.slow
def test_metrics_agree_with_ranx_on_two_hundred_generated_queries():
    pytest.importorskip("ranx")
    generator = np.random.default_rng(0)
    case = [(generator.permutation(30).tolist(), int(generator.integers(1, 31)),
             set(generator.choice(30, generator.integers(1, 12), replace=False).tolist())) for _ in range(200)]
    theirs_of = {"recall": "recall", "precision": "precision", "ndcg": "ndcg", "map": "map", "hit": "hit_rate",
                 "mrr": "mrr", "f1": "f1"}
    names = [f"{name}@{k}" for name in theirs_of.values() for k in (1, 5, 10)]
    # In a process without numba's compiler, which takes over a minute for what then runs in a second.
    done = subprocess.run([sys.executable, "-c", RANX], input=json.dumps([*as_trec(case), names]), text=True,
                          capture_output=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=True)
    theirs, ours = json.loads(done.stdout), ranking_metrics(*as_arrays(case), [1, 5, 10])
    for name, their_name in theirs_of.items():
        for k in (1, 5, 10):
            for row in range(len(case)):
                assert abs(ours[f"{name}@{k}"][row] - theirs[f"{their_name}@{k}"][f"q{row}"]) < 1e-9, (name, k)
