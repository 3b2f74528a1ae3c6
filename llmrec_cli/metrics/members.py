"""Metrics of a group's list for its single members.

Shapes: Q queries of groups, C cutoffs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec_cli.metrics.metric import HIGHER, Metric, ViewPositions
from llmrec_cli.metrics.ranking import ndcg

if TYPE_CHECKING:
    import numpy as np

    from llmrec_cli.metrics.hits import MemberHits


def member_ndcg(members: MemberHits) -> np.ndarray:
    """Mean ndcg of the group's list over its members, each with the member's own held-out items."""
    return members.mean(ndcg)


def least_member_ndcg(members: MemberHits) -> np.ndarray:
    """Lowest ndcg of the group's list among its members."""
    return members.least(ndcg)


def member_spread(members: MemberHits) -> np.ndarray:
    """Highest minus lowest ndcg of the group's list among its members."""
    return members.most(ndcg) - members.least(ndcg)


MEMBERS = (Metric(member_ndcg, HIGHER, positions=ViewPositions(table=16),
                  formula="mean over members of ndcg",
                  use="To see how well group lists serve members on average."),
           Metric(least_member_ndcg, HIGHER, positions=ViewPositions(table=17),
                  formula="min over members of ndcg",
                  use="To see how well group lists serve the least satisfied member."),
           Metric(member_spread, positions=ViewPositions(table=18),
                  formula="max − min over members of ndcg",
                  use="To see how unequally the members of a group are served."))
"""Metrics of `MemberHits`."""
