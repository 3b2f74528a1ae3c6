"""The two towers as a module.

Shapes: N items, U users, B interactions of a step, R items of a step, T size of a text vector, E embedding size, L
entries of histories as CSR has them.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.shared.history_vectors import history_sums, history_vectors, weight_sums
from llmrec_cli.heads.shared.item_entities import EntityGate
from llmrec_cli.settings.head import TwoTowerSettings
from llmrec_cli.settings.loss import ScoreLossSettings

_NUM_AGES = 12
"""Buckets of an item's age, in places from the newest: 0, 1-2, 3-6, 7-14 and so on, the last from 2,047 on."""
_STEEPEST = 4.0
"""Bound of an item's absolute attention logit, so that no weight is 3,000 times another."""


class Towers(nn.Module):
    """item = W_t text + id; user = W_h (history's items) + id + W_p profile; logit = similarity x scale + item's bias.

    With `layers`, a perceptron is applied to the user's sum; with entities, `EntityGate` adds them to the text.

    An item without an id (new, or hidden by id dropout) has only its text and no bias; a user without an id has only
    history and profile.
    """

    def __init__(self, num_users: int, num_items: int, text_size: int, settings: TwoTowerSettings,
                 loss: ScoreLossSettings,
                 profile_size: int = 0, entities_ND: torch.Tensor | None = None) -> None:
        super().__init__()
        size = settings.embedding_size
        self.settings = settings
        self.cosine = loss.similarity in ("auto", "cosine")
        self.text = nn.Linear(text_size, size, bias=False)
        self.item_ids = nn.Embedding(num_items, size)
        self.user_ids = nn.Embedding(num_users, size)
        self.bias_N = nn.Parameter(torch.zeros(num_items))
        self.history = nn.Linear(size, size)
        self.pooling = Pooling(size, settings.recency) if settings.history == "attention" else None
        self.profile = nn.Linear(profile_size, size, bias=False) if profile_size else None
        sizes = [size, *settings.layers]
        layers = [part for before, after in pairwise(sizes) for part in (nn.Linear(before, after), nn.ReLU())]
        self.perceptron = nn.Sequential(*layers, nn.Linear(sizes[-1], size)) if settings.layers else None
        self.log_scale = nn.Parameter(torch.tensor(math.log(loss.cosine_scale)),
                                      requires_grad=self.cosine and loss.learns_scale)
        self.plain = not loss.of_logits
        nn.init.normal_(self.text.weight, std=1 / math.sqrt(text_size))
        nn.init.normal_(self.item_ids.weight, std=0.1)
        nn.init.normal_(self.user_ids.weight, std=0.01)
        nn.init.eye_(self.history.weight)
        nn.init.zeros_(self.history.bias)
        if self.profile is not None:
            nn.init.zeros_(self.profile.weight)
        self.entities = None if entities_ND is None else EntityGate(entities_ND, size)

    def items(self, text_NT: torch.Tensor, has_id_N: torch.Tensor | None = None) -> torch.Tensor:
        """Return item vectors (N, E); without id for items added after training or with `has_id_N` 0."""
        vectors_NE = self.text(text_NT)
        if self.entities is not None:
            vectors_NE = self.entities(vectors_NE)
        ids_NE = self.settings.id_scale * self.item_ids.weight
        if has_id_N is not None:
            ids_NE = ids_NE * has_id_N[:, None]
        return vectors_NE + functional.pad(ids_NE, (0, 0, 0, len(text_NT) - len(ids_NE)))

    def histories(self, items_NE: torch.Tensor, indices: torch.Tensor, indptr: torch.Tensor) -> torch.Tensor:
        """Return the vectors (num_histories, E) of histories, given as CSR, oldest item first."""
        if self.pooling is None:
            return history_vectors(history_sums(items_NE, indices, indptr), indptr.diff())
        weight_L = self.pooling(items_NE, indices, ages(indptr))
        return history_vectors(history_sums(items_NE, indices, indptr, weight_L), indptr.diff(),
                               weight_sums(weight_L, indptr))

    def users(self, history_BE: torch.Tensor, ids_BE: torch.Tensor,
              profile_BT: torch.Tensor | None = None) -> torch.Tensor:
        """Return user vectors (B, E) from histories, id embeddings and profile texts (0 for a missing one)."""
        dropped_BE = functional.dropout(history_BE, self.settings.dropout, self.training)
        out: torch.Tensor = self.history(dropped_BE) + self.settings.id_scale * ids_BE
        if self.profile is not None and profile_BT is not None:
            out = out + self.profile(profile_BT)
        return out if self.perceptron is None else self.perceptron(out)

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
        """Return the bias of each item (num_items,), 0 for items added after training."""
        return functional.pad(self.bias_N, (0, num_items - len(self.bias_N)))


class Pooling(nn.Module):
    """Attention over a history: weights exp(q . v + r(age)) of its items v (Yang et al. 2016, eq. 5 to 7, without W).

    One query q for all users, so that the weights of the catalogue are computed once per step. r depends on the age
    (places behind the newest item), so that recent items can count more. Starts at equal weights: the plain sum.
    """

    def __init__(self, size: int, recency: bool) -> None:
        super().__init__()
        self.query_E = nn.Parameter(torch.zeros(size))
        self.ages = nn.Parameter(torch.zeros(_NUM_AGES)) if recency else None

    def forward(self, items_NE: torch.Tensor, indices_L: torch.Tensor, age_L: torch.Tensor) -> torch.Tensor:
        """Return the weight of each history entry, above 0 (L,)."""
        logits_L = (items_NE @ self.query_E / math.sqrt(len(self.query_E))).index_select(0, indices_L)
        if self.ages is not None:
            logits_L = logits_L + self.ages.index_select(0, age_bucket(age_L))
        return (_STEEPEST * torch.tanh(logits_L / _STEEPEST)).exp()


def age_bucket(age_L: torch.Tensor) -> torch.Tensor:
    """Return the bucket (int64) of each age: 0, 1-2, 3-6, 7-14 and so on."""
    return (age_L + 1).float().log2().floor().long().clamp_max(_NUM_AGES - 1)


def ages(indptr: torch.Tensor) -> torch.Tensor:
    """Return the age of each entry (L,) of histories, oldest first: its number of places behind the newest."""
    lengths = indptr.diff()
    return indptr[1:].repeat_interleave(lengths) - 1 - torch.arange(int(indptr[-1]), device=indptr.device)
