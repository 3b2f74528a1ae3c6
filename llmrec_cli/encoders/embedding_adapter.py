"""peft=embedding_adapter: a residual low-rank map on frozen vectors."""

from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.encoders.layer_split import AboveAll
from llmrec_cli.encoders.peft import AdaptedModel, Peft
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.peft import EmbeddingAdapterSettings


class EmbeddingMap(nn.Module):
    """z = norm(x + dropout(x) A B) for vectors x (num, T) of length 1 or 0.

    B starts at 0, so that vectors are unchanged at first; a zero vector stays zero.
    """

    def __init__(self, size: int, settings: EmbeddingAdapterSettings, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(size, settings.rank, generator=generator) / size**0.5)
        self.up = nn.Parameter(torch.zeros(settings.rank, size))
        self.dropout = settings.dropout

    def forward(self, vectors_NT: torch.Tensor) -> torch.Tensor:
        """Return the mapped vectors (num, T), of length 1."""
        seen = nn.functional.dropout(vectors_NT, self.dropout, self.training)
        return nn.functional.normalize(vectors_NT + seen @ self.down @ self.up, dim=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights by name."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.named_parameters()}

    @torch.no_grad()
    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the weights of `arrays`; raise ArtifactError if they do not fit."""
        own = {name: tuple(tensor.shape) for name, tensor in self.named_parameters()}
        if own != {name: array.shape for name, array in arrays.items()}:
            raise ArtifactError(f"the weights of peft=embedding_adapter do not fit: "
                                f"{ {n: a.shape for n, a in arrays.items()} } for {own}; train the model again")
        for name, parameter in self.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name]))


class EmbeddingAdapterPeft(Peft[EmbeddingAdapterSettings]):
    """A frozen encoder with a trained map on its vectors."""

    def adapt(self, model: Any) -> AdaptedModel:
        """Leave the model as it is."""
        return AdaptedModel(model, AboveAll(model))

    def check_map(self, tensors: TensorReader, size: int) -> None:
        """Raise ArtifactError if the tensors have another rank, before a map is allocated."""
        tensors.take("down", FLOAT, (size, self.settings.rank))

    def embedding_map(self, size: int, seed: int) -> EmbeddingMap:
        """Return the map of vectors of `size` numbers."""
        return EmbeddingMap(size, self.settings, seed)
