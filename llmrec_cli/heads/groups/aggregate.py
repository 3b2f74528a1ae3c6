"""Groups by what their members score: the baseline that heads trained on groups must beat.

Shapes: Q queries, N items.
"""

import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.base import Head
from llmrec_cli.heads.fusion.head import Fusion
from llmrec_cli.scoring.groups import STRATEGIES, score_by_members
from llmrec_cli.settings.head import GroupAggregateSettings


class GroupAggregate(Fusion):
    """A fusion of heads that are asked for every member of a group; a strategy puts together what they say.

    Strategies after Masthoff (2015), Kaya et al. (2020) and Thiele (1895): scoring.group_strategies. Nothing is learned
    about groups; a list of people who never met works as well as a group that is known. A group of one gets the list
    that its member alone would get.
    """

    settings: GroupAggregateSettings

    def _asked(self, member: Head, queries: Queries) -> torch.Tensor:
        if queries.groups is None:
            return member.score_users(queries)
        return score_by_members(member.score_users, queries, STRATEGIES[self.settings.strategy],
                                depth=self.settings.depth, own_history=self.settings.own_history)
