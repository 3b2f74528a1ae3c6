"""Group scores aggregated from the members' scores: the baseline that heads trained on groups must beat.

Shapes: Q queries, N items.
"""

import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.base import Head
from llmrec_cli.heads.fusion.head import Fusion
from llmrec_cli.scoring.groups import STRATEGIES, score_by_members
from llmrec_cli.settings.head import GroupAggregateSettings


class GroupAggregate(Fusion):
    """A fusion of heads that score each member of a group; a strategy aggregates the members' scores.

    Strategies after Masthoff (2015), Kaya et al. (2020) and Thiele (1895): scoring.group_strategies. Nothing is learned
    about groups, so ad-hoc groups work as well as known ones. A group of one gets its member's list.
    """

    settings: GroupAggregateSettings

    def _score_member(self, member: Head, queries: Queries) -> torch.Tensor:
        if queries.groups is None:
            return member.score_users(queries)
        return score_by_members(member.score_users, queries, STRATEGIES[self.settings.strategy],
                                depth=self.settings.depth, own_history=self.settings.own_history)
