"""From lists to every metric of the report, one value per query.

Shapes: Q queries, K ranks, N items, A dimensions of an item's vector, C cutoffs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.histories import kept_entries
from llmrec_cli.evaluation.measured import Measured
from llmrec_cli.evaluation.slicing import Slices
from llmrec_cli.evaluation.ties import tie_groups
from llmrec_cli.metrics import beyond_accuracy as beyond
from llmrec_cli.metrics.ranking import ranking_metrics
from llmrec_cli.metrics.slices import ITEM_SLICES, TAIL, item_slices
from llmrec_cli.metrics.ties import expected_metrics
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists, graded, hits

SLICED = ("recall", "hit", "ndcg", "mrr")
"""Metrics that are reported for slices; the others say little there."""


@dataclass(frozen=True)
class Measures:
    """How to measure; the same for all that are compared.

    Attributes
    ----------
    cutoffs : ascending list lengths
    slices : what is looked at apart
    vectors : what items are like, (N, A), for the diversity of lists; None where nothing is known of them
    propensity : exponent of an item's training interactions in stratified and inverse-propensity recall
    gains_QN : the gain of each relevant item in ndcg, in the order of the task's `relevant_QN`; None for 1
    expected_ties : whether ranking metrics are expectations over all orders of equal scores
    """

    cutoffs: Sequence[int]
    slices: Slices
    vectors: beyond.Vectors | None
    propensity: float
    num_resamples: int
    seed: int
    gains_QN: sp.csr_array | None = None
    expected_ties: bool = False


@dataclass(frozen=True)
class Predicted:
    """How far scores that predict more than an order are off.

    Attributes
    ----------
    values : metric to its mean over the held-out pairs of each query, (Q,); of rmse the mean of the squares
    num_pairs_Q : how many pairs these are, which weigh the queries
    auc : AUC of all likes against all dislikes, NaN without
    whole : what else belongs to all pairs together
    """

    values: dict[str, np.ndarray]
    num_pairs_Q: np.ndarray
    auc: float
    whole: dict[str, float] = field(default_factory=dict)


def measure(lists: Lists, task: HeldOut, how: Measures, predicted: Predicted | None = None,
            more: Mapping[str, np.ndarray] | None = None) -> Measured:
    """Return all metrics of a recommender's lists at every cutoff; `more` are others that were measured, (Q,) each."""
    cutoffs, num_relevant_Q = how.cutoffs, np.diff(task.relevant_QN.indptr)
    found_QK = hits(lists.items_QK, task.relevant_QN)
    worth = None if how.gains_QN is None else graded(lists.items_QK, how.gains_QN)
    if how.expected_ties:
        values = expected_metrics(tie_groups(lists, task.relevant_QN, how.gains_QN), num_relevant_Q, cutoffs, worth)
    else:
        values = ranking_metrics(found_QK, num_relevant_Q, cutoffs, worth)
    weights: dict[str, np.ndarray] = {}
    if lists.auc_Q is not None:
        values["auc"] = values["gauc"] = lists.auc_Q
        weights["gauc"] = num_relevant_Q.astype(np.float64)
    inverse_N = beyond.inverse_propensity(task.counts_N, how.propensity)
    recall_QC, weight_Q = beyond.weighted_recall(found_QK, lists.items_QK, task.relevant_QN, inverse_N, cutoffs)
    for c, k in enumerate(cutoffs):
        values[f"ips_recall@{k}"] = values[f"stratified_recall@{k}"] = recall_QC[:, c]
        weights[f"stratified_recall@{k}"] = weight_Q
    beyond_accuracy, whole = _beyond(lists.items_QK, task, how)
    values |= beyond_accuracy | dict(more or {})
    if predicted is not None:
        values |= predicted.values
        weights |= dict.fromkeys(predicted.values, predicted.num_pairs_Q.astype(np.float64))
        whole |= {"auc_pairs": predicted.auc, **predicted.whole}
    slices = sliced_metrics(lists, found_QK, task, values, how)
    cluster_Q = None if task.owner_Q is None else np.unique(task.owner_Q, return_inverse=True)[1].ravel()
    return Measured(lists, found_QK, values, weights, whole, slices, how.num_resamples, how.seed,
                    cluster_Q=cluster_Q)


def _beyond(items_QK: np.ndarray, task: HeldOut, how: Measures) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what accuracy does not say: of each list, and of all of them together."""
    tail_N = item_slices(task.counts_N) == ITEM_SLICES.index(TAIL)
    num_candidates = int(task.candidates_N.sum())
    values: dict[str, np.ndarray] = {}
    whole: dict[str, float] = {}
    for k in how.cutoffs:
        top_QK = items_QK[:, :k]
        values[f"novelty@{k}"] = beyond.novelty(top_QK, task.counts_N)
        values[f"arp@{k}"] = beyond.arp(top_QK, task.counts_N)
        values[f"tail_share@{k}"] = beyond.tail_share(top_QK, tail_N)
        shown_QK = beyond.compact(top_QK, task.candidates_N)
        whole[f"coverage@{k}"] = beyond.coverage(shown_QK, num_candidates)
        whole[f"gini@{k}"] = beyond.gini(shown_QK, num_candidates)
    if how.vectors is not None:
        varied_QC = beyond.diversity(items_QK, how.vectors, how.cutoffs)
        values |= {f"diversity@{k}": varied_QC[:, c] for c, k in enumerate(how.cutoffs) if k > 1}
    return values, whole


def sliced_metrics(lists: Lists, found_QK: np.ndarray, task: HeldOut, values: Mapping[str, np.ndarray],
                   how: Measures) -> dict[str, dict[str, np.ndarray]]:
    """Return the metrics of each slice per query.

    In an item slice only its items are relevant, hits keep their rank in the whole list, and queries without a
    relevant item in it are not in the slice. In a user slice the metrics are the ordinary ones.
    """
    chosen = [name for name in values if name.partition("@")[0] in SLICED]
    # Hits are few beside places on lists, so they are counted one by one and not list by list.
    hit = np.nonzero(found_QK)
    hit_items = lists.items_QK[hit]
    plain = how.gains_QN is None and not how.expected_ties
    relevant = task.relevant_QN
    wanted = np.repeat(np.arange(len(found_QK)), np.diff(relevant.indptr))
    sliced = {}
    for name, mask_N in how.slices.items.items():
        inside, wanted_inside = mask_N[hit_items], mask_N[relevant.indices]
        metrics = (_of_hits(hit[0][inside], hit[1][inside], wanted[wanted_inside], len(found_QK), how.cutoffs)
                   if plain else _within(lists, found_QK, task, mask_N, how))
        sliced[name] = {metric: metrics[metric] for metric in chosen}
    for name, members_Q in how.slices.queries.items():
        sliced[name] = {metric: np.where(members_Q, values[metric], np.nan) for metric in chosen}
    return sliced


def _within(lists: Lists, found_QK: np.ndarray, task: HeldOut, mask_N: np.ndarray,
            how: Measures) -> dict[str, np.ndarray]:
    """Return the ranking metrics where only the items of a slice are relevant, with gains or in expectation.

    NaN for queries that want none of them.
    """
    relevant, inside = task.relevant_QN, mask_N[task.relevant_QN.indices]
    num_wanted_Q = np.diff(kept_entries(relevant, inside).indptr)
    worth = None if how.gains_QN is None else graded(lists.items_QK, kept_entries(how.gains_QN, inside))
    with np.errstate(invalid="ignore"):  # An ideal list without gains divides by 0 where nothing is wanted.
        if how.expected_ties:
            metrics = expected_metrics(tie_groups(lists, relevant, how.gains_QN, mask_N), np.maximum(num_wanted_Q, 1),
                                       how.cutoffs, worth)
        else:
            metrics = ranking_metrics(found_QK & mask_N[lists.items_QK], np.maximum(num_wanted_Q, 1), how.cutoffs,
                                      worth)
    return {name: np.where(num_wanted_Q > 0, values_Q, np.nan) for name, values_Q in metrics.items()}


def _of_hits(query: np.ndarray, rank: np.ndarray, wanted: np.ndarray, num_queries: int,
             cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the metrics of SLICED from hits, in order of query and rank (from 0), and the queries that want an item.

    The definitions are those of metrics.ranking; NaN for queries that want none.
    """
    num_wanted_Q = np.bincount(wanted, minlength=num_queries)
    nan_Q = np.where(num_wanted_Q > 0, 0.0, np.nan)
    ideal = np.concatenate([[np.nan], np.cumsum(1 / np.log2(np.arange(max(cutoffs)) + 2))])
    worth = 1 / np.log2(rank + 2.0)
    first = np.flatnonzero(np.diff(query, prepend=-1))
    with_hit = query[first]
    found = {}
    for k in cutoffs:
        within = rank < k
        num_Q = np.bincount(query[within], minlength=num_queries)
        reciprocal_Q = nan_Q.copy()
        early = rank[first] < k
        reciprocal_Q[with_hit[early]] = 1 / (rank[first][early] + 1.0)
        found[f"recall@{k}"] = num_Q / np.where(num_wanted_Q > 0, num_wanted_Q, np.nan)
        found[f"hit@{k}"] = np.where(num_Q > 0, 1.0, nan_Q)
        found[f"mrr@{k}"] = reciprocal_Q
        found[f"ndcg@{k}"] = (np.bincount(query[within], worth[within], minlength=num_queries)
                              / ideal[np.minimum(k, num_wanted_Q)])
    return found
