"""Metrics of groups' lists for each of their members.

Shapes: Q queries, K ranks, P pairs of a group and a member with held-out items.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.hits import MemberHits, ordered_hits
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.scoring.scorer import hits


def member_satisfaction(items_QK: np.ndarray, members_QU: sp.csr_array, relevant_UN: sp.csr_array,
                        cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the metrics of the members of each group, `{metric@k: (Q,)}`.

    `relevant_UN` are the users' own held-out items. Members with nothing held out are passed over; NaN for a group
    without any other.
    """
    query = np.repeat(np.arange(len(items_QK)), np.diff(members_QU.indptr))
    served = np.diff(relevant_UN.indptr)[members_QU.indices] > 0
    query_P, own = query[served], relevant_UN[members_QU.indices[served]]
    # Lists are repeated for each member: as many rows as there are memberships, K ranks each.
    found = ordered_hits(hits(items_QK[query_P], own), np.diff(own.indptr), cutoffs)
    return evaluate_all(MEMBERS, MemberHits(found, query_P, len(items_QK)), cutoffs, by_cutoff=True)
