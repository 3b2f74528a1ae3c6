"""Ranking metrics: arrays in, one float64 value per query and cutoff out.

Shapes: Q queries, K ranks (best first), C cutoffs, I items of the ideal list.

Relevance is binary; only ndcg can be asked for with gains (`Graded`).

Policies, the same for every metric:
- Ties were resolved before: the order of the list counts, scores are not looked at (metrics.ties: in expectation).
- A list shorter than a cutoff is padded with False; so a query without any recommendation scores 0 and is counted.
- Queries without relevant items have no defined recall; the caller leaves them out, `num_relevant_Q` is at least 1.
- Everything lies in 0..1, also where a cutoff exceeds the relevant items or the list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray, Sequence[int]], np.ndarray]


def recall(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return hits / relevant items, (Q, C)."""
    return num_hits(hits_QK, cutoffs) / num_relevant_Q[:, None]


def precision(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return hits / k, (Q, C); k also where the list is shorter, as in trec_eval."""
    return num_hits(hits_QK, cutoffs) / np.asarray(cutoffs)


def f1(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the harmonic mean of precision and recall, (Q, C): 2 hits / (k + relevant), 0 without a hit."""
    return 2 * num_hits(hits_QK, cutoffs) / (np.asarray(cutoffs) + num_relevant_Q[:, None])


def hit(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return 1 where there is any hit, else 0, (Q, C)."""
    return (num_hits(hits_QK, cutoffs) > 0).astype(np.float64)


def mrr(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return 1 / rank of the first hit within k, 0 without one, (Q, C)."""
    first_QK = hits_QK & (np.cumsum(hits_QK, axis=1) == 1)
    return at(np.cumsum(first_QK / _ranks(hits_QK), axis=1), cutoffs)


def ndcg(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), (Q, C).

    Gain 1 per hit, discount 1 / log2(rank + 1); the ideal list has min(k, relevant) hits at its top.
    """
    gain_QK = np.cumsum(hits_QK * discounts(hits_QK.shape[1]), axis=1)
    return at(gain_QK, cutoffs) / ideal_gain(num_relevant_Q, cutoffs)


@dataclass(frozen=True)
class Graded:
    """Gains for ndcg: linear, as in Järvelin and Kekäläinen 2002 and trec_eval; so a 5 is worth five times a 1.

    Attributes
    ----------
    gains_QK : float64 (Q, K), the gain of each entry of the lists, 0 for what is not relevant
    ideal_QI : float64 (Q, I), the gains of all relevant items of a query, highest first, then 0
    """

    gains_QK: np.ndarray
    ideal_QI: np.ndarray


def ndcg_of_gains(graded: Graded, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the normalised discounted cumulative gain with gains, (Q, C); list and ideal are cut at k alike."""
    gain_QK, ideal_QI = (np.cumsum(gains * discounts(gains.shape[1]), axis=1)
                         for gains in (graded.gains_QK, graded.ideal_QI))
    return at(gain_QK, cutoffs) / at(ideal_QI, cutoffs)


def map(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the average precision, (Q, C): the sum of precision@r over the ranks r <= k of hits / relevant items.

    Divided by all relevant items, as trec_eval's map_cut and ranx do, not by min(k, relevant) as some libraries do:
    with more than k relevant items even a perfect list stays below 1.
    """
    precision_QK = np.cumsum(hits_QK, axis=1) / _ranks(hits_QK)
    return at(np.cumsum(precision_QK * hits_QK, axis=1), cutoffs) / num_relevant_Q[:, None]


METRICS: dict[str, Metric] = {"recall": recall, "precision": precision, "f1": f1, "hit": hit, "ndcg": ndcg,
                              "map": map, "mrr": mrr}


def ranking_metrics(hits_QK: np.ndarray, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
                    graded: Graded | None = None) -> dict[str, np.ndarray]:
    """Return every ranking metric at every cutoff, `{"ndcg@10": float64 (Q,), ...}`; with gains ndcg is graded."""
    values = {name: metric(hits_QK, num_relevant_Q, cutoffs) for name, metric in METRICS.items()}
    if graded is not None:
        values["ndcg"] = ndcg_of_gains(graded, cutoffs)
    return {f"{name}@{k}": values[name][:, n] for name in METRICS for n, k in enumerate(cutoffs)}


def num_hits(hits_QK: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the hits among the first k of each list, (Q, C)."""
    return at(np.cumsum(hits_QK, axis=1, dtype=np.float64), cutoffs)


def discounts(num_ranks: int) -> np.ndarray:
    """Return what a gain at each rank is multiplied by, 1 / log2(rank + 1), (K,)."""
    return 1 / np.log2(np.arange(num_ranks) + 2)


def ideal_gain(num_relevant_Q: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Return the discounted gain of the best list there can be, with min(k, relevant) hits at its top, (Q, C)."""
    ideal = np.concatenate([[0.0], np.cumsum(discounts(max(cutoffs)))])
    return ideal[np.minimum(np.asarray(cutoffs), num_relevant_Q[:, None])]


def at(cumulative_QK: np.ndarray, cutoffs: Sequence[int], before: float = 0.0) -> np.ndarray:
    """Return the columns of the cutoffs; beyond the last rank nothing changes any more, `before` rank 1 it is this."""
    padded = np.pad(cumulative_QK.astype(np.float64), ((0, 0), (1, 0)), constant_values=before)
    return padded[:, np.minimum(np.asarray(cutoffs), padded.shape[1] - 1)]


def _ranks(hits_QK: np.ndarray) -> np.ndarray:
    return np.arange(1, hits_QK.shape[1] + 1)
