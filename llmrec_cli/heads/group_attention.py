"""Members' votes for an item, weighted by an attention that depends on the item.

Shapes: Q queries of groups, L memberships, M items, R candidates, E embedding size, A attention size.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.group_inputs import GroupInputs
from llmrec_cli.heads.group_model import GroupModel, Kept, chosen
from llmrec_cli.heads.trained_groups import TrainedGroupHead
from llmrec_cli.settings.heads.group_attention import GroupAttention as Settings

CELLS = 2**19
"""Votes held at a time where nothing is trained: 2 MB, so that they stay in the cache."""


class AttentionModel(GroupModel):
    """logit_gi = root(size) sum_m a_mi (m . i) + (own history + id + text) . i + bias_i (Cao et al. 2018, eq. 1 to 3).

    a_mi is a softmax over the members of cos(K m, Q i) x `sharpness`. Differs: the paper's attention is a layer of
    rectified sums for each pair of a member and an item; a product of two small vectors is a matrix product for all
    pairs. The group's votes are multiplied by the root of its size, since more members agreeing is more evidence. The
    logit goes into the loss as it is; the paper's sigmoid before a ranking loss saturates. The id is dropped out, so
    that a group without one is answered as well.
    """

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        assert isinstance(self.settings, Settings)
        size, attention_size = self.settings.embedding_size, self.settings.attention_size
        self.key, self.query = (nn.Linear(size, attention_size, bias=False) for _ in range(2))
        for layer in (self.key, self.query):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(size))
        self.log_sharpness = nn.Parameter(torch.tensor(-3.0))

    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     kept: Kept | None = None) -> torch.Tensor:
        items_RE, bias_R = chosen(rows_R, items_ME, self.bias(len(items_ME)))
        members_LE = self.members(inputs, items_ME, kept)
        keys_LA = functional.normalize(self.key(members_LE), dim=1) * self.sharpness()
        queries_RA = functional.normalize(self.query(items_RE), dim=1)
        rest_QE = self.own_history(inputs, items_ME) + self.of_group(inputs, kept)
        if torch.is_grad_enabled():
            votes_QR = votes(inputs, members_LE, items_RE, keys_LA, queries_RA)
        else:
            width = max(1, CELLS // max(1, len(members_LE)))
            votes_QR = torch.cat([votes(inputs, members_LE, items_RE[start:start + width], keys_LA,
                                        queries_RA[start:start + width])
                                  for start in range(0, len(items_RE), width)], dim=1)
        return torch.addcmul(rest_QE @ items_RE.T + bias_R, votes_QR, inputs.sizes.sqrt()[:, None])

    def sharpness(self) -> torch.Tensor:
        """Return what the cosines are multiplied by, above 0 and below the setting's `sharpness`."""
        assert isinstance(self.settings, Settings)
        return self.settings.sharpness * torch.sigmoid(self.log_sharpness)


def votes(inputs: GroupInputs, members_LE: torch.Tensor, items_RE: torch.Tensor, keys_LA: torch.Tensor,
          queries_RA: torch.Tensor) -> torch.Tensor:
    """Return sum_m a_mi (m . i) of each query's members (Q, R), 0 for a query without members.

    The exponents are bounded (|cosine| x sharpness), so the softmax needs no maximum, and its sums above and below the
    line are sums over memberships.
    """
    weight_LR = (keys_LA @ queries_RA.T).exp()
    above_QR = inputs.by_query(weight_LR * (members_LE @ items_RE.T))
    return above_QR / inputs.by_query(weight_LR).clamp_min(1e-30)


class GroupAttention(TrainedGroupHead):
    """AGREE's idea with text, histories and a whole softmax."""

    model_class = AttentionModel

    def cells_of_a_member(self) -> int:
        """Return how many numbers a step holds for a pair: weight, vote and product, with their gradients."""
        return 8
