"""What the sequential head learns: item vectors, and the transformer over them.

Shapes: B histories, S places of the longest, R chosen items, M items, T size of a text vector, E embedding size.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.sequential.transformer import CausalTransformer
from llmrec_cli.heads.shared.entity_gate import EntityGate
from llmrec_cli.settings.heads.sequential import Sequential as Settings
from llmrec_cli.settings.loss import ScoreLossSettings


class SequenceModel(nn.Module):
    """item = W text + entity + id; user = transformer over a start and the items; logit = their similarity x scale.

    The start stands before the first item of every history, so that an empty one is answered too: with what people
    begin with. The entity's part comes through `EntityGate`. An item without an id (new, or hidden by id dropout) is
    the rest.
    """

    def __init__(self, trained_N: np.ndarray, text_size: int, settings: Settings, loss: ScoreLossSettings,
                 entities_ND: torch.Tensor | None = None) -> None:
        super().__init__()
        size = settings.embedding_size
        self.settings = settings
        self.cosine = loss.similarity == "cosine"
        self.text = nn.Linear(text_size, size, bias=False) if settings.text_scale else None
        self.item_ids = nn.Embedding(len(trained_N), size)
        self.start_E = nn.Parameter(torch.randn(size) * 0.02)
        self.transformer = CausalTransformer(size, settings.num_layers, settings.num_attention_heads,
                                             settings.max_length, settings.dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(loss.cosine_scale) if self.cosine else 0.0),
                                      requires_grad=self.cosine and loss.learns_scale)
        with torch.no_grad():
            # An id that is never trained is none: at random it would be noise on the text of a cold item.
            self.item_ids.weight.normal_(std=1 / math.sqrt(size)).mul_(torch.from_numpy(trained_N)[:, None])
            if self.text is not None:
                self.text.weight.normal_(std=1 / math.sqrt(size))
        self.entities = None if entities_ND is None else EntityGate(entities_ND, size)

    def items(self, text_MT: torch.Tensor | None, rows_R: torch.Tensor,
              has_id_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (R, E) of items; those beyond training have no id, nor have those with `has_id_R` 0."""
        num_ids = self.item_ids.num_embeddings
        is_trained_R = (rows_R < num_ids).float()
        if has_id_R is not None:
            is_trained_R = is_trained_R * has_id_R
        vectors_RE = self.item_ids(rows_R.clamp_max(num_ids - 1)) * (self.settings.id_scale * is_trained_R)[:, None]
        if self.text is not None:
            assert text_MT is not None
            said_RE = self.of_text(text_MT.index_select(0, rows_R))
            vectors_RE = vectors_RE + (said_RE if self.entities is None else self.entities(said_RE, rows_R))
        return vectors_RE

    def of_text(self, text_RT: torch.Tensor) -> torch.Tensor:
        """Return what texts (R, T) add to the vectors of their items (R, E)."""
        assert self.text is not None
        vectors: torch.Tensor = self.settings.text_scale * self.text(text_RT)
        return vectors

    def users(self, sequence_BSE: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Return the users (B, S, E) after each place of their sequences, scaled as logits need it."""
        users_BSE: torch.Tensor = self.transformer(sequence_BSE, lengths_B)
        if self.cosine:
            return functional.normalize(users_BSE, dim=-1) * self.log_scale.exp()
        return users_BSE

    def compared(self, items_RE: torch.Tensor) -> torch.Tensor:
        """Return items as users are multiplied with them."""
        return functional.normalize(items_RE, dim=-1) if self.cosine else items_RE
