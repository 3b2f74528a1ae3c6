"""Members' votes for an item, weighted by item-dependent attention.

Shapes: Q queries of groups, L memberships, M items, R candidates, E embedding size, A attention size.
"""

import math

import torch
from torch import nn

from llmrec_cli.heads.groups.inputs import GroupInputs, sums_between
from llmrec_cli.heads.groups.model import GroupModel, IdMasks, select_items
from llmrec_cli.heads.groups.trained import TrainedGroupHead
from llmrec_cli.settings.heads.groups import GroupAttentionSettings

MEMBERS, ITEMS = 512, 1024
"""Members and items whose votes are computed at a time when scoring: 2 MB, which fit in the cache."""


class AttentionModel(GroupModel):
    """logit_gi = root(size) sum_m a_mi (m . i) + (own history + id + text) . i + bias_i (Cao et al. 2018, eq. 1 to 3).

    a_mi is a softmax over the members of (K m . Q i) x `sharpness`, where K m and Q i are shorter than 1. Differs: the
    paper's attention is a layer of rectified sums for each pair of a member and an item; here it is a product of two
    small vectors, one matrix product for all pairs. The group's votes are multiplied by the root of its size, since
    more agreeing members are more evidence. The loss takes the logit directly; the paper's sigmoid before a ranking
    loss saturates. Ids are dropped out in training, so that groups without an id can be scored.
    """

    settings: GroupAttentionSettings

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        size, attention_size = self.settings.embedding_size, self.settings.attention_size
        self.key, self.query = (nn.Linear(size, attention_size, bias=False) for _ in range(2))
        for layer in (self.key, self.query):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(size))
        self.log_sharpness = nn.Parameter(torch.tensor(-3.0))

    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     masks: IdMasks | None = None) -> torch.Tensor:
        items_RE, bias_R = select_items(rows_R, items_ME, self.bias(len(items_ME)))
        members_LE = self.members(inputs, items_ME, masks)
        keys_LA = bounded(self.key(members_LE)) * self.sharpness()
        queries_RA = bounded(self.query(items_RE))
        rest_QE = self.own_history(inputs, items_ME) + self.of_group(inputs, masks)
        count_votes = votes if torch.is_grad_enabled() else votes_in_parts
        votes_QR = count_votes(inputs.starts, members_LE, items_RE, keys_LA, queries_RA)
        return torch.addcmul(rest_QE @ items_RE.T + bias_R, votes_QR, inputs.sizes.sqrt()[:, None])

    def sharpness(self) -> torch.Tensor:
        """Return the factor of the products of keys and queries, between 0 and the setting `sharpness`."""
        return self.settings.sharpness * torch.sigmoid(self.log_sharpness)


def bounded(vectors: torch.Tensor) -> torch.Tensor:
    """Shrink vectors to lengths below 1, keeping directions; short vectors (of users with little data) stay short.

    Division by the length itself would amplify nearly zero vectors, with unbounded gradients.
    """
    return vectors / (1 + vectors.square().sum(dim=1, keepdim=True)).sqrt()


def votes(starts: torch.Tensor, members_LE: torch.Tensor, items_RE: torch.Tensor, keys_LA: torch.Tensor,
          queries_RA: torch.Tensor) -> torch.Tensor:
    """Return sum_m a_mi (m . i) of each query's members (Q, R); 0 for a query without members.

    `starts` (Q + 1,) are the starts of each query's memberships. The exponents are below `sharpness`, so the softmax
    needs no maximum, and its numerator and denominator are plain sums over memberships.
    """
    weight_LR = (keys_LA @ queries_RA.T).exp()
    above_QR = sums_between(starts, weight_LR * (members_LE @ items_RE.T))
    return above_QR / sums_between(starts, weight_LR).clamp_min(1e-30)


def votes_in_parts(starts: torch.Tensor, members_LE: torch.Tensor, items_RE: torch.Tensor, keys_LA: torch.Tensor,
                   queries_RA: torch.Tensor) -> torch.Tensor:
    """Return the result of `votes`, computed for blocks of members and items; a query's members share a block.

    All blocks reuse the same memory: allocating megabytes repeatedly takes as long as the products.
    """
    votes_QR = items_RE.new_zeros(len(starts) - 1, len(items_RE))
    longest = max(MEMBERS, int(starts.diff().max())) if len(votes_QR) else 0
    buffers = items_RE.new_empty(2, longest * min(ITEMS, len(items_RE)))
    first = 0
    while first < len(votes_QR):
        last = int(torch.searchsorted(starts, starts[first] + MEMBERS, right=True)) - 1
        last = min(max(last, first + 1), len(votes_QR))
        begin, end = int(starts[first]), int(starts[last])
        inside = starts[first:last + 1] - begin
        for item in range(0, len(items_RE) if end > begin else 0, ITEMS):
            some = slice(item, min(item + ITEMS, len(items_RE)))
            shape = (end - begin, some.stop - item)
            weight, vote = (buffer[:shape[0] * shape[1]].view(shape) for buffer in buffers)
            torch.mm(keys_LA[begin:end], queries_RA[some].T, out=weight).exp_()
            torch.mm(members_LE[begin:end], items_RE[some].T, out=vote).mul_(weight)
            votes_QR[first:last, some] = sums_between(inside, vote) / sums_between(inside, weight).clamp_min(1e-30)
        first = last
    return votes_QR


class GroupAttention(TrainedGroupHead):
    """AGREE (Cao et al. 2018) with texts, histories and a softmax over the catalogue."""

    model_class = AttentionModel

    def cells_of_a_member(self) -> int:
        """Return the numbers that a step stores per pair: weight, vote and product, with their gradients."""
        return 8
