"""How well a group's list serves each of its members.

Shapes: Q queries, K ranks, P pairs of a group and a member who has something to find, C cutoffs.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.ranking import ranking_metrics
from llmrec_cli.scoring.scorer import hits


def member_satisfaction(items_QK: np.ndarray, members_QU: sp.csr_array, relevant_UN: sp.csr_array,
                        cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return mean, minimum and spread of the members' own ndcg of the group's list, `{metric@k: (Q,)}`.

    `relevant_UN` are the users' own held-out items. The spread is the largest less the smallest. Members with nothing
    held out are passed over; NaN for a group without any other.
    """
    query = np.repeat(np.arange(len(items_QK)), np.diff(members_QU.indptr))
    asked = np.diff(relevant_UN.indptr)[members_QU.indices] > 0
    query_P, member_P = query[asked], members_QU.indices[asked]
    found: dict[str, np.ndarray] = {}
    own = relevant_UN[member_P]
    # Lists are repeated for each member: as many rows as there are memberships, K ranks each.
    values = ranking_metrics(hits(items_QK[query_P], own), np.diff(own.indptr), cutoffs) if len(query_P) else {}
    starts = np.flatnonzero(np.diff(query_P, prepend=-1))
    for k in cutoffs:
        mean_Q, least_Q, spread_Q = np.full((3, len(items_QK)), np.nan)
        if len(query_P):
            ndcg_P = values[f"ndcg@{k}"]
            num = np.diff(np.append(starts, len(query_P)))
            least, most = np.minimum.reduceat(ndcg_P, starts), np.maximum.reduceat(ndcg_P, starts)
            mean_Q[query_P[starts]] = np.add.reduceat(ndcg_P, starts) / num
            least_Q[query_P[starts]], spread_Q[query_P[starts]] = least, most - least
        found |= {f"member_ndcg@{k}": mean_Q, f"least_member_ndcg@{k}": least_Q, f"member_spread@{k}": spread_Q}
    return found
