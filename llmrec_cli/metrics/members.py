"""Metrics of groups' lists for each member alone.

Shapes: Q queries of groups, C cutoffs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec_cli.metrics.metric import HIGHER, Metric, Shown
from llmrec_cli.metrics.ranking import ndcg

if TYPE_CHECKING:
    import numpy as np

    from llmrec_cli.metrics.hits import MemberHits


def member_ndcg(members: MemberHits) -> np.ndarray:
    """Mean over the members of a group of the ndcg of the group's list for their own held-out items."""
    return members.mean(ndcg)


def least_member_ndcg(members: MemberHits) -> np.ndarray:
    """The ndcg of the group's list for the member it serves worst."""
    return members.least(ndcg)


def member_spread(members: MemberHits) -> np.ndarray:
    """Highest less lowest ndcg of the group's list among the members."""
    return members.most(ndcg) - members.least(ndcg)


MEMBERS = (Metric(member_ndcg, HIGHER, shown=Shown(table=16)), Metric(least_member_ndcg, HIGHER, shown=Shown(table=17)),
           Metric(member_spread, shown=Shown(table=18)))
"""Metrics of `MemberHits`."""
