"""Biased matrix factorisation by gradients.

Shapes: U users, N items, S users and R items of a block, B pairs, D embedding size. A row is a vector and a bias,
D + 1.
"""

import numpy as np
import torch
from torch.nn import functional

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.heads.pairs.head import PairHead
from llmrec_cli.heads.pairs.model import IdTable, PairModel, Rows, with_one
from llmrec_cli.settings.heads.pairs import MfSettings
from llmrec_cli.settings.loss import ScoreLossSettings


class Mf(PairHead):
    """score = mean + b_u + b_i + q_i . p_u (Koren et al. 2009, eq. 4), trained with any loss.

    With loss=bpr it is BPR-MF (Rendle et al. 2009); with loss=softmax over the whole catalogue a multinomial
    factorisation, the most accurate choice for ranking. With loss.similarity=cosine, q_i . p_u is their cosine, times
    `loss.scale` or divided by `loss.temperature`.
    """

    settings: MfSettings

    def model_of(self, users: Catalogue, items: Catalogue, mean: float) -> PairModel:
        """Return the factorisation."""
        return Factors(self.settings, self.config.loss, self.trained_U, self.trained_N, mean)

    def row_size(self) -> int:
        """Return the sum of a user's and an item's row sizes."""
        return 2 * (self.settings.embedding_size + 1)


class Factors(PairModel):
    """A vector and a bias of each user and item."""

    def __init__(self, settings: MfSettings, loss: ScoreLossSettings, trained_U: np.ndarray, trained_N: np.ndarray,
                 mean: float) -> None:
        super().__init__(mean)
        self.cosine = settings.compares_by_cosine(loss)
        self.factor = loss.cosine_scale if self.cosine else 1.0
        self.user_ids = IdTable(trained_U, settings.embedding_size, 0.1)
        self.item_ids = IdTable(trained_N, settings.embedding_size, 0.1)

    def users(self, user_S: torch.Tensor) -> Rows:
        """Return the rows of users; with cosine, of unit length times the factor."""
        return self._rows(self.user_ids, user_S, self.factor)

    def items(self, item_R: torch.Tensor) -> Rows:
        """Return the rows of items; with cosine, of unit length."""
        return self._rows(self.item_ids, item_R, 1.0)

    def _rows(self, table: IdTable, id_R: torch.Tensor, length: float) -> Rows:
        rows = table(id_R)
        squares = table.squares(rows)
        if self.cosine:
            rows = torch.cat([functional.normalize(rows[:, :-1], dim=1) * length, rows[:, -1:]], dim=1)
        return Rows(rows, squares)

    def new_items(self, num_items: int) -> torch.Tensor:
        """Return the rows of items without an id."""
        return self.item_ids.zero_rows(num_items)

    def block(self, users_SK: torch.Tensor, items_RL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with each item."""
        return with_one(users_SK) @ items_RL.T + (users_SK[:, -1] + self.mean)[:, None]

    def pairs(self, users_BK: torch.Tensor, items_BL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with the item of the same row."""
        return (with_one(users_BK) * items_BL).sum(dim=1) + users_BK[:, -1] + self.mean
