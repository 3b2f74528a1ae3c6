"""Area under the ROC curve: how often what is relevant scores above what is not; equal scores count half.

Shapes: Q queries, R relevant candidates of all queries together.

Equal to the Mann-Whitney statistic (Hanley and McNeil 1982), so computed from counts that are whole numbers: nothing
is rounded before the one division.
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

    For each relevant candidate its query, how many of the query's candidates score below it, and how many score the
    same, itself among them. NaN for a query of which no candidate, or every candidate, is relevant.
    """
    num_queries = len(num_candidates_Q)
    num_relevant_Q = np.bincount(query_R, minlength=num_queries)
    # Twice the middle rank of each, counted from 1: ranks of equal scores are averaged.
    twice_R = 2 * below_R.astype(np.int64) + equal_R + 1
    twice_Q = np.bincount(query_R, weights=twice_R, minlength=num_queries)
    pairs_Q = num_relevant_Q * (num_candidates_Q - num_relevant_Q)
    wins_Q = (twice_Q - num_relevant_Q * (num_relevant_Q + 1)) / 2
    return np.divide(wins_Q, pairs_Q, out=np.full(num_queries, np.nan), where=pairs_Q > 0)


def binary_auc(scores_P: np.ndarray, liked_P: np.ndarray) -> float:
    """Return the AUC of pairs that were liked (bool) against those that were not; NaN where one kind is missing."""
    ordered_P = np.sort(scores_P)
    chosen = scores_P[liked_P]
    below = np.searchsorted(ordered_P, chosen, side="left")
    equal = np.searchsorted(ordered_P, chosen, side="right") - below
    return float(auc_of_counts(np.zeros(len(chosen), np.int64), below, equal, np.array([len(scores_P)]))[0])
