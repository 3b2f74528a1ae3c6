"""r = W_g g + W_i i: the seed project's formula for group recommendation.

Shapes: Q queries of groups, L memberships, M items, R candidates, E embedding size.
"""

import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.groups.inputs import GroupInputs
from llmrec_cli.heads.groups.model import GroupModel, IdMasks, select_items
from llmrec_cli.heads.groups.trained import TrainedGroupHead
from llmrec_cli.settings.heads.groups import GroupFusionSettings


class FusionModel(GroupModel):
    """r_gi = W_g g + W_i i; logit = s cos(r_gi, u) + bias_i, with u the behaviour of the group.

    u is the sum of the members' vectors divided by the root of their number, plus the group's own history. g is an
    attention over the members, plus the own history, the group's id and its text. A user is a group of one.

    The formula ignores the popularity of items, so a bias is added (`popularity`). It also ignores the amount of data
    about a group, which is the length of u: with `certainty` s grows with it, so that the bias counts for more in
    groups with little data. Neither changes the order that the cosine gives among equally popular items.
    """

    settings: GroupFusionSettings

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        size = self.settings.embedding_size
        self.attention_E = nn.Parameter(torch.zeros(size))
        self.group, self.item = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        nn.init.zeros_(self.group.weight)
        nn.init.eye_(self.item.weight)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     masks: IdMasks | None = None) -> torch.Tensor:
        members_LE, own_QE = self.members(inputs, items_ME, masks), self.own_history(inputs, items_ME)
        root_Q1 = inputs.sizes.clamp_min(1).sqrt()[:, None]
        behaviour_QE = inputs.by_query(members_LE) / root_Q1 + own_QE
        weight_L1 = (4 * torch.tanh(members_LE @ self.attention_E / 4)).exp()[:, None]
        mean_QE = inputs.by_query(members_LE * weight_L1) / inputs.by_query(weight_L1).clamp_min(1e-9)
        group_QE = mean_QE * root_Q1 + own_QE + self.of_group(inputs, masks)
        items_RE, bias_R = select_items(rows_R, items_ME, self.bias(len(items_ME)))
        return self._logits(group_QE, behaviour_QE, items_RE, bias_R)

    def user_logits(self, users_QE: torch.Tensor, items_ME: torch.Tensor,
                    rows_R: torch.Tensor | None = None) -> torch.Tensor:
        items_RE, bias_R = select_items(rows_R, items_ME, self.user_bias(len(items_ME)))
        return self._logits(users_QE, users_QE, items_RE, bias_R)

    def _logits(self, group_QE: torch.Tensor, behaviour_QE: torch.Tensor, items_RE: torch.Tensor,
                bias_R: torch.Tensor) -> torch.Tensor:
        scaled_QE = behaviour_QE if self.settings.certainty else functional.normalize(behaviour_QE, dim=1)
        logits_QR = cosines(self.group(group_QE), self.item(items_RE), scaled_QE) * self.log_scale.exp()
        return logits_QR + bias_R if self.settings.popularity else logits_QR


def cosines(group_QE: torch.Tensor, items_RE: torch.Tensor, behaviour_QE: torch.Tensor) -> torch.Tensor:
    """Return |u_q| cos(g_q + i_r, u_q) for all q and r (Q, R), without building a vector per pair.

    (g + i) . u = g . u + i . u, and |g + i|^2 = |g|^2 + 2 g . i + |i|^2.
    """
    product_QR = (group_QE * behaviour_QE).sum(dim=1, keepdim=True) + behaviour_QE @ items_RE.T
    square_QR = (group_QE.square().sum(dim=1, keepdim=True) + items_RE.square().sum(dim=1)
                 + 2 * (group_QE @ items_RE.T))
    return product_QR / square_QR.clamp_min(1e-8).sqrt()


class GroupFusion(TrainedGroupHead):
    """The seed project's formula, trained."""

    model_class = FusionModel
