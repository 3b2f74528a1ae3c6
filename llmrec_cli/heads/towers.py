"""The two towers as a module.

Shapes: N items, U users, B interactions of a step, R items of a step, T size of a text vector, E embedding size.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.settings.head import TwoTower as Settings
from llmrec_cli.settings.loss import LossSettings, Mse, Softmax


class Towers(nn.Module):
    """item = W_t text + id; user = W_h (history's items) + id; logit = similarity x scale + the item's bias.

    An item without an id (new, or hidden by id dropout) is its text and has no bias; so is a user without one their
    history.
    """

    def __init__(self, num_users: int, num_items: int, text_size: int, settings: Settings, loss: LossSettings) -> None:
        super().__init__()
        size = settings.embedding_size
        self.settings = settings
        self.cosine = loss.similarity in ("auto", "cosine")
        self.text = nn.Linear(text_size, size, bias=False)
        self.item_ids = nn.Embedding(num_items, size)
        self.user_ids = nn.Embedding(num_users, size)
        self.bias_N = nn.Parameter(torch.zeros(num_items))
        self.history = nn.Linear(size, size)
        temperature = loss.temperature if isinstance(loss, Softmax) else 1 / getattr(loss, "scale", 1.0)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=isinstance(loss, Softmax))
        # Squared errors compare similarities with 0 and 1, so they are taken as they are.
        self.plain = isinstance(loss, Mse)
        nn.init.normal_(self.text.weight, std=1 / math.sqrt(text_size))
        nn.init.normal_(self.item_ids.weight, std=0.1)
        nn.init.normal_(self.user_ids.weight, std=0.01)
        nn.init.eye_(self.history.weight)
        nn.init.zeros_(self.history.bias)

    def items(self, text_NT: torch.Tensor, has_id_N: torch.Tensor | None = None) -> torch.Tensor:
        """Return item vectors (N, E); `has_id_N` (0 or 1) hides ids; items beyond those in training have none."""
        vectors_NE = self.text(text_NT)
        ids_NE = self.settings.id_scale * self.item_ids.weight
        if has_id_N is not None:
            ids_NE = ids_NE * has_id_N[:, None]
        return vectors_NE + functional.pad(ids_NE, (0, 0, 0, len(text_NT) - len(ids_NE)))

    def users(self, history_BE: torch.Tensor, ids_BE: torch.Tensor) -> torch.Tensor:
        """Return user vectors (B, E) of histories (`history_vectors`) and id embeddings (0 where there is none)."""
        dropped_BE = functional.dropout(history_BE, self.settings.dropout, self.training)
        out: torch.Tensor = self.history(dropped_BE) + self.settings.id_scale * ids_BE
        return out

    def logits(self, users_BE: torch.Tensor, items_RE: torch.Tensor, bias_R: torch.Tensor) -> torch.Tensor:
        """Return logits (B, R) of each user with each item."""
        if self.cosine:
            users_BE, items_RE = functional.normalize(users_BE, dim=1), functional.normalize(items_RE, dim=1)
        similarity_BR = users_BE @ items_RE.T
        if self.plain:
            return similarity_BR
        scaled = similarity_BR * self.log_scale.exp() if self.cosine else similarity_BR
        return scaled + bias_R

    def bias(self, num_items: int) -> torch.Tensor:
        """Return the bias of each item (num_items,), 0 for those beyond training."""
        return functional.pad(self.bias_N, (0, num_items - len(self.bias_N)))


def history_sums(items_NE: torch.Tensor, indices: torch.Tensor, indptr: torch.Tensor) -> torch.Tensor:
    """Return the sum of each history's item vectors (num_histories, E); histories are CSR."""
    return functional.embedding_bag(indices, items_NE, indptr, mode="sum", include_last_offset=True)


def history_vectors(sums_BE: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
    """Return the sums over the square root of the lengths, so that long histories say more, but not in proportion."""
    return sums_BE / lengths_B.clamp_min(1).sqrt()[:, None]
