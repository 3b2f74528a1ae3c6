"""What peft=embedding_adapter trains: a residual low-rank map on frozen vectors."""

import torch
from torch import nn

from llmrec_cli.settings.peft import EmbeddingAdapter


class VectorMap(nn.Module):
    """z = norm(x + dropout(x) A B) for vectors x (num, T) of length 1 or 0.

    B starts at 0, so that the vectors begin as they were; a vector of zeros stays one.
    """

    def __init__(self, size: int, settings: EmbeddingAdapter, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(size, settings.rank, generator=generator) / size**0.5)
        self.up = nn.Parameter(torch.zeros(settings.rank, size))
        self.dropout = settings.dropout

    def forward(self, vectors_NT: torch.Tensor) -> torch.Tensor:
        """Return the mapped vectors (num, T), of length 1."""
        seen = nn.functional.dropout(vectors_NT, self.dropout, self.training)
        return nn.functional.normalize(vectors_NT + seen @ self.down @ self.up, dim=1)
