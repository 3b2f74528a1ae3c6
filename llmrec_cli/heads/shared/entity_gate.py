"""What an item's entity adds to its text.

Shapes: M items, R of them, E numbers of an item's vector, D of an entity's.
"""

import torch
from torch import nn
from torch.nn import functional


class EntityGate(nn.Module):
    """text + s(G [text, W entity] + b) * W entity, a gate for each number of the vector.

    The gated fusion of two modalities (Arevalo et al. 2017), with the text always in whole. An item without an entity
    has a vector of zeros there, and is its text. Starts half open.
    """

    vectors_ND: torch.Tensor

    def __init__(self, vectors_ND: torch.Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors_ND", vectors_ND)
        self.entity = nn.Linear(vectors_ND.shape[1], size, bias=False)
        self.gate = nn.Linear(2 * size, size)
        nn.init.normal_(self.entity.weight, std=vectors_ND.shape[1]**-0.5)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, text_RE: torch.Tensor, rows_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (R, E) of items `rows_R`, of all where it is None; later items have no entity."""
        num_known = len(self.vectors_ND)
        if rows_R is None:
            vectors_RD = functional.pad(self.vectors_ND, (0, 0, 0, len(text_RE) - num_known))
        else:
            is_known_R1 = (rows_R < num_known)[:, None]
            vectors_RD = self.vectors_ND.index_select(0, rows_R.clamp_max(num_known - 1)) * is_known_R1
        entity_RE = self.entity(vectors_RD)
        gate_RE = self.gate(torch.cat([text_RE, entity_RE], dim=1)).sigmoid()
        out: torch.Tensor = text_RE + gate_RE * entity_RE
        return out
