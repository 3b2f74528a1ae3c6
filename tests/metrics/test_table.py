"""Every metric of the table matches its entry; a new metric is tested with the others."""

import itertools
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.metrics.auc import Areas
from llmrec_cli.metrics.beyond_accuracy import LISTS, VARIETY
from llmrec_cli.metrics.hits import MemberHits, TieBlocks, TiedHits, ordered_hits
from llmrec_cli.metrics.lists import RecommendedLists, VectorLists, WeightedHits
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import HIGHER, LOWER, evaluate_all
from llmrec_cli.metrics.ranking import AREAS, RANKING, WEIGHTED_RECALL
from llmrec_cli.metrics.rating import LIKES, VALUES, Predictions
from llmrec_cli.metrics.table import METRICS, MONITORED, columns, markdown, metric_of, view_metrics

CUTOFFS = [1, 2, 3, 5, 20]
Q, K, N = 6, 8, 12


def raised(hits_QK, generator):
    """Move one hit of each list up a rank, where the rank above has none."""
    hits_QK = hits_QK.copy()
    for row in hits_QK:
        free = np.flatnonzero(row[1:] & ~row[:-1])
        if len(free):
            place = generator.choice(free)
            row[place], row[place + 1] = True, False
    return hits_QK


# Each case returns a random input of its family and a better input; the first query's list is empty.

def hits_case(generator):
    hits = generator.random((Q, K)) < generator.uniform(0.1, 0.6)
    hits[0] = False
    num_relevant = np.maximum(hits.sum(1), 1) + generator.integers(0, 4, Q)
    return [ordered_hits(one, num_relevant, CUTOFFS) for one in (hits, raised(hits, generator))]


def areas_case(generator):
    areas = generator.random(Q)
    areas[0] = np.nan
    num_relevant = generator.integers(1, 9, Q)
    return [Areas(areas, num_relevant), Areas((1 + areas) / 2, num_relevant)]


def lists_of(generator):
    items = np.stack([generator.permutation(N)[:K] for _ in range(Q)])
    for row, length in zip(items, generator.integers(0, K + 1, Q), strict=True):
        row[length:] = -1
    items[0] = -1
    return items


def weighted_case(generator):
    items = lists_of(generator)
    hits = (items >= 0) & (generator.random((Q, K)) < 0.4)
    relevant = np.zeros((Q, N), np.float32)
    relevant[:, 0] = 1
    np.put_along_axis(relevant, np.maximum(items, 0), np.take_along_axis(relevant, np.maximum(items, 0), 1) + hits, 1)
    relevant = sp.csr_array((relevant > 0).astype(np.float32))
    hits = np.take_along_axis(relevant.toarray(), np.maximum(items, 0), 1).astype(bool) & (items >= 0)
    better = raised(hits, generator)
    # Items move with the raised hits, so that each hit is still the same item.
    swapped = items.copy()
    for row, (before, after) in enumerate(zip(hits, better, strict=True)):
        moved = np.flatnonzero(before != after)
        swapped[row, moved] = items[row, moved[::-1]]
    weights = generator.random(N) + 0.1
    return [WeightedHits(hits, items, relevant, weights, CUTOFFS),
            WeightedHits(better, swapped, relevant, weights, CUTOFFS)]


def lists_case(generator):
    return [RecommendedLists(lists_of(generator), generator.integers(0, 50, N), np.ones(N, bool), CUTOFFS)] * 2


def variety_case(generator):
    return [VectorLists(lists_of(generator), generator.normal(size=(N, 3)), CUTOFFS)] * 2


def members_case(generator):
    ordered, better = hits_case(generator)
    # The first group has the first pair only; the last group has no member.
    groups = np.array([0, 1, 1, 1, 3, 3])
    return [MemberHits(one, groups, 5) for one in (ordered, better)]


def values_case(generator):
    scores, truth = generator.normal(3, 1, 30), generator.integers(1, 6, 30).astype(float)
    return [Predictions(scores, truth), Predictions((scores + truth) / 2, truth)]


def likes_case(generator):
    logits, liked = generator.normal(size=30), generator.random(30) < 0.5
    return [Predictions(logits, liked), Predictions(logits + np.where(liked, 1, -1), liked)]


FAMILIES = [(RANKING, hits_case), (AREAS, areas_case), (WEIGHTED_RECALL, weighted_case), (LISTS, lists_case),
            (VARIETY, variety_case), (MEMBERS, members_case), (VALUES, values_case), (LIKES, likes_case)]
ENTRIES = [pytest.param(metric, case, id=metric.name) for family, case in FAMILIES for metric in family]
SEEDS = range(12)


def values_of(metric, source):
    return np.asarray(metric.function(source), float)


def test_every_metric_of_the_table_is_tested_here():
    assert [entry.values[0] for entry in ENTRIES] == list(METRICS.values())
    assert len(METRICS) == len(ENTRIES)


@pytest.mark.parametrize(("metric", "case"), ENTRIES)
def test_values_have_the_bounds_and_shape_of_the_metrics_entry(metric, case):
    for seed in SEEDS:
        source = case(np.random.default_rng(seed))[0]
        values = values_of(metric, source)
        assert values.ndim == metric.by_length + (not metric.pooled)
        if metric.by_length:
            assert values.shape[-1] == len(CUTOFFS)
        defined = values[~np.isnan(values)]
        assert len(defined)
        assert (defined >= -1e-12).all()
        assert (defined <= metric.highest + 1e-12).all()


def rounding_cases(generator):
    """Inputs whose values are at the bounds of the ranges but for rounding: equal vectors, perfect lists."""
    vector = generator.normal(size=7).astype(np.float32)
    lengths = generator.choice([1, -1], N) * generator.uniform(0.1, 9, N)
    vectors = (lengths[:, None] * vector).astype(np.float32)
    same = np.repeat(vector[None], N, axis=0)
    items = np.stack([generator.permutation(N)[:K] for _ in range(Q)])
    yield from ((VARIETY, VectorLists(items, some, CUTOFFS)) for some in (vectors, same, sp.csr_array(same)))
    relevant, hits = sp.csr_array(np.ones((Q, N), np.float32)), np.ones((Q, N), bool)
    every = np.stack([generator.permutation(N) for _ in range(Q)])
    yield WEIGHTED_RECALL, WeightedHits(hits, every, relevant, generator.random(N), [1, 5, N])
    yield RANKING, ordered_hits(hits, np.full(Q, N), [1, 5, N])


def test_no_metric_leaves_its_range_by_rounding():
    left = 0
    for seed in range(30):
        for family, source in rounding_cases(np.random.default_rng(seed)):
            for metric in family:
                raw, values = values_of(metric, source), metric.values(source)
                left += (raw < 0).sum() + (raw > metric.highest).sum()
                assert not ((values < 0) | (values > metric.highest)).any()
                np.testing.assert_allclose(values, raw, atol=1e-6)
    assert left > 0, "the cases do not test rounding"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_glossary_has_a_formula_a_range_and_a_use_for_every_metric(metric):
    assert metric.formula
    assert metric.use.startswith(("To ", "When ", "As ", "Like ", "For "))
    assert metric.use.endswith(".")
    line = next(line for line in markdown().splitlines() if line.startswith(f"| `{metric.column('k')}` |"))
    assert line.count("|") == 8
    assert f"| {metric.formula} | {metric.range} |" in line


@pytest.mark.parametrize(("metric", "case"), [entry for entry in ENTRIES if entry.values[0].better])
def test_the_better_direction_is_that_of_better_lists_and_predictions(metric, case):
    sign, gained = {HIGHER: 1, LOWER: -1}[metric.better], 0
    for seed in SEEDS:
        worse, better = (values_of(metric, source) for source in case(np.random.default_rng(seed)))
        gains = sign * (better - worse)
        assert (gains[~np.isnan(gains)] >= -1e-12).all()
        gained += np.nansum(gains)
    assert gained > 0


@pytest.mark.parametrize(("metric", "case"), [entry for entry in ENTRIES if entry.values[1] not in
                                              (values_case, likes_case)])
def test_an_empty_list_has_the_value_of_the_entry(metric, case):
    source = case(np.random.default_rng(0))[0]
    if metric.pooled:
        source = RecommendedLists(np.full((Q, K), -1), np.arange(N), np.ones(N, bool), CUTOFFS)
    for value in np.atleast_1d(values_of(metric, source) if metric.pooled else values_of(metric, source)[0]):
        assert value == pytest.approx(metric.empty, nan_ok=True)


@pytest.mark.parametrize("metric", MEMBERS, ids=lambda metric: metric.name)
def test_a_group_without_members_who_have_something_to_find_has_no_value(metric):
    values = values_of(metric, members_case(np.random.default_rng(0))[0])
    assert np.isnan(values).all(axis=1).tolist() == [False, False, True, False, True]


def tie_blocks(scores, relevant, length):
    """The tie blocks of a list of the best `length` items, computed item by item."""
    ordered = np.sort(scores)[::-1]
    size, hits, place = np.ones((3, 1, length), int)
    hits[:] = place[:] = 0
    for rank in range(min(length, len(scores))):
        alike = scores == ordered[rank]
        size[0, rank], hits[0, rank] = alike.sum(), relevant[alike].sum()
        place[0, rank] = rank - (ordered > ordered[rank]).sum()
    return TieBlocks(size, hits, place)


@pytest.mark.parametrize("metric", [metric for metric in RANKING if metric.expected], ids=lambda metric: metric.name)
def test_expected_values_are_means_over_all_orders_of_equal_scores(metric):
    generator = np.random.default_rng(0)
    for _ in range(40):
        scores = generator.integers(0, 3, generator.integers(1, 7))
        relevant = generator.random(len(scores)) < 0.5
        num_relevant = np.array([relevant.sum() + generator.integers(0 if relevant.any() else 1, 3)])
        blocks = tie_blocks(scores, relevant, 4)
        orders = [order for order in itertools.permutations(range(len(scores)))
                  if (np.diff(scores[list(order)]) <= 0).all()]
        lists = np.array([relevant[list(order)][:4] for order in orders])
        every = values_of(metric, ordered_hits(lists, np.repeat(num_relevant, len(orders)), CUTOFFS))
        expected = values_of(metric, TiedHits(blocks, num_relevant, CUTOFFS))
        np.testing.assert_allclose(expected[0], every.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("metric", [metric for metric in RANKING if metric.expected], ids=lambda metric: metric.name)
def test_empty_lists_score_zero_with_and_without_expected_ties(metric):
    nothing, num_relevant = np.zeros((2, 0), int), np.array([1, 3])
    for hits in (TiedHits(TieBlocks(nothing, nothing, nothing), num_relevant, CUTOFFS),
                 ordered_hits(nothing, num_relevant, CUTOFFS)):
        assert (values_of(metric, hits) == 0).all()


def test_only_hit_metrics_support_expected_ties_monitoring_and_slices():
    others = [metric for metric in METRICS.values() if metric not in RANKING]
    assert not [metric.name for metric in others if metric.expected or metric.monitored or metric.sliced]
    assert {metric.name for metric in RANKING if metric.monitored} == set(MONITORED)


def test_plots_and_summaries_use_metrics_that_every_evaluation_has():
    for view in ("panels", "lengths", "summary"):
        assert {metric.name for metric in view_metrics(view)} <= {metric.name for metric in RANKING}
    assert all(metric.by_length for metric in METRICS.values() if metric.axis)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_definition_is_one_sentence_that_fits_a_line_of_the_glossary(metric):
    assert re.fullmatch(r"[A-Z0-9].{10,118}\.", metric.definition), metric.definition
    assert not re.search(r"[.:!?] [A-Z]", metric.definition)


# The views before the table of metrics existed; metrics added since may stand between these.
BEFORE = {
    "table": ["ndcg@10", "recall@10", "precision@10", "f1@10", "hit@10", "map@10", "mrr@10", "stratified_recall@10",
              "ips_recall@10", "coverage@10", "novelty@10", "tail_share@10", "diversity@10", "gini@10", "arp@10",
              "member_ndcg@10", "least_member_ndcg@10", "member_spread@10", "auc", "gauc", "rmse", "mse", "mae",
              "logloss", "accuracy", "auc_pairs", "precision_pairs", "recall_pairs", "f1_pairs", "likes_share"],
    "leaderboard": ["ndcg@10", "recall@10", "hit@10", "coverage@10", "tail_share@10", "auc", "rmse", "mae", "logloss",
                    "accuracy", "auc_pairs"],
    "terminal": ["ndcg@10", "recall@10", "precision@10", "map@10", "hit@10", "coverage@10"],
    "panels": ["ndcg@10", "recall@10", "precision@10", "map@10", "mrr@10", "hit@10"],
    "lengths": ["ndcg@10", "recall@10", "precision@10"],
    "summary": ["ndcg@10", "recall@10"],
}


@pytest.mark.parametrize("view", BEFORE)
def test_views_keep_their_metrics_and_order(view):
    assert [name for name in columns(view, 10) if name in BEFORE[view]] == BEFORE[view]


def test_differences_are_tested_for_per_query_metrics_with_a_direction():
    tested = {"recall", "precision", "f1", "hit", "ndcg", "map", "mrr", "auc", "gauc", "stratified_recall",
              "ips_recall", "rmse", "mse", "mae", "logloss", "accuracy", "member_ndcg", "least_member_ndcg"}
    assert tested <= {metric.name for metric in METRICS.values() if metric.tested}
    assert not any(metric_of(name).tested for name in ("novelty@5", "coverage@5", "member_spread@5", "auc_pairs"))


def test_columns_are_by_metric_or_by_length_and_leave_out_lengths_too_short():
    source = variety_case(np.random.default_rng(0))[0]
    assert list(evaluate_all(VARIETY, source, CUTOFFS)) == [f"diversity@{k}" for k in CUTOFFS if k > 1]
    members = members_case(np.random.default_rng(0))[0]
    by_length = list(evaluate_all(MEMBERS, members, CUTOFFS, by_cutoff=True))
    assert by_length[:4] == ["member_ndcg@1", "least_member_ndcg@1", "member_spread@1", "member_ndcg@2"]
    assert list(evaluate_all(MEMBERS, members, CUTOFFS))[:2] == ["member_ndcg@1", "member_ndcg@2"]


def test_the_table_is_read_without_numpy():
    work = "import sys, llmrec_cli.metrics.table; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_of_metrics_says_what_the_table_says():
    """A metric that was just added need not be on the page yet, so that adding one takes one file."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8").splitlines()
    table = markdown().splitlines()
    assert [line for line in table if line in page] == page, "docs/metrics.md differs from the table; run `make docs`"
    missing = [line.split("`")[1] for line in table if line not in page]
    if missing:
        warnings.warn(f"docs/metrics.md has no {', '.join(missing)} yet; run `make docs`", stacklevel=1)


def test_spread_is_the_most_less_the_least():
    members = members_case(np.random.default_rng(0))[0]
    values = {metric.name: values_of(metric, members) for metric in MEMBERS}
    assert (values["least_member_ndcg"] <= values["member_ndcg"] + 1e-12)[[0, 1, 3]].all()
    assert math.isclose(values["member_spread"][0, -1], 0)
