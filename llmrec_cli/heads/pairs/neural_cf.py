"""Neural collaborative filtering: a factorisation and a perceptron in parallel.

Shapes: U users, N items, S users and R items of a block, B pairs, D embedding size, H size of the first hidden layer. A
row is the factorisation's vector, the first layer's output for the perceptron's vector, and a bias: D + H + 1.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.heads.pairs.head import PairHead
from llmrec_cli.heads.pairs.model import IdTable, PairModel, Rows
from llmrec_cli.settings.heads.pairs import NeuralCfSettings

_LARGEST_BLOCK = 2**22
"""Most hidden-layer values of a block scored at once."""


class NeuralCf(PairHead):
    """NeuMF (He et al. 2017, eq. 12), trained with any loss.

    Differs: the two parts and the user's and item's biases are added, with the factorisation's output weights absorbed
    into its vectors; both parts are trained together without pretraining; negatives are drawn once per step and shared
    by its users.
    """

    settings: NeuralCfSettings

    def model_of(self, users: Catalogue, items: Catalogue, mean: float) -> PairModel:
        """Return the two parts."""
        return NeuMf(self.settings, self.trained_U, self.trained_N, mean)

    def row_size(self) -> int:
        """Return the sum of a user's and an item's row sizes."""
        return 4 * self.settings.embedding_size + 2

    def hidden_size(self) -> int:
        """Return the number of hidden-layer values of a pair."""
        return sum(self.settings.layers)


class NeuMf(PairModel):
    """p_u . q_i + MLP([p'_u, q'_i]) + biases.

    The first layer is the sum of a user part and an item part, W [p', q'] = W_u p' + W_i q', each computed once per
    block; only the later layers are computed for every pair.
    """

    def __init__(self, settings: NeuralCfSettings, trained_U: np.ndarray, trained_N: np.ndarray, mean: float) -> None:
        super().__init__(mean)
        size = settings.embedding_size
        self.size, self.dropout = size, settings.dropout
        self.user_ids, self.item_ids = IdTable(trained_U, 2 * size, 0.1), IdTable(trained_N, 2 * size, 0.1)
        first = settings.layers[0] if settings.layers else 0
        self.of_user = nn.Linear(size, first) if first else None
        self.of_item = nn.Linear(size, first, bias=False) if first else None
        sizes = [*settings.layers, 1] if first else []
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=b > 1) for a, b in pairwise(sizes))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))

    def users(self, user_S: torch.Tensor) -> Rows:
        """Return the rows of users."""
        return self._rows(self.user_ids, self.user_ids(user_S), self.of_user)

    def items(self, item_R: torch.Tensor) -> Rows:
        """Return the rows of items."""
        return self._rows(self.item_ids, self.item_ids(item_R), self.of_item)

    def new_items(self, num_items: int) -> torch.Tensor:
        """Return the rows of items without any information."""
        return self._rows(self.item_ids, self.item_ids.zero_rows(num_items), self.of_item).rows

    def _rows(self, table: IdTable, ids: torch.Tensor, first: nn.Linear | None) -> Rows:
        vector, other, bias = ids.split([self.size, self.size, 1], dim=1)
        parts = [vector, bias] if first is None else [vector, first(other), bias]
        return Rows(torch.cat(parts, dim=1), table.squares(ids))

    def block(self, users_SK: torch.Tensor, items_RL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with each item, some items at a time."""
        size = self.size
        scores_SR = users_SK[:, :size] @ items_RL[:, :size].T + (users_SK[:, -1] + self.mean)[:, None] + items_RL[:, -1]
        if not self.layers:
            return scores_SR
        user_S1H, item_1RH = users_SK[:, None, size:-1], items_RL[None, :, size:-1]
        at_once = max(1, _LARGEST_BLOCK // max(1, len(users_SK) * user_S1H.shape[2]))
        if torch.is_grad_enabled():
            parts = [self._perceptron(user_S1H + part) for part in item_1RH.split(at_once, dim=1)]
            return scores_SR + torch.cat(parts, dim=1)
        # In place: a small result allocated between large hidden layers would keep their memory from being reused.
        for part_SL, part in zip(scores_SR.split(at_once, dim=1), item_1RH.split(at_once, dim=1), strict=True):
            part_SL.add_(self._perceptron(user_S1H + part))
        return scores_SR

    def pairs(self, users_BK: torch.Tensor, items_BL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with the item of the same row."""
        size = self.size
        scores_B = (users_BK[:, :size] * items_BL[:, :size]).sum(dim=1) + users_BK[:, -1] + items_BL[:, -1] + self.mean
        return scores_B + self._perceptron(users_BK[:, size:-1] + items_BL[:, size:-1]) if self.layers else scores_B

    def _perceptron(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the remaining layers to the first layer's sums (..., H); return shape (...)."""
        for layer in self.layers:
            hidden = layer(functional.dropout(hidden.relu(), self.dropout, self.training))
        return hidden.squeeze(-1)
