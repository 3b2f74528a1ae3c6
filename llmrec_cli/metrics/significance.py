"""Confidence intervals of means, and tests of differences between recommenders.

Intervals: percentiles of the bootstrap over queries (Efron 1979). Tests: the paired t-test (Student 1908). It agrees
with the bootstrap and the randomisation test on ranking metrics (Smucker et al. 2007; Urbano et al. 2019). Unlike
theirs, its p-values are not bounded below by the number of resamples, so a correction for many comparisons can still
reject.

Shapes: Q queries, M metrics, B resamples, W distinct weights, P pairs of recommenders.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import scipy.sparse as sp
from scipy.special import stdtr

BLOCK_CELLS = 2**22
"""Most cells (resamples x queries) held at a time: 16 MB of counts."""


@dataclass(frozen=True)
class Bootstrap:
    """Means of M metrics and their bootstrap distribution.

    Attributes
    ----------
    mean_M : float64 (M,)
    resampled_BM : float64 (B, M), the means of each resample; NaN where a resample has no defined value
    """

    mean_M: np.ndarray
    resampled_BM: np.ndarray

    @property
    def interval_2M(self) -> np.ndarray:
        """The 2.5th and 97.5th percentile of the resampled means, (2, M); NaN where a metric has no defined value."""
        return _percentiles(self.resampled_BM)


def bootstrap(values_QM: np.ndarray, num_resamples: int, seed: int, weights_QM: np.ndarray | None = None,
              cluster_Q: np.ndarray | None = None) -> Bootstrap:
    """Resample the queries with replacement, all metrics together, so that differences between columns are paired.

    A mean is sum(w v) / sum(w). Without `weights_QM` every defined value has weight 1. NaN has weight 0: the value is
    not defined for this query, for example in a slice without relevant items. With `cluster_Q` (Q,), integers from 0,
    whole clusters of queries are resampled (Cameron, Gelbach and Miller 2008), since queries of one user are similar.
    """
    generator = np.random.default_rng(seed)
    weights_QM = default_weights(values_QM) if weights_QM is None else weights_QM
    weights_QW, weight_M = _distinct(weights_QM)
    weighed_QM = np.where(weights_QM > 0, np.nan_to_num(values_QM) * weights_QM, 0.0)
    limits_2M = _limits(values_QM, weights_QM)
    mean_M = _ratio(weighed_QM.sum(0), weights_QM.sum(0, dtype=np.float64)).clip(*limits_2M)
    # Deviations from the mean keep their digits in single precision, and those of a constant stay 0.
    deviation_QM = (weighed_QM - weights_QM * np.nan_to_num(mean_M)).astype(np.float32)
    both_QC = np.concatenate([deviation_QM, weights_QW], axis=1, dtype=np.float32)
    if cluster_Q is not None:
        both_QC = cluster_sums(both_QC, cluster_Q)
    num_queries = len(both_QC)
    sums = np.concatenate([_counts(generator, rows, num_queries) @ both_QC
                           for rows in _blocks(num_resamples, num_queries)]).astype(np.float64)
    num_metrics = len(weight_M)
    resampled_BM = mean_M + _ratio(sums[:, :num_metrics], sums[:, num_metrics:][:, weight_M])
    # A mean lies between its values; single precision without clipping could give a recall of 1.00000001.
    return Bootstrap(mean_M, resampled_BM.clip(*limits_2M))


def mean_interval(values_Q: np.ndarray, num_comparisons: int = 1) -> list[float] | None:
    """Return a 95% interval of the mean by the normal approximation, within the range of the values; None for fewer
    than two values. Of several comparisons the intervals hold together, by Bonferroni's correction.

    For the list of runs, where a bootstrap would cost more than it tells: it agrees with it from some 30 queries on.
    """
    if len(values_Q) < 2:
        return None
    quantile = NormalDist().inv_cdf(1 - 0.025 / num_comparisons)
    mean, half = values_Q.mean(), quantile * values_Q.std(ddof=1) / len(values_Q)**0.5
    return [float(max(values_Q.min(), mean - half)), float(min(values_Q.max(), mean + half))]


def cluster_sums(values_QM: np.ndarray, cluster_Q: np.ndarray) -> np.ndarray:
    """Return the sums of each cluster's rows, (clusters, M)."""
    member_CQ = sp.csr_array((np.ones(len(cluster_Q), values_QM.dtype), (cluster_Q, np.arange(len(cluster_Q)))))
    summed: np.ndarray = member_CQ @ values_QM
    return summed


def _limits(values_QM: np.ndarray, weights_QM: np.ndarray) -> np.ndarray:
    """Return the lowest and highest value with positive weight in each column, (2, M); NaN where there is none."""
    defined_QM = (weights_QM > 0) & ~np.isnan(values_QM)
    limits_2M = np.stack([np.where(defined_QM, values_QM, np.inf).min(0, initial=np.inf),
                          np.where(defined_QM, values_QM, -np.inf).max(0, initial=-np.inf)])
    return np.where(defined_QM.any(0), limits_2M, np.nan)


def default_weights(values_QM: np.ndarray) -> np.ndarray:
    """Return 1 where a value is defined and 0 where it is NaN, float32 of the same shape."""
    return (~np.isnan(values_QM)).astype(np.float32)


def paired_difference(ours: Bootstrap, theirs: Bootstrap) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of means (M,) and its 95% interval (2, M).

    Both must come from the same resamples (same queries, number and seed).
    """
    assert ours.resampled_BM.shape == theirs.resampled_BM.shape
    return ours.mean_M - theirs.mean_M, _percentiles(ours.resampled_BM - theirs.resampled_BM)


def influence(values_QM: np.ndarray, weights_QM: np.ndarray, cluster_Q: np.ndarray | None = None) -> np.ndarray:
    """Return the influence of each query on each mean, float64 (Q, M): w (v - mean) / mean(w), 0 where w is 0.

    With `cluster_Q`, the influence of each cluster of queries, (clusters, M): sum(w (v - mean)) / mean over clusters of
    sum(w).
    """
    total_M = weights_QM.sum(0, dtype=np.float64)
    weighed_QM = np.where(weights_QM > 0, np.nan_to_num(values_QM) * weights_QM, 0.0)
    mean_M = np.nan_to_num(_ratio(weighed_QM.sum(0), total_M))
    deviation_QM = weighed_QM - weights_QM * mean_M
    if cluster_Q is not None:
        deviation_QM = cluster_sums(deviation_QM, cluster_Q)
    return deviation_QM / np.maximum(total_M / len(deviation_QM), 1e-300)


def paired_test(difference_M: np.ndarray, ours_QM: np.ndarray, theirs_QM: np.ndarray) -> np.ndarray:
    """Return two-sided p-values (M,) of the differences between two recommenders' means.

    `ours_QM` and `theirs_QM` are the `influence` of each query. For plain means this is the paired t-test; for weighted
    means, the t-test of their linearisation. 1 where no query differs, and where there is a single query.
    """
    num_queries = len(ours_QM)
    if num_queries < 2:
        return np.ones(len(difference_M))
    error_M = (ours_QM - theirs_QM).std(axis=0, ddof=1) / np.sqrt(num_queries)
    # Errors below this are rounding: a difference that is the same for every query is certain.
    tiny = 1e-12
    t_M = np.abs(difference_M) / np.maximum(error_M, tiny * np.maximum(np.abs(difference_M), tiny))
    return np.where(np.abs(difference_M) <= tiny, 1.0, 2 * stdtr(num_queries - 1, -t_M))


def holm(p_P: np.ndarray) -> np.ndarray:
    """Return Holm-corrected p-values (Holm 1979), (P,); rejecting at .05 has a family-wise error rate of at most 5%."""
    order = np.argsort(p_P, kind="stable")
    stepped = np.minimum(1.0, p_P[order] * np.arange(len(p_P), 0, -1))
    corrected = np.empty(len(p_P))
    corrected[order] = np.maximum.accumulate(stepped) if len(p_P) else stepped
    return corrected


def letters(means: np.ndarray, differ: np.ndarray) -> list[str]:
    """Return the compact letter display (Piepho 2004): recommenders that share a letter do not differ significantly.

    `means` (S,) order the letters, a is the best; `differ` (S, S), bool and symmetric, marks the significant pairs.
    Insert and absorb: start with one group of all, split it at each significant pair, drop groups within others.
    """
    groups = [set(range(len(means)))] if len(means) else []
    for one, other in zip(*np.nonzero(np.triu(differ, 1)), strict=True):
        split = []
        for group in groups:
            split += [group - {one}, group - {other}] if {one, other} <= group else [group]
        groups = []
        for group in sorted(split, key=len, reverse=True):
            if not any(group <= larger for larger in groups):
                groups.append(group)
    rank = np.empty(len(means), int)
    rank[np.argsort(-means, kind="stable")] = np.arange(len(means))
    groups.sort(key=lambda group: sorted(rank[n] for n in group))
    return ["".join(_letter(n) for n, group in enumerate(groups) if member in group) for member in range(len(means))]


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"({place + 1})"


def _counts(generator: np.random.Generator, num_rows: int, num_queries: int) -> np.ndarray:
    """Return the number of times that each resample contains each query, float32 (num_rows, Q)."""
    cells = generator.integers(0, num_queries, (num_rows, num_queries), dtype=np.int64)
    cells += np.arange(num_rows)[:, None] * num_queries
    counts = np.bincount(cells.ravel(), minlength=num_rows * num_queries)
    return counts.reshape(num_rows, num_queries).astype(np.float32)


def _blocks(num_resamples: int, num_queries: int) -> list[int]:
    size = max(1, BLOCK_CELLS // max(1, num_queries))
    return [min(size, num_resamples - start) for start in range(0, num_resamples, size)]


def _distinct(weights_QM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct weight columns (Q, W) and the index of each metric's column, (M,): most metrics share one."""
    places: dict[bytes, int] = {}
    first, weight_M = list[int](), list[int]()
    for m in range(weights_QM.shape[1]):
        place = places.setdefault(weights_QM[:, m].tobytes(), len(places))
        if place == len(first):
            first.append(m)
        weight_M.append(place)
    return weights_QM[:, first], np.array(weight_M, int)


def _ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.divide(sums, weights, out=np.full(np.shape(sums), np.nan), where=weights > 0)


def _percentiles(values_BM: np.ndarray) -> np.ndarray:
    """Return the 2.5th and 97.5th percentile of each column over its defined values."""
    defined = ~np.isnan(values_BM)
    whole = defined.all(0)
    limits_2M = np.full((2, values_BM.shape[1]), np.nan)
    limits_2M[:, whole] = np.percentile(values_BM[:, whole], [2.5, 97.5], axis=0)
    for column in np.flatnonzero(~whole & defined.any(0)):
        limits_2M[:, column] = np.percentile(values_BM[defined[:, column], column], [2.5, 97.5])
    return limits_2M
