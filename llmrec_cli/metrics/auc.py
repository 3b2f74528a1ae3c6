"""Area under the ROC curve: how often what is relevant scores above what is not; equal scores count half.

Shapes: Q queries, R relevant candidates of all queries together.

Equal to the Mann-Whitney statistic (Hanley and McNeil 1982), so computed from counts that are whole numbers: nothing
is rounded before the one division.
"""

import numpy as np


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


def gauc(auc_Q: np.ndarray, weights_Q: np.ndarray) -> float:
    """Return the mean of the queries' AUC, each weighted (Zhou et al. 2018, eq. 7); NaN ones are left out.

    Zhou et al. weight by impressions or clicks; ours are the relevant items of a query.
    """
    defined = np.isfinite(auc_Q) & (weights_Q > 0)
    return float(np.average(auc_Q[defined], weights=weights_Q[defined])) if defined.any() else float("nan")


def binary_auc(scores_P: np.ndarray, liked_P: np.ndarray) -> float:
    """Return the AUC of pairs that were liked (bool) against those that were not; NaN where one kind is missing."""
    ordered_P = np.sort(scores_P)
    chosen = scores_P[liked_P]
    below = np.searchsorted(ordered_P, chosen, side="left")
    equal = np.searchsorted(ordered_P, chosen, side="right") - below
    return float(auc_of_counts(np.zeros(len(chosen), np.int64), below, equal, np.array([len(scores_P)]))[0])
