"""Layers of the causal transformer, `head.block`.

Each takes (size, number of attention heads, longest sequence, dropout) and maps states (B, S, E) to states; a place
sees itself and earlier places only.

Shapes: B histories, S places of the longest, E embedding size, H attention heads.
"""

import torch
from torch import nn
from torch.nn import functional

_LIGR_WIDTH = 4
"""Size of LiGR's hidden feed-forward layer, in embedding sizes, as in eSASRec."""


class _Attending(nn.Module):
    """Causal attention (Vaswani et al. 2017) after a layer norm, and the norm of a feed-forward part."""

    def __init__(self, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.before_attention, self.before_feed = nn.LayerNorm(size), nn.LayerNorm(size)
        self.queries_keys_values, self.joined = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def attention(self, states_BSE: torch.Tensor) -> torch.Tensor:
        """Return the output of attention (B, S, E), with dropout."""
        parts = self.queries_keys_values(self.before_attention(states_BSE)).unflatten(-1, (3, self.num_heads, -1))
        query_BHSE, key_BHSE, value_BHSE = (part.transpose(1, 2) for part in parts.unbind(dim=2))
        context_BHSE = functional.scaled_dot_product_attention(query_BHSE, key_BHSE, value_BHSE, is_causal=True)
        return self.dropped(self.joined(context_BHSE.transpose(1, 2).flatten(2)))

    def dropped(self, states_BSE: torch.Tensor) -> torch.Tensor:
        """Return the states after dropout."""
        return functional.dropout(states_BSE, self.dropout, self.training)


class SasrecBlock(_Attending):
    """SASRec's block (Kang and McAuley 2018, eq. 5 and 6), with layer norm before queries and keys too."""

    def __init__(self, size: int, num_heads: int, max_length: int, dropout: float) -> None:
        super().__init__(size, num_heads, dropout)
        self.feed, self.fed = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, states_BSE: torch.Tensor) -> torch.Tensor:
        """Return the states (B, S, E) after the block."""
        states_BSE = states_BSE + self.attention(states_BSE)
        fed_BSE = self.fed(functional.relu(self.feed(self.before_feed(states_BSE))))
        return states_BSE + self.dropped(fed_BSE)


class LigrBlock(_Attending):
    """The block of LiGR (Borisyuk et al. 2025) in eSASRec (Tikhonovich et al. 2025): gated sublayers and SwiGLU.

    What a sublayer adds is multiplied by a sigmoid of the states before its layer norm. Differs: no dropout inside
    attention and feed-forward part.
    """

    def __init__(self, size: int, num_heads: int, max_length: int, dropout: float) -> None:
        super().__init__(size, num_heads, dropout)
        self.attention_gate, self.feed_gate = nn.Linear(size, size), nn.Linear(size, size)
        self.opened_and_fed = nn.Linear(size, 2 * _LIGR_WIDTH * size, bias=False)
        self.narrowed = nn.Linear(_LIGR_WIDTH * size, size, bias=False)

    def forward(self, states_BSE: torch.Tensor) -> torch.Tensor:
        """Return the states (B, S, E) after the block."""
        states_BSE = states_BSE + self.attention_gate(states_BSE).sigmoid() * self.attention(states_BSE)
        opened, fed = self.opened_and_fed(self.before_feed(states_BSE)).chunk(2, dim=-1)
        fed_BSE = self.dropped(self.narrowed(functional.silu(opened) * fed))
        return states_BSE + self.feed_gate(states_BSE).sigmoid() * fed_BSE


class HstuBlock(nn.Module):
    """The block of HSTU (Zhai et al. 2024, eq. 2 to 4): pointwise attention by SiLU, gated by the states themselves.

    Differs: the relative bias depends on the distance of two places only, without their times; `head.time_gaps` adds
    times to the states. Stores the attention scores, so memory grows with the square of the length.
    """

    def __init__(self, size: int, num_heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.max_length, self.dropout = num_heads, max_length, dropout
        self.before, self.after = nn.LayerNorm(size), nn.LayerNorm(size)
        self.projected, self.joined = nn.Linear(size, 4 * size), nn.Linear(size, size)
        self.distance_HS = nn.Parameter(torch.zeros(num_heads, max_length))

    def forward(self, states_BSE: torch.Tensor) -> torch.Tensor:
        """Return the states (B, S, E) after the block."""
        gate_BSE, *rest = functional.silu(self.projected(self.before(states_BSE))).chunk(4, dim=-1)
        value_BHSE, query_BHSE, key_BHSE = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in rest)
        places_S = torch.arange(states_BSE.shape[1], device=states_BSE.device)
        distance_SS = places_S[:, None] - places_S
        scores_BHSS = query_BHSE @ key_BHSE.transpose(2, 3) + self.distance_HS[:, distance_SS.clamp_min(0)]
        # A constant divisor, not the number of visible places: a short history must differ from a long one.
        weights_BHSS = functional.silu(scores_BHSS) * ((distance_SS >= 0) / self.max_length)
        context_BSE = (weights_BHSS @ value_BHSE).transpose(1, 2).flatten(2)
        joined_BSE = self.joined(self.after(context_BSE) * gate_BSE)
        return states_BSE + functional.dropout(joined_BSE, self.dropout, self.training)


BLOCKS: dict[str, type[nn.Module]] = {"sasrec": SasrecBlock, "ligr": LigrBlock, "hstu": HstuBlock}
