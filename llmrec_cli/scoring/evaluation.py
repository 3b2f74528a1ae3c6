"""From a scorer to every metric of the report, one value per query.

Shapes: Q queries, K ranks, N items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics import beyond_accuracy as beyond
from llmrec_cli.metrics.ranking import METRICS, ranking_metrics
from llmrec_cli.metrics.significance import Bootstrap, bootstrap, paired_difference
from llmrec_cli.metrics.slices import ITEM_SLICES, TAIL, item_slices, restrict, user_slices
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists, Score, hits, recommend_lists

SLICED = ("recall", "hit", "ndcg", "mrr")
"""Metrics that are reported for slices; the others say little there."""


@dataclass(frozen=True)
class Measured:
    """What one recommender got.

    Attributes
    ----------
    lists, hits_QK : the lists and which of their entries are relevant
    values : metric@k to float64 (Q,), NaN where it is not defined for a query
    whole : metric@k to a value that belongs to all lists together
    slices : slice to metric@k to float64 (Q,), NaN for the queries that are not in the slice
    bootstrap : of `values`, then of each slice, in order
    """

    lists: Lists
    hits_QK: np.ndarray
    values: dict[str, np.ndarray]
    whole: dict[str, float]
    slices: dict[str, dict[str, np.ndarray]]
    num_resamples: int
    seed: int

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Means of all columns and their resamples; the same draws for the same seed."""
        columns = [*self.values.values(), *(v for named in self.slices.values() for v in named.values())]
        return bootstrap(np.stack(columns, axis=1), self.num_resamples, self.seed)

    def summary(self) -> dict[str, Any]:
        """Return `{metric@k: {mean, ci95}}`; ci95 is null for what belongs to all lists together."""
        means = self._described(0, self.values)
        means |= {name: {"mean": value, "ci95": None} for name, value in self.whole.items() if np.isfinite(value)}
        return means

    def slice_summary(self) -> dict[str, Any]:
        """Return `{slice: {metric@k: {mean, ci95}}}`; an empty slice has no metrics."""
        start, described = len(self.values), {}
        for name, values in self.slices.items():
            described[name] = self._described(start, values)
            start += len(values)
        return described

    def comparison(self, other: "Measured") -> dict[str, Any]:
        """Return `{metric@k: {difference, ci95, p}}` of the ranking metrics, paired by query."""
        difference_M, (low_M, high_M), p_M = paired_difference(self.bootstrap, other.bootstrap)
        return {name: {"difference": float(difference_M[n]), "ci95": [float(low_M[n]), float(high_M[n])],
                       "p": float(p_M[n])}
                for n, name in enumerate(self.values) if name.partition("@")[0] in METRICS}

    def _described(self, start: int, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        mean_M, (low_M, high_M) = self.bootstrap.mean_M, self._interval
        return {name: {"mean": float(mean_M[n]), "ci95": [float(low_M[n]), float(high_M[n])]}
                for n, name in enumerate(values, start) if np.isfinite(mean_M[n])}

    @cached_property
    def _interval(self) -> np.ndarray:
        return self.bootstrap.interval_2M


def measure(score: Score, task: HeldOut, attributes_NA: sp.csr_array, ranks_N: np.ndarray, cutoffs: Sequence[int], *,
            exclude_seen: bool, block_size: int, num_resamples: int, seed: int) -> Measured:
    """Return all metrics of a recommender at every one of the ascending `cutoffs`."""
    lists = recommend_lists(score, task.queries, cutoffs[-1], ranks_N, exclude_seen=exclude_seen,
                            candidates_N=None if task.candidates_N.all() else task.candidates_N,
                            block_size=block_size)
    found_QK = hits(lists.items_QK, task.relevant_QN)
    values = ranking_metrics(found_QK, np.diff(task.relevant_QN.indptr), cutoffs)
    tail_N = item_slices(task.counts_N) == ITEM_SLICES.index(TAIL)
    whole: dict[str, float] = {}
    num_candidates = int(task.candidates_N.sum())
    for k in cutoffs:
        top_QK = lists.items_QK[:, :k]
        values[f"novelty@{k}"] = beyond.novelty(top_QK, task.counts_N)
        values[f"arp@{k}"] = beyond.arp(top_QK, task.counts_N)
        values[f"tail_share@{k}"] = beyond.tail_share(top_QK, tail_N)
        if attributes_NA.nnz and k > 1:
            values[f"diversity@{k}"] = beyond.diversity(top_QK, attributes_NA)
        shown_QK = beyond.compact(top_QK, task.candidates_N)
        whole[f"coverage@{k}"] = beyond.coverage(shown_QK, num_candidates)
        whole[f"gini@{k}"] = beyond.gini(shown_QK, num_candidates)
    slices = sliced_metrics(lists.items_QK, found_QK, task, cutoffs, values)
    return Measured(lists, found_QK, values, whole, slices, num_resamples, seed)


def sliced_metrics(items_QK: np.ndarray, found_QK: np.ndarray, task: HeldOut, cutoffs: Sequence[int],
                   values: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the metrics of each slice per query.

    In an item slice only its items are relevant, hits keep their rank in the whole list, and queries without a
    relevant item in it are not in the slice. In a user slice the metrics are the ordinary ones.
    """
    slices_N = item_slices(task.counts_N)
    chosen = [name for name in values if name.partition("@")[0] in SLICED]
    num_queries, sliced = len(found_QK), {}
    query = np.repeat(np.arange(num_queries), np.diff(task.relevant_QN.indptr))
    for number, name in enumerate(ITEM_SLICES):
        num_relevant_Q = np.bincount(query[slices_N[task.relevant_QN.indices] == number], minlength=num_queries)
        some = num_relevant_Q > 0
        metrics = ranking_metrics(restrict(found_QK, items_QK, slices_N, name)[some], num_relevant_Q[some], cutoffs)
        sliced[f"item:{name}"] = {metric: _spread(metrics[metric], some) for metric in chosen}
    for name, members in user_slices(task.lengths_Q).items():
        sliced[f"user:{name}"] = {metric: np.where(members, values[metric], np.nan) for metric in chosen}
    return sliced


def _spread(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    spread = np.full(len(where), np.nan)
    spread[where] = values
    return spread
