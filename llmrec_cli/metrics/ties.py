"""Ranking metrics in expectation over a random order of equal scores: exact, no sampling.

Shapes: Q queries, K ranks, C cutoffs.

Items of equal score form a group that takes up consecutive ranks, of which the last may lie beyond the list. Within a
group every order is as likely (McSherry and Najork 2008), so at rank i, the j-th of a group with m items of which r are
relevant (j from 0):

    P(hit at i)                      = r / m
    P(no hit at i | none in 0..j-1)  = (m - r - j) / (m - j)
    P(hit at i and at an earlier j') = r (r - 1) / (m (m - 1))

and groups are independent of each other. From these follow recall, precision, f1, ndcg, hit, mrr and map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec_cli.metrics.ranking import METRICS, Graded, at, discounts, ideal_gain, ndcg_of_gains


@dataclass(frozen=True)
class Groups:
    """The group of equal scores that each rank lies in.

    Attributes
    ----------
    size_QK : int (Q, K), its items, also those beyond the list; 1 beyond the end of a short list
    relevant_QK : int (Q, K), how many of them are relevant; 0 there
    place_QK : int (Q, K), the rank's place in the group, from 0
    gain_QK : float64 (Q, K), the sum of their gains; None for binary relevance
    """

    size_QK: np.ndarray
    relevant_QK: np.ndarray
    place_QK: np.ndarray
    gain_QK: np.ndarray | None = None


def expected_metrics(groups: Groups, num_relevant_Q: np.ndarray, cutoffs: Sequence[int],
                     graded: Graded | None = None) -> dict[str, np.ndarray]:
    """Return every ranking metric in expectation, named and ordered as by `ranking_metrics`.

    Of `graded` only the ideal is read: the gains of the lists are those of the groups.
    """
    relevant_Q1, k_C = num_relevant_Q[:, None], np.asarray(cutoffs)
    hits_QK = groups.relevant_QK / groups.size_QK
    num_QC = at(np.cumsum(hits_QK, axis=1), cutoffs)
    none_QK = _without_hit(groups)
    before_QK = np.concatenate([np.ones((len(none_QK), 1)), none_QK[:, :-1]], axis=1)[:, :none_QK.shape[1]]
    first_QK = (before_QK - none_QK) / np.arange(1, none_QK.shape[1] + 1)
    if graded is None:
        ndcg_QC = at(np.cumsum(hits_QK * discounts(hits_QK.shape[1]), axis=1), cutoffs) / ideal_gain(
            num_relevant_Q, cutoffs)
    else:
        assert groups.gain_QK is not None
        ndcg_QC = ndcg_of_gains(Graded(groups.gain_QK / groups.size_QK, graded.ideal_QI), cutoffs)
    values = {"recall": num_QC / relevant_Q1, "precision": num_QC / k_C, "f1": 2 * num_QC / (k_C + relevant_Q1),
              "hit": 1 - at(none_QK, cutoffs, before=1.0), "ndcg": ndcg_QC,
              "map": at(np.cumsum(_precision_at_hits(groups), axis=1), cutoffs) / relevant_Q1,
              "mrr": at(np.cumsum(first_QK, axis=1), cutoffs)}
    return {f"{name}@{k}": values[name][:, n] for name in METRICS for n, k in enumerate(cutoffs)}


def _without_hit(groups: Groups) -> np.ndarray:
    """Return the probability that there is no hit up to each rank, float64 (Q, K)."""
    left_QK = groups.size_QK - groups.place_QK
    return np.cumprod(np.maximum(left_QK - groups.relevant_QK, 0) / left_QK, axis=1)


def _precision_at_hits(groups: Groups) -> np.ndarray:
    """Return the expected product of a hit and the precision at each rank, float64 (Q, K)."""
    size_QK, relevant_QK, place_QK = groups.size_QK, groups.relevant_QK, groups.place_QK
    hits_QK = relevant_QK / size_QK
    # What earlier groups hold lies on the list whole; the own group adds its earlier places, not independent of this.
    upto_QK = np.cumsum(hits_QK, axis=1)
    earlier_groups_QK = upto_QK - hits_QK * (place_QK + 1)
    own_group_QK = place_QK * (relevant_QK - 1) / np.maximum(size_QK - 1, 1)
    return hits_QK * (1 + earlier_groups_QK + own_group_QK) / np.arange(1, size_QK.shape[1] + 1)
