"""How sure a mean is: the bootstrap over queries (Efron 1979), percentile intervals.

Shapes: Q queries, M metrics, B resamples.
"""

from dataclasses import dataclass

import numpy as np

BLOCK_CELLS = 2**24
"""Most cells (resamples x queries) held at a time: 128 MB."""


@dataclass(frozen=True)
class Bootstrap:
    """Means of M metrics and their bootstrap distribution.

    Attributes
    ----------
    mean_M : float64 (M,)
    resampled_BM : float64 (B, M), the means over the queries of each resample; NaN where it drew no defined value
    """

    mean_M: np.ndarray
    resampled_BM: np.ndarray

    @property
    def interval_2M(self) -> np.ndarray:
        """The 2.5th and 97.5th percentile of the resampled means, (2, M); NaN where a metric has no defined value."""
        return _percentiles(self.resampled_BM)


def bootstrap(values_QM: np.ndarray, num_resamples: int, seed: int) -> Bootstrap:
    """Resample the queries with replacement, all metrics together, so that differences between columns are paired.

    A NaN in `values_QM` (Q, M) means not defined for this query, such as a slice in which it has no relevant item:
    means are over the defined values of the resample.
    """
    generator = np.random.default_rng(seed)
    num_queries = len(values_QM)
    defined_QM = ~np.isnan(values_QM)
    # One matrix product gives the sums of all metrics, and the number of defined values behind each.
    both_QM2 = np.concatenate([np.where(defined_QM, values_QM, 0.0), defined_QM], axis=1)
    sums_B = [_counts(generator, rows, num_queries) @ both_QM2 for rows in _blocks(num_resamples, num_queries)]
    return Bootstrap(_ratio(both_QM2.sum(0, keepdims=True))[0], _ratio(np.concatenate(sums_B)))


def paired_difference(ours: Bootstrap, theirs: Bootstrap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return difference of means (M,), its 95% interval (2, M) and two-sided p-value (M,).

    Both must come from the same resamples (same queries, number and seed). With d* the resampled differences,
    p = min(1, 2 min((1 + #{d* <= 0}) / (B + 1), (1 + #{d* >= 0}) / (B + 1))): never 0, and 1 where all are equal.
    """
    assert ours.resampled_BM.shape == theirs.resampled_BM.shape
    differences_BM = ours.resampled_BM - theirs.resampled_BM
    below_M, above_M = (differences_BM <= 0).sum(0), (differences_BM >= 0).sum(0)
    p_M = np.minimum(1.0, 2 * (1 + np.minimum(below_M, above_M)) / (len(differences_BM) + 1))
    return ours.mean_M - theirs.mean_M, _percentiles(differences_BM), p_M


def _counts(generator: np.random.Generator, num_rows: int, num_queries: int) -> np.ndarray:
    """Return how often each resample drew each query, float64 (num_rows, Q)."""
    drawn = generator.integers(0, num_queries, (num_rows, num_queries), dtype=np.int64)
    drawn += np.arange(num_rows)[:, None] * num_queries
    counts = np.bincount(drawn.ravel(), minlength=num_rows * num_queries)
    return counts.reshape(num_rows, num_queries).astype(np.float64)


def _blocks(num_resamples: int, num_queries: int) -> list[int]:
    size = max(1, BLOCK_CELLS // max(1, num_queries))
    return [min(size, num_resamples - start) for start in range(0, num_resamples, size)]


def _ratio(sums_B2M: np.ndarray) -> np.ndarray:
    sums_BM, counts_BM = np.split(sums_B2M, 2, axis=1)
    return np.divide(sums_BM, counts_BM, out=np.full_like(sums_BM, np.nan), where=counts_BM > 0)


def _percentiles(values_BM: np.ndarray) -> np.ndarray:
    """Return the 2.5th and 97.5th percentile of each column over its defined values."""
    limits_2M = np.percentile(values_BM, [2.5, 97.5], axis=0)
    for column in np.flatnonzero(np.isnan(values_BM).any(0)):
        defined = values_BM[~np.isnan(values_BM[:, column]), column]
        limits_2M[:, column] = np.percentile(defined, [2.5, 97.5]) if len(defined) else np.nan
    return limits_2M
