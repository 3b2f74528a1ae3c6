"""Every metric of the report from ranked lists, one value per query.

Shapes: Q queries, K ranks, N items, T tie blocks, R relevant entries, A dimensions of an item's vector, C cutoffs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.histories import filter_entries
from llmrec_cli.evaluation.metric_results import MetricResults
from llmrec_cli.evaluation.slices import Slices
from llmrec_cli.metrics.auc import Areas
from llmrec_cli.metrics.beyond_accuracy import LISTS, VARIETY
from llmrec_cli.metrics.hits import Hits, Places, TieBlocks, TiedHits, hits_at
from llmrec_cli.metrics.lists import RecommendedLists, VectorLists, Vectors, WeightedHits, inverse_propensity
from llmrec_cli.metrics.metric import Metric, evaluate_all, weights_of
from llmrec_cli.metrics.ranking import AREAS, RANKING, WEIGHTED_RECALL
from llmrec_cli.metrics.table import metric_of
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists, graded, hits


def tie_blocks(lists: Lists, relevant_QN: sp.csr_array, gains_QN: sp.csr_array | None = None,
               inside_N: np.ndarray | None = None) -> TieBlocks:
    """Return the tie block of each rank of lists that were made with this `relevant_QN`.

    `gains_QN` has the same entries as `relevant_QN`. With `inside_N` (N,) bool, a slice of items, only these items
    count as relevant; the size of the blocks does not change.
    """
    assert lists.relevant_scores is not None
    scores_QK = lists.scores_QK
    num_queries, num_ranks = scores_QK.shape
    new_QK = np.ones((num_queries, num_ranks), bool)
    new_QK[:, 1:] = (scores_QK[:, 1:] != scores_QK[:, :-1]) | (scores_QK[:, 1:] == -np.inf)
    block_QK = np.cumsum(new_QK.ravel()).reshape(scores_QK.shape) - 1
    start_QK = np.maximum.accumulate(np.where(new_QK, np.arange(num_ranks), 0), axis=1)
    size_T = np.bincount(block_QK.ravel())
    lengths_Q = (scores_QK > -np.inf).sum(axis=1)
    some = np.flatnonzero(lengths_Q)
    size_T[block_QK[some, lengths_Q[some] - 1]] = lists.last_size_Q[some]

    query_R = np.repeat(np.arange(num_queries), np.diff(relevant_QN.indptr))
    scores_R = lists.relevant_scores
    counted = scores_R > -np.inf
    if inside_N is not None:
        counted &= inside_N[relevant_QN.indices]
    keys_T = _keys(np.nonzero(new_QK)[0], scores_QK[new_QK])
    keys = _keys(query_R[counted], scores_R[counted])
    block = np.minimum(np.searchsorted(keys_T, keys), len(keys_T) - 1)
    is_listed = keys_T[block] == keys if len(keys_T) else np.zeros(len(keys), bool)
    relevant_T = np.bincount(block[is_listed], minlength=len(size_T))
    gain_QK = None
    if gains_QN is not None:
        gain_T = np.bincount(block[is_listed], gains_QN.data[counted][is_listed], minlength=len(size_T))
        gain_QK = gain_T[block_QK]
    return TieBlocks(size_T[block_QK], relevant_T[block_QK], np.arange(num_ranks) - start_QK, gain_QK)


def _keys(query: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return integers that sort by query, then by descending score; equal only if query and score are equal.

    Bits of a float32 read as an integer rise with the value if it is not negative, and fall if it is.
    """
    bits = (scores + np.float32(0)).view(np.int32)
    falling = np.where(bits < 0, bits, bits ^ np.int32(0x7FFFFFFF)).view(np.uint32)
    return (query.astype(np.uint64) << np.uint64(32)) | falling


T = TypeVar("T")
Family = Sequence[Metric]


@dataclass(frozen=True)
class Measures:
    """Settings of the measurement, the same for all recommenders compared.

    Attributes
    ----------
    cutoffs : ascending list lengths
    slices : parts of items and queries with metrics of their own
    vectors : item vectors (N, A) for the diversity of lists; None without texts and attributes
    propensity : exponent of an item's training interactions in stratified and inverse-propensity recall
    gains_QN : gain of each relevant item in ndcg, in the order of the task's `relevant_QN`; None: all gains are 1
    expected_ties : True if ranking metrics are expectations over all orders of equal scores
    """

    cutoffs: Sequence[int]
    slices: Slices
    vectors: Vectors | None
    propensity: float
    num_resamples: int
    seed: int
    gains_QN: sp.csr_array | None = None
    expected_ties: bool = False


@dataclass(frozen=True)
class PredictionErrors:
    """Errors of scores that predict values or likes.

    Attributes
    ----------
    values : metric -> mean over the held-out pairs of each query, (Q,); for rmse the mean of the squares
    num_pairs_Q : number of these pairs, the weights of the queries
    pooled : metric -> one value for all pairs together
    """

    values: dict[str, np.ndarray]
    num_pairs_Q: np.ndarray
    pooled: dict[str, float] = field(default_factory=dict)


def measure(lists: Lists, task: HeldOut, measures: Measures, prediction_errors: PredictionErrors | None = None,
            more: Mapping[str, np.ndarray] | None = None) -> MetricResults:
    """Return all metrics of a recommender's lists at every cutoff; `more` are additional metrics, (Q,) each."""
    hits_QK = hits(lists.items_QK, task.relevant_QN)
    places = np.nonzero(hits_QK)
    values = ranking_values(RANKING, lists, places, task, measures)
    pooled: dict[str, float] = {}
    weights: dict[str, np.ndarray] = {}
    for family, source in _sources(lists, hits_QK, task, measures):
        values |= evaluate_all(family, source, measures.cutoffs, by_cutoff=True)
        pooled |= evaluate_all(family, source, measures.cutoffs, by_cutoff=True, pooled=True)
        weights |= weights_of(family, source, measures.cutoffs)
    values |= more or {}
    if prediction_errors is not None:
        values |= prediction_errors.values
        weights |= dict.fromkeys(prediction_errors.values, prediction_errors.num_pairs_Q.astype(np.float64))
        pooled |= prediction_errors.pooled
    slices = sliced_metrics(lists, places, task, values, measures)
    cluster_Q = None if task.owner_Q is None else np.unique(task.owner_Q, return_inverse=True)[1].ravel()
    return MetricResults(lists, hits_QK, values, weights, {name: float(value) for name, value in pooled.items()},
                         slices, measures.num_resamples, measures.seed, cluster_Q=cluster_Q)


def _sources(lists: Lists, hits_QK: np.ndarray, task: HeldOut, measures: Measures) -> Iterator[tuple[Family, Any]]:
    """Yield the metric families that do not depend on hits alone, each with the input of its functions."""
    items_QK, cutoffs = lists.items_QK, measures.cutoffs
    if lists.auc_Q is not None:
        yield AREAS, Areas(lists.auc_Q, np.diff(task.relevant_QN.indptr))
    yield WEIGHTED_RECALL, WeightedHits(hits_QK, items_QK, task.relevant_QN,
                                        inverse_propensity(task.counts_N, measures.propensity), cutoffs)
    yield LISTS, RecommendedLists(items_QK, task.counts_N, task.candidates_N, cutoffs)
    if measures.vectors is not None:
        yield VARIETY, VectorLists(items_QK, measures.vectors, cutoffs)


def ranking_values(family: Family, lists: Lists, places: Places, task: HeldOut, measures: Measures,
                   inside_N: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return metrics of lists whose hits are at `places`.

    With `inside_N` (N,) bool, a slice of items, only these items are relevant; hits keep their rank in the whole list,
    and queries without a relevant item in the slice are NaN.
    """
    relevant, gains_QN = task.relevant_QN, measures.gains_QN
    num_inside_Q = num_relevant_Q = np.diff(relevant.indptr)
    if inside_N is not None:
        inside, counted = inside_N[relevant.indices], inside_N[lists.items_QK[places]]
        places = (places[0][counted], places[1][counted])
        num_inside_Q = np.diff(filter_entries(relevant, inside).indptr)
        num_relevant_Q = np.maximum(num_inside_Q, 1)
        gains_QN = None if gains_QN is None else filter_entries(gains_QN, inside)
    graded_gains = None if gains_QN is None else graded(lists.items_QK, gains_QN)
    ordered: Hits = hits_at(places, num_relevant_Q, measures.cutoffs, graded_gains)
    expected = ordered if not measures.expected_ties else TiedHits(
        tie_blocks(lists, relevant, measures.gains_QN, inside_N), num_relevant_Q, measures.cutoffs, ordered.ideal_QI)
    values: dict[str, np.ndarray] = {}
    with np.errstate(invalid="ignore"):  # Without relevant items the ideal gain is 0.
        for metric in family:
            values |= evaluate_all([metric], expected if metric.expected else ordered, measures.cutoffs)
    if inside_N is None:
        return values
    return {name: np.where(num_inside_Q > 0, values_Q, np.nan) for name, values_Q in values.items()}


def sliced_metrics(lists: Lists, places: Places, task: HeldOut, values: Mapping[str, np.ndarray],
                   measures: Measures) -> dict[str, dict[str, np.ndarray]]:
    """Return the metrics of each slice per query; in a slice of queries they are the metrics over all items."""
    metrics_of_slice = {name: ranking_values([metric for metric in RANKING if metric.sliced], lists, places, task,
                                             measures, mask_N)
                        for name, mask_N in measures.slices.items.items()}
    for name, members_Q in measures.slices.queries.items():
        metrics_of_slice[name] = {column: np.where(members_Q, values[column], np.nan)
                                  for column in main_columns(values)}
    return metrics_of_slice


def main_columns(entries: Mapping[str, T]) -> dict[str, T]:
    """Return the entries of the metrics that are reported for slices and variants of a model."""
    return {column: value for column, value in entries.items() if metric_of(column).sliced}
