"""The interface of pair models: vectors (rows) of users and items, and the score of two rows.

Shapes: U users and N items in training, S users and R items of a block, B pairs, K size of a user's row, L size of an
item's row.
"""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Rows(NamedTuple):
    """Inputs of some users or items.

    Attributes
    ----------
    rows : (R, K), inputs of the scores
    squares : (R,), sum of squares of the learned parameters of each row, for the penalty
    """

    rows: torch.Tensor
    squares: torch.Tensor


class PairModel(nn.Module):
    """Model that represents users and items by rows of learned tables, and scores pairs of these rows."""

    mean: torch.Tensor

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))

    @abstractmethod
    def users(self, user_S: torch.Tensor) -> Rows:
        """Return the rows of users (S, K)."""

    @abstractmethod
    def items(self, item_R: torch.Tensor) -> Rows:
        """Return the rows of items (R, L)."""

    @abstractmethod
    def new_items(self, num_items: int) -> torch.Tensor:
        """Return the rows (num_items, L) of items without any information."""

    @abstractmethod
    def block(self, users_SK: torch.Tensor, items_RL: torch.Tensor) -> torch.Tensor:
        """Return the scores (S, R) of each user with each item."""

    @abstractmethod
    def pairs(self, users_BK: torch.Tensor, items_BL: torch.Tensor) -> torch.Tensor:
        """Return the scores (B,) of each user with the item of the same row."""


class IdTable(nn.Module):
    """Learned rows by id: a vector, and a bias as the last number. Untrained rows are 0 and stay 0."""

    penalised: torch.Tensor

    def __init__(self, trained_U: np.ndarray, size: int, std: float) -> None:
        super().__init__()
        vectors_UD = torch.randn(len(trained_U), size) * std * torch.from_numpy(trained_U)[:, None]
        # One parameter for both: splitting and joining rows costs more than the computation itself.
        self.rows = nn.Parameter(functional.pad(vectors_UD, (0, 1)))
        self.register_buffer("penalised", functional.pad(torch.ones(size), (0, 1)), persistent=False)

    def forward(self, id_R: torch.Tensor) -> torch.Tensor:
        """Return rows (R, size + 1)."""
        return self.rows.index_select(0, id_R)

    def squares(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the squared norms (R,) of the vectors in rows (R, size + 1); biases are not penalised."""
        return rows.square() @ self.penalised

    def zero_rows(self, num_rows: int) -> torch.Tensor:
        """Return rows (num_rows, size + 1) for users or items without an id: zeros."""
        return torch.zeros(num_rows, self.rows.shape[1], device=self.rows.device)


def with_one(rows_SK: torch.Tensor) -> torch.Tensor:
    """Return rows [p, b_u] as [p, 1], whose product with an item's row [q, b_i] is p . q + b_i.

    In one tensor, because splitting vectors and biases of many items costs more than the product.
    """
    return functional.pad(rows_SK[:, :-1], (0, 1), value=1.0)
