"""Area under the ROC curve: probability that a relevant candidate scores above an irrelevant one; ties count half.

Shapes: Q queries, R relevant candidates of all queries together.

Equal to the Mann-Whitney statistic (Hanley and McNeil 1982), so it is computed from integer counts: nothing is rounded
before the final division.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Areas:
    """AUC of each query, NaN where not defined, and its number of relevant items."""

    auc_Q: np.ndarray
    num_relevant_Q: np.ndarray


def auc_of_counts(query_R: np.ndarray, below_R: np.ndarray, equal_R: np.ndarray,
                  num_candidates_Q: np.ndarray) -> np.ndarray:
    """Return the AUC of each query over all its candidates, float64 (Q,) in 0..1.

    `query_R` is the query of each relevant candidate; `below_R` and `equal_R` are the numbers of the query's candidates
    that score below it and the same as it, the latter including itself. NaN for a query without relevant candidates
    or with relevant ones only.
    """
    num_queries = len(num_candidates_Q)
    num_relevant_Q = np.bincount(query_R, minlength=num_queries)
    # Twice the mid-rank of each, counted from 1: ranks of equal scores are averaged.
    twice_R = 2 * below_R.astype(np.int64) + equal_R + 1
    twice_Q = np.bincount(query_R, weights=twice_R, minlength=num_queries)
    pairs_Q = num_relevant_Q * (num_candidates_Q - num_relevant_Q)
    wins_Q = (twice_Q - num_relevant_Q * (num_relevant_Q + 1)) / 2
    return np.divide(wins_Q, pairs_Q, out=np.full(num_queries, np.nan), where=pairs_Q > 0)


def binary_auc(scores_P: np.ndarray, liked_P: np.ndarray) -> float:
    """Return the AUC of liked against disliked pairs (`liked_P` is bool); NaN without a like or without a dislike."""
    ordered_P = np.sort(scores_P)
    liked_scores = scores_P[liked_P]
    below = np.searchsorted(ordered_P, liked_scores, side="left")
    equal = np.searchsorted(ordered_P, liked_scores, side="right") - below
    return float(auc_of_counts(np.zeros(len(liked_scores), np.int64), below, equal, np.array([len(scores_P)]))[0])
