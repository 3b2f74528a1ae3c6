"""Metrics of recommenders per query, and their means, intervals and differences.

Shapes: Q queries, K ranks, N items, M columns of values, B resamples, P pairs of a group and a member with held-out
items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.hits import MemberHits, ordered_hits
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import LOWER, evaluate_all
from llmrec_cli.metrics.significance import (
    Bootstrap,
    bootstrap,
    cluster_sums,
    default_weights,
    holm,
    influence,
    letters,
    paired_difference,
    paired_test,
)
from llmrec_cli.metrics.table import metric_of
from llmrec_cli.scoring.scorer import Lists, hits


def member_satisfaction(items_QK: np.ndarray, members_QU: sp.csr_array, relevant_UN: sp.csr_array,
                        cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the metrics of the members of each group, `{metric@k: (Q,)}`.

    `relevant_UN` are the users' own held-out items. Members without held-out items are ignored; a group in which no
    member has any is NaN.
    """
    query = np.repeat(np.arange(len(items_QK)), np.diff(members_QU.indptr))
    served = np.diff(relevant_UN.indptr)[members_QU.indices] > 0
    query_P, own = query[served], relevant_UN[members_QU.indices[served]]
    # The list of a group is repeated for each of its members.
    ordered = ordered_hits(hits(items_QK[query_P], own), np.diff(own.indptr), cutoffs)
    return evaluate_all(MEMBERS, MemberHits(ordered, query_P, len(items_QK)), cutoffs, by_cutoff=True)


_SIGNIFICANT = 0.05
"""Largest corrected p-value at which two recommenders count as different."""


@dataclass(frozen=True)
class MetricResults:
    """Metrics of one recommender.

    Attributes
    ----------
    lists, hits_QK : the lists, and a mask of their relevant entries
    values : metric -> float64 (Q,), NaN where the metric is not defined for a query
    weights : metric -> float64 (Q,), weight of each query in the mean; metrics whose weights are all 1 are left out
    pooled : metric -> one value for all lists together
    slices : slice -> metric@k -> float64 (Q,), NaN for queries outside the slice
    seeds : the means of each seed, if `values` are means over several seeds
    cluster_Q : int64 (Q,), from 0, the user or group of each query if they can have several queries; otherwise None
    """

    lists: Lists
    hits_QK: np.ndarray
    values: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    pooled: dict[str, float]
    slices: dict[str, dict[str, np.ndarray]]
    num_resamples: int
    seed: int
    seeds: list[dict[str, float]] = field(default_factory=list)
    cluster_Q: np.ndarray | None = None

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Bootstrap of all columns, those of `values` first; the same seed gives the same resamples."""
        columns = [*self.values.values(), *(v for named in self.slices.values() for v in named.values())]
        # Columns are contiguous in memory, since one column is read at a time.
        values_QM = np.stack(columns).T
        resampled = bootstrap(values_QM, self.num_resamples, self.seed, self._weights(values_QM, list(self.values)),
                              self.cluster_Q)
        for n, name in enumerate(self.values):
            if metric_of(name).root:
                resampled.mean_M[n] = np.sqrt(resampled.mean_M[n])
                resampled.resampled_BM[:, n] = np.sqrt(resampled.resampled_BM[:, n])
        return resampled

    @cached_property
    def influence(self) -> np.ndarray:
        """Influence of each query, or cluster of queries, on the mean of each of `values`, float64 (Q, len(values))."""
        values_QM = np.stack(list(self.values.values())).T
        influence_QM = influence(values_QM, self._weights(values_QM, list(self.values)), self.cluster_Q)
        for n, name in enumerate(self.values):
            if metric_of(name).root:
                influence_QM[:, n] /= 2 * max(self.mean(name), 1e-300)
        return influence_QM

    def _weights(self, values_QM: np.ndarray, names: Sequence[str]) -> np.ndarray:
        weights_QM = default_weights(values_QM)
        for n, name in enumerate(names):
            if name in self.weights:
                weights_QM[:, n] = np.where(weights_QM[:, n] > 0, self.weights[name], 0)
        return weights_QM

    def mean(self, name: str) -> float:
        """Return the mean of a metric over the queries, or its value for all lists together."""
        if name in self.pooled:
            return self.pooled[name]
        values, weights = self.values[name], self.weights.get(name, np.ones(len(self.values[name])))
        weights = np.where(np.isnan(values), 0, weights)
        if not weights.any():
            return float("nan")
        used = values[weights > 0]
        # Rounding must not move a mean outside the range of its values, such as a recall above 1.
        mean = float(np.clip(np.nan_to_num(values) @ weights / weights.sum(), used.min(), used.max()))
        return float(np.sqrt(mean)) if metric_of(name).root else mean

    def summary(self) -> dict[str, Any]:
        """Return `{metric@k: {mean, ci95}}`; ci95 is null for metrics of all lists together.

        With several seeds, `sd` is the standard deviation over seeds; the interval does not include it.
        """
        means = self._summarize(0, self.values)
        means |= {name: {"mean": value, "ci95": None} for name, value in self.pooled.items() if np.isfinite(value)}
        if self.seeds:
            for name, entry in means.items():
                entry["sd"] = float(np.std([seed[name] for seed in self.seeds], ddof=1))
        return means

    def by_owner(self) -> dict[str, Any]:
        """Return `{metric@k: {mean, ci95}}` over users or groups, each with the mean over its own queries.

        Metrics with query weights are left out, since they are not plain means over a user's queries.
        """
        assert self.cluster_Q is not None
        names = [name for name in self.values if name not in self.weights]
        values_QM = np.stack([self.values[name] for name in names]).T
        defined_QM = default_weights(values_QM)
        sums_CM, num_CM = (cluster_sums(np.asarray(one, np.float64), self.cluster_Q)
                           for one in (np.nan_to_num(values_QM), defined_QM))
        means_CM = np.divide(sums_CM, num_CM, out=np.full(sums_CM.shape, np.nan), where=num_CM > 0)
        resampled = bootstrap(means_CM, self.num_resamples, self.seed)
        low_M, high_M = resampled.interval_2M
        return {name: {"mean": float(resampled.mean_M[n]), "ci95": [float(low_M[n]), float(high_M[n])]}
                for n, name in enumerate(names) if np.isfinite(resampled.mean_M[n])}

    def slice_summary(self) -> dict[str, Any]:
        """Return `{slice: {metric@k: {mean, ci95}}}`; an empty slice has no metrics."""
        start, summaries = len(self.values), {}
        for name, values in self.slices.items():
            summaries[name] = self._summarize(start, values)
            start += len(values)
        return summaries

    def comparison(self, other: "MetricResults") -> dict[str, Any]:
        """Return `{metric@k: {difference, ci95, p}}`, paired by query, of the tested metrics that both have."""
        names = [name for name in self.values if name in other.values and metric_of(name).tested]
        (ours, ours_QM), (theirs, theirs_QM) = self._of(names), other._of(names)
        difference_M, (low_M, high_M) = paired_difference(ours, theirs)
        p_M = paired_test(difference_M, ours_QM, theirs_QM)
        return {name: {"difference": float(difference_M[n]), "ci95": [float(low_M[n]), float(high_M[n])],
                       "p": float(p_M[n])} for n, name in enumerate(names) if np.isfinite(difference_M[n])}

    def _of(self, names: Sequence[str]) -> tuple[Bootstrap, np.ndarray]:
        """Return the bootstrap and the influence of the metrics in `names`, in this order."""
        place = {name: n for n, name in enumerate(self.values)}
        columns = [place[name] for name in names]
        return (Bootstrap(self.bootstrap.mean_M[columns], self.bootstrap.resampled_BM[:, columns]),
                self.influence[:, columns])

    def _summarize(self, start: int, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return `{metric@k: {mean, ci95}}` of the columns from `start`, within the ranges of the metrics."""
        mean_M, (low_M, high_M) = self.bootstrap.mean_M, self._interval
        within = {name: np.clip([mean_M[n], low_M[n], high_M[n]], 0, metric_of(name).highest).tolist()
                  for n, name in enumerate(values, start) if np.isfinite(mean_M[n])}
        return {name: {"mean": mean, "ci95": [low, high]} for name, (mean, low, high) in within.items()}

    @cached_property
    def _interval(self) -> np.ndarray:
        return self.bootstrap.interval_2M


def average_seeds(seeds: Sequence[MetricResults]) -> MetricResults:
    """Return the results of several seeds as one: each query's values are averaged over the seeds.

    The interval is therefore that of the average over seeds. The lists are those of the first seed.
    """
    first = seeds[0]
    if len(seeds) == 1:
        return first
    values = {name: np.mean([one.values[name] for one in seeds], axis=0) for name in first.values}
    slices = {part: {name: np.mean([one.slices[part][name] for one in seeds], axis=0) for name in named}
              for part, named in first.slices.items()}
    pooled = {name: float(np.mean([one.pooled[name] for one in seeds])) for name in first.pooled}
    means = [{name: one.mean(name) for name in [*one.values, *one.pooled]} for one in seeds]
    return replace(first, values=values, pooled=pooled, slices=slices, seeds=means)


@dataclass(frozen=True)
class Ranking:
    """Recommenders in order of a metric, the best first.

    Attributes
    ----------
    metric : the metric's name
    names : the recommenders
    letters : name -> letters; recommenders that share a letter do not differ significantly
    p : (one, other) -> p-value of their difference, corrected for the number of pairs (Holm 1979)
    """

    metric: str
    names: list[str]
    letters: dict[str, str]
    p: dict[tuple[str, str], float]


def rank_recommenders(results: Mapping[str, MetricResults], metric: str) -> Ranking:
    """Rank the recommenders by a metric and test all pairs of them."""
    names, size = list(results), len(results)
    sign = -1 if metric_of(metric).better == LOWER else 1
    place = {name: list(one.values).index(metric) for name, one in results.items()}
    means = np.array([one.mean(metric) for one in results.values()])
    pairs = list(zip(*np.triu_indices(size, 1), strict=True))
    influences = [one.influence[:, place[name]] for name, one in results.items()]
    raw = [paired_test(means[[a]] - means[[b]], influences[a][:, None], influences[b][:, None])[0] for a, b in pairs]
    corrected = holm(np.array(raw))
    differ = np.zeros((size, size), bool)
    for (a, b), p in zip(pairs, corrected, strict=True):
        differ[a, b] = differ[b, a] = p <= _SIGNIFICANT
    order = np.argsort(-sign * means, kind="stable")
    letter_groups = letters(sign * means, differ)
    return Ranking(metric, [names[n] for n in order], dict(zip(names, letter_groups, strict=True)),
                   {(names[a], names[b]): float(p) for (a, b), p in zip(pairs, corrected, strict=True)})
