"""A consensus of what a group's members, its items and the groups that overlap with it say.

Shapes: Q queries of groups, L memberships, K groups of the training data, M items, R candidates, E embedding size.
"""

import torch
from torch import nn

from llmrec_cli.heads.groups.inputs import GroupInputs
from llmrec_cli.heads.groups.model import GroupModel, Kept, chosen
from llmrec_cli.heads.groups.trained import TrainedGroupHead
from llmrec_cli.settings.heads.groups import GroupHypergraphSettings


class HypergraphModel(GroupModel):
    """Three views of a group, each with a gate (Wu et al. 2023, sections 4.2 to 4.4); logit = their sum . i + bias_i.

    A group is an edge that joins its members and its items, and says W (its items' sum over the root of their number).
    members: each member is joined by what the edges say that they belong to, the asked one left out; items: what the
    group did together; overlap: what the edges say that share members with the group, by the share of members, `layers`
    steps far. Each gate is a sigmoid of the view itself.

    Differs: all three views end in dot products with the same item vectors, where the paper has a perceptron with a
    sigmoid before its ranking loss; nothing of a query is looked up, so that groups that nobody has seen are answered
    by the same sums; an edge does not hand on the answer that a step asks for, and says nothing of its members' ids or
    its own, which a few hundred groups are learned by heart from.
    """

    settings: GroupHypergraphSettings

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        size = self.settings.embedding_size
        self.edge, self.member_view, self.overlap_view = (nn.Linear(size, size, bias=False) for _ in range(3))
        nn.init.eye_(self.edge.weight)
        # What the members did with others is read already: these begin as corrections of it.
        for layer in (self.member_view, self.overlap_view):
            nn.init.zeros_(layer.weight)
        self.gates_3E, self.gate_bias_3 = nn.Parameter(torch.zeros(3, size)), nn.Parameter(torch.zeros(3))

    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     kept: Kept | None = None) -> torch.Tensor:
        edge_KE = self.edges(inputs, items_ME)
        root_Q1 = inputs.sizes.clamp_min(1).sqrt()[:, None]
        joined_LE = self._with_others(inputs, edge_KE) / (inputs.groups.totals().clamp_min(1).sqrt()
                                                         .index_select(0, inputs.place)[:, None])
        members_LE = self.members(inputs, items_ME, kept) + self.member_view(joined_LE)
        views = (inputs.by_query(members_LE) / root_Q1,
                 self.own_history(inputs, items_ME) + self.of_group(inputs, kept),
                 self.overlap_view(self.overlapping(inputs, edge_KE)))
        consensus_QE = torch.zeros_like(views[0])
        for view, gate_E, bias in zip(views, self.gates_3E, self.gate_bias_3, strict=True):
            consensus_QE = consensus_QE + 2 * torch.sigmoid(view @ gate_E + bias)[:, None] * view
        items_RE, bias_R = chosen(rows_R, items_ME, self.bias(len(items_ME)))
        return consensus_QE @ items_RE.T + bias_R

    def edges(self, inputs: GroupInputs, items_ME: torch.Tensor) -> torch.Tensor:
        """Return what each group of the past says (K, E)."""
        said: torch.Tensor = self.edge(inputs.past_history.scaled_sums(items_ME))
        return said

    def overlapping(self, inputs: GroupInputs, edge_KE: torch.Tensor) -> torch.Tensor:
        """Return the mean (Q, E) of what overlapping groups say, weighted by how many members are shared.

        Each further layer puts what a group's members hear in their groups beside what the group says itself.
        """
        for _ in range(self.settings.layers - 1):
            edge_KE = (edge_KE + inputs.past_members.means(inputs.past_groups.means(edge_KE))) / 2
        return inputs.overlap.means(edge_KE)


class GroupHypergraph(TrainedGroupHead):
    """ConsRec's idea with text, histories and a whole softmax."""

    model_class = HypergraphModel
