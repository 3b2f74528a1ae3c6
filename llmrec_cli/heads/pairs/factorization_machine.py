"""Factorisation machine over the ids and attributes of users and items.

Shapes: U users, N items, S users and R items of a block, B pairs, F attributes, D embedding size. The row of a user or
an item is the sum of its vectors and its own score, D + 1.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.heads.pairs.head import PairHead
from llmrec_cli.heads.pairs.model import IdTable, PairModel, Rows, with_one
from llmrec_cli.settings.heads.pairs import FactorizationMachineSettings


class FactorizationMachine(PairHead):
    """score = w_0 + sum_j w_j x_j + sum_{j<k} <v_j, v_k> x_j x_k (Rendle 2010, eq. 1), computed by its eq. 5.

    x is 1 at the ids of the user and the item, and 1 / sqrt(number of attributes) at each attribute, so that a user or
    item with many attributes counts no more than one with few. The sum over j splits into a user part and an item part:
    with s = sum_j x_j v_j of each, the score is w_0 + c_user + c_item + s_user . s_item, where c sums the weights and
    the products within the user or within the item. So each pair of a block costs one dot product.

    An item without training interactions is scored from the attributes that it shares with items in training.
    """

    settings: FactorizationMachineSettings

    def model_of(self, users: Catalogue, items: Catalogue, mean: float) -> PairModel:
        """Return the machine."""
        return Machine(self.settings, Side(users, self.trained_U, self.settings.embedding_size),
                       Side(items, self.trained_N, self.settings.embedding_size), mean)

    def can_score(self, items: Catalogue) -> np.ndarray:
        """Return the mask of items in training or with an attribute of an item in training."""
        return self.trained_N | self._has_known_attribute(items.attributes)

    def new_items(self, items: Catalogue) -> tuple[torch.Tensor, np.ndarray]:
        """Return the rows of new items from their attributes only, matched by name."""
        model = self._machine()
        attributes = align_attributes(items, model.item_side.names)
        return model.item_side.new(attributes).rows, self._has_known_attribute(attributes)

    def row_size(self) -> int:
        """Return the sum of a user's and an item's row sizes."""
        return 2 * (self.settings.embedding_size + 1)

    def _has_known_attribute(self, attributes: sp.csr_array) -> np.ndarray:
        return attributes @ self._machine().item_side.trained_F.astype(np.float32) > 0

    def _machine(self) -> "Machine":
        assert isinstance(self.model, Machine), "fit or load first"
        return self.model


class Machine(PairModel):
    """Users and items, each a side with ids and attributes."""

    def __init__(self, settings: FactorizationMachineSettings, users: "Side", items: "Side", mean: float) -> None:
        super().__init__(mean)
        self.id_dropout = settings.id_dropout
        self.user_side, self.item_side = users, items

    def users(self, user_S: torch.Tensor) -> Rows:
        """Return the rows of users."""
        rows: Rows = self.user_side(user_S)
        return rows

    def items(self, item_R: torch.Tensor) -> Rows:
        """Return the rows of items; while training, id dropout hides some ids."""
        rows: Rows = self.item_side(item_R, self.id_dropout if self.training else 0.0)
        return rows

    def new_items(self, num_items: int) -> torch.Tensor:
        """Return the rows of items without id and attributes."""
        return self.item_side.ids.zero_rows(num_items)

    def block(self, users_SK: torch.Tensor, items_RL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with each item."""
        return with_one(users_SK) @ items_RL.T + (users_SK[:, -1] + self.mean)[:, None]

    def pairs(self, users_BK: torch.Tensor, items_BL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with the item of the same row."""
        return (with_one(users_BK) * items_BL).sum(dim=1) + users_BK[:, -1] + self.mean


class Side(nn.Module):
    """Ids and attributes of users, or of items; attributes without training interactions stay 0."""

    def __init__(self, catalogue: Catalogue, trained_U: np.ndarray, size: int) -> None:
        super().__init__()
        self.names = catalogue.attribute_names
        self.trained_F = trained_U.astype(np.float32) @ catalogue.attributes > 0
        self.ids = IdTable(trained_U, size, 0.1)
        self.attributes = IdTable(self.trained_F, size, 0.1)
        self.bags = Bags(catalogue.attributes)

    def forward(self, id_R: torch.Tensor, id_dropout: float = 0.0) -> Rows:
        """Return the rows (R, D + 1) of users or items of the training data."""
        ids = self.ids(id_R)
        if id_dropout > 0:
            ids = ids * (torch.rand(len(ids), 1, device=ids.device) >= id_dropout)
        return self._rows(ids, *self.bags.select(id_R))

    def new(self, attributes: sp.csr_array) -> Rows:
        """Return the rows of users or items with these attributes (R, F) and no id."""
        device = self.attributes.rows.device
        ids = self.ids.zero_rows(attributes.shape[0])
        return self._rows(ids, *Bags(attributes).to(device).select(torch.arange(attributes.shape[0], device=device)))

    def _rows(self, ids: torch.Tensor, which: torch.Tensor, indptr: torch.Tensor, weight: torch.Tensor) -> Rows:
        """Return the rows of ids (R, D + 1) plus the attributes, in CSR with their x as `weight`."""
        table = self.attributes.rows
        sums = ids + _bags(table, which, indptr, weight)
        squares = ids.square() + _bags(table.square(), which, indptr, weight.square())
        within = (sums[:, :-1].square() - squares[:, :-1]).sum(dim=1) / 2
        return Rows(torch.cat([sums[:, :-1], (sums[:, -1] + within)[:, None]], dim=1), squares @ self.ids.penalised)


class Bags(nn.Module):
    """Attributes of users or items as CSR on the device: indices, and the x of each."""

    indptr: torch.Tensor
    indices: torch.Tensor
    weight: torch.Tensor

    def __init__(self, attributes: sp.csr_array) -> None:
        super().__init__()
        lengths = np.diff(attributes.indptr)
        weight = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        for name, array in (("indptr", attributes.indptr.astype(np.int64)), ("weight", weight),
                            ("indices", attributes.indices.astype(np.int64))):
            # Not saved: the catalogue has them already.
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def select(self, id_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return attributes, starts of the bags (R + 1,) and x values of the users or items `id_R`."""
        start_R = self.indptr[id_R]
        length_R = self.indptr[id_R + 1] - start_R
        indptr = functional.pad(length_R.cumsum(0), (1, 0))
        within = torch.arange(int(indptr[-1]), device=id_R.device) - torch.repeat_interleave(indptr[:-1], length_R)
        place = torch.repeat_interleave(start_R, length_R) + within
        return self.indices[place], indptr, self.weight[place]


def align_attributes(catalogue: Catalogue, names: list[str]) -> sp.csr_array:
    """Return the attributes in the columns `names`; other attributes are dropped."""
    column = {name: n for n, name in enumerate(names)}
    coo = catalogue.attributes.tocoo()
    columns = np.array([column.get(name, -1) for name in catalogue.attribute_names], np.int64)[coo.col]
    has_column = columns >= 0
    return sp.csr_array((coo.data[has_column], (coo.row[has_column], columns[has_column])),
                        shape=(len(catalogue), len(names)))


def _bags(table: torch.Tensor, which: torch.Tensor, indptr: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.embedding_bag(which, table, indptr, mode="sum", per_sample_weights=weight,
                                    include_last_offset=True)
