"""The model of the sequential head: item vectors, and a causal transformer over them.

Shapes: B histories, S places of the longest, R selected items, M items, T size of a text vector, E embedding size.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.sequential.blocks import BLOCKS
from llmrec_cli.heads.sequential.gaps import NUM_GAPS
from llmrec_cli.heads.shared.item_entities import EntityGate
from llmrec_cli.settings.heads.sequential import SequentialSettings
from llmrec_cli.settings.loss import ScoreLossSettings


class CausalTransformer(nn.Module):
    """SASRec (Kang and McAuley 2018, section III) and its successors: each place attends to itself and earlier places.

    `block` is a key of `blocks.BLOCKS`. Differs: layer norm before each sublayer and once at the end (Xiong et al.
    2020); dropout only after sublayers; positions count back from the newest item, which always has position 0.
    """

    def __init__(self, size: int, num_layers: int, num_heads: int, max_length: int, dropout: float,
                 block: str = "sasrec") -> None:
        super().__init__()
        self.dropout = dropout
        self.places = nn.Embedding(max_length, size)
        self.layers = nn.ModuleList(BLOCKS[block](size, num_heads, max_length, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, items_BSE: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Return the prediction of the next item at each place (B, S, E).

        Histories start at place 0. Padding after their end is invisible to earlier places, so it needs no mask; its
        output is meaningless.
        """
        ages_BS = lengths_B[:, None] - 1 - torch.arange(items_BSE.shape[1], device=items_BSE.device)
        states_BSE = items_BSE + self.places(ages_BS.clamp_min(0))
        states_BSE = functional.dropout(states_BSE, self.dropout, self.training)
        for layer in self.layers:
            states_BSE = layer(states_BSE)
        normed: torch.Tensor = self.norm(states_BSE)
        return normed


class SequenceModel(nn.Module):
    """item = W text + entity + id; user = transformer over a start token and the items; logit = similarity x scale.

    The start token precedes the first item of every history, so that an empty history is scored too, by what users
    start with. The entity enters through `EntityGate`. An item without an id (new, or hidden by id dropout) has only
    the other parts.
    """

    def __init__(self, trained_N: np.ndarray, text_size: int, settings: SequentialSettings, loss: ScoreLossSettings,
                 entities_ND: torch.Tensor | None = None) -> None:
        super().__init__()
        size = settings.embedding_size
        self.settings = settings
        self.cosine = loss.similarity == "cosine"
        self.text = nn.Linear(text_size, size, bias=False) if settings.text_scale else None
        self.item_ids = nn.Embedding(len(trained_N), size)
        self.start_E = nn.Parameter(torch.randn(size) * 0.02)
        self.transformer = CausalTransformer(size, settings.num_layers, settings.num_attention_heads,
                                             settings.max_length, settings.dropout, settings.block)
        self.log_scale = nn.Parameter(torch.tensor(math.log(loss.cosine_scale) if self.cosine else 0.0),
                                      requires_grad=self.cosine and loss.learns_scale)
        with torch.no_grad():
            # Untrained ids are 0: random ones would add noise to the text of a cold item.
            self.item_ids.weight.normal_(std=1 / math.sqrt(size)).mul_(torch.from_numpy(trained_N)[:, None])
            if self.text is not None:
                self.text.weight.normal_(std=1 / math.sqrt(size))
        self.entities = None if entities_ND is None else EntityGate(entities_ND, size)
        self.gaps = nn.Embedding(NUM_GAPS, size) if settings.time_gaps else None
        if self.gaps is not None:
            nn.init.normal_(self.gaps.weight, std=0.02)

    def items(self, text_MT: torch.Tensor | None, rows_R: torch.Tensor,
              has_id_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (R, E) of items; without id for items added after training or with `has_id_R` 0."""
        num_ids = self.item_ids.num_embeddings
        is_trained_R = (rows_R < num_ids).float()
        if has_id_R is not None:
            is_trained_R = is_trained_R * has_id_R
        vectors_RE = self.item_ids(rows_R.clamp_max(num_ids - 1)) * (self.settings.id_scale * is_trained_R)[:, None]
        if self.text is not None:
            assert text_MT is not None
            text_RE = self.of_text(text_MT.index_select(0, rows_R))
            vectors_RE = vectors_RE + (text_RE if self.entities is None else self.entities(text_RE, rows_R))
        return vectors_RE

    def of_text(self, text_RT: torch.Tensor) -> torch.Tensor:
        """Return the text part of item vectors (R, E) from text vectors (R, T)."""
        assert self.text is not None
        vectors: torch.Tensor = self.settings.text_scale * self.text(text_RT)
        return vectors

    def users(self, sequence_BSE: torch.Tensor, lengths_B: torch.Tensor,
              gaps_BS: torch.Tensor | None = None) -> torch.Tensor:
        """Return the user vectors (B, S, E) after each place of their sequences, scaled for logits.

        `gaps_BS` (int64) is the bucket of the time before each place (`gaps.gap_buckets`); None if all are unknown.
        """
        if self.gaps is not None:
            gaps_BS = lengths_B.new_zeros(sequence_BSE.shape[:2]) if gaps_BS is None else gaps_BS
            sequence_BSE = sequence_BSE + self.gaps(gaps_BS)
        users_BSE: torch.Tensor = self.transformer(sequence_BSE, lengths_B)
        if self.cosine:
            return functional.normalize(users_BSE, dim=-1) * self.log_scale.exp()
        return users_BSE

    def scale_items(self, items_RE: torch.Tensor) -> torch.Tensor:
        """Return item vectors scaled for logits."""
        return functional.normalize(items_RE, dim=-1) if self.cosine else items_RE
