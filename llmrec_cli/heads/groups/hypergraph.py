"""Consensus of three views of a group: its members, its items and overlapping groups.

Shapes: Q queries of groups, L memberships, K groups of the training data, M items, R candidates, E embedding size.
"""

import torch
from torch import nn

from llmrec_cli.heads.groups.inputs import GroupInputs
from llmrec_cli.heads.groups.model import GroupModel, IdMasks, select_items
from llmrec_cli.heads.groups.trained import TrainedGroupHead
from llmrec_cli.settings.heads.groups import GroupHypergraphSettings


class HypergraphModel(GroupModel):
    """Three views of a group, each with a gate (Wu et al. 2023, sections 4.2 to 4.4); logit = their sum . i + bias_i.

    A group is a hyperedge that joins its members and its items; its message is W (sum of its items / root of their
    number). Views: members (each member plus the messages of their other groups), items (the group's own history) and
    overlap (messages of groups that share members, weighted by the share, up to `layers` steps away). Each gate is a
    sigmoid of the view itself.

    Differs: all three views end in dot products with the same item vectors, where the paper has a perceptron with a
    sigmoid before its ranking loss; no query vector is looked up, so unseen groups are scored by the same sums; a
    message never contains the target of the step, nor any id of the group or its members, because with a few hundred
    groups the model would memorise ids.
    """

    settings: GroupHypergraphSettings

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        size = self.settings.embedding_size
        self.edge, self.member_view, self.overlap_view = (nn.Linear(size, size, bias=False) for _ in range(3))
        nn.init.eye_(self.edge.weight)
        # Other groups' histories are already in the members' vectors: these layers start as corrections.
        for layer in (self.member_view, self.overlap_view):
            nn.init.zeros_(layer.weight)
        self.gates_3E, self.gate_bias_3 = nn.Parameter(torch.zeros(3, size)), nn.Parameter(torch.zeros(3))

    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     masks: IdMasks | None = None) -> torch.Tensor:
        edge_KE = self.edges(inputs, items_ME)
        root_Q1 = inputs.sizes.clamp_min(1).sqrt()[:, None]
        joined_LE = self._with_others(inputs, edge_KE) / (inputs.groups.totals().clamp_min(1).sqrt()
                                                         .index_select(0, inputs.place)[:, None])
        members_LE = self.members(inputs, items_ME, masks) + self.member_view(joined_LE)
        views = (inputs.by_query(members_LE) / root_Q1,
                 self.own_history(inputs, items_ME) + self.of_group(inputs, masks),
                 self.overlap_view(self.overlapping(inputs, edge_KE)))
        consensus_QE = torch.zeros_like(views[0])
        for view, gate_E, bias in zip(views, self.gates_3E, self.gate_bias_3, strict=True):
            consensus_QE = consensus_QE + 2 * torch.sigmoid(view @ gate_E + bias)[:, None] * view
        items_RE, bias_R = select_items(rows_R, items_ME, self.bias(len(items_ME)))
        return consensus_QE @ items_RE.T + bias_R

    def edges(self, inputs: GroupInputs, items_ME: torch.Tensor) -> torch.Tensor:
        """Return the message of each training group (K, E)."""
        messages_KE: torch.Tensor = self.edge(inputs.past_history.scaled_sums(items_ME))
        return messages_KE

    def overlapping(self, inputs: GroupInputs, edge_KE: torch.Tensor) -> torch.Tensor:
        """Return the mean message (Q, E) of overlapping groups, weighted by the number of shared members.

        Each further layer averages a group's message with the mean message of its members' groups.
        """
        for _ in range(self.settings.layers - 1):
            edge_KE = (edge_KE + inputs.past_members.means(inputs.past_groups.means(edge_KE))) / 2
        return inputs.overlap.means(edge_KE)


class GroupHypergraph(TrainedGroupHead):
    """ConsRec (Wu et al. 2023) with texts, histories and a softmax over the catalogue."""

    model_class = HypergraphModel
