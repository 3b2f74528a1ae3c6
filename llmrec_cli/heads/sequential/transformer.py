"""A causal transformer over item vectors.

Shapes: B histories, S places of the longest, E embedding size, H attention heads.
"""

import torch
from torch import nn
from torch.nn import functional


class CausalTransformer(nn.Module):
    """SASRec (Kang and McAuley 2018, section III), each place seeing itself and what was before it.

    Differs: layers are normalised before their two halves and once at the end (Xiong et al. 2020), queries as well as
    keys; dropout is behind the halves alone; places are counted from the newest item, which is always at the same one.
    """

    def __init__(self, size: int, num_layers: int, num_heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.places = nn.Embedding(max_length, size)
        self.layers = nn.ModuleList(_Layer(size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, items_BSE: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Return what each place says comes next (B, S, E).

        Histories begin at place 0. What is behind their end, S > length, is seen by no place before it, so it needs no
        mask and its output means nothing.
        """
        ages_BS = lengths_B[:, None] - 1 - torch.arange(items_BSE.shape[1], device=items_BSE.device)
        states_BSE = items_BSE + self.places(ages_BS.clamp_min(0))
        states_BSE = functional.dropout(states_BSE, self.dropout, self.training)
        for layer in self.layers:
            states_BSE = layer(states_BSE)
        normed: torch.Tensor = self.norm(states_BSE)
        return normed


class _Layer(nn.Module):
    def __init__(self, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.before_attention, self.before_feed = nn.LayerNorm(size), nn.LayerNorm(size)
        self.queries_keys_values, self.joined = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed, self.fed = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, states_BSE: torch.Tensor) -> torch.Tensor:
        states_BSE = states_BSE + self._dropped(self._attention(self.before_attention(states_BSE)))
        fed_BSE = self.fed(functional.relu(self.feed(self.before_feed(states_BSE))))
        return states_BSE + self._dropped(fed_BSE)

    def _attention(self, states_BSE: torch.Tensor) -> torch.Tensor:
        parts = self.queries_keys_values(states_BSE).unflatten(-1, (3, self.num_heads, -1))
        query_BHSE, key_BHSE, value_BHSE = (part.transpose(1, 2) for part in parts.unbind(dim=2))
        seen_BHSE = functional.scaled_dot_product_attention(query_BHSE, key_BHSE, value_BHSE, is_causal=True)
        out: torch.Tensor = self.joined(seen_BHSE.transpose(1, 2).flatten(2))
        return out

    def _dropped(self, states_BSE: torch.Tensor) -> torch.Tensor:
        return functional.dropout(states_BSE, self.dropout, self.training)
