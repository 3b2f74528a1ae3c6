"""Factorisation machine over the ids and attributes of users and items.

Shapes: U users, N items, S users and R items of a block, B pairs, F attributes, D embedding size. A row is the sum of
an entity's vectors and its score by itself, D + 1.
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

    x is 1 at the user's and at the item's id, and one over the root of their number at each of an entity's attributes,
    so that an entity with many counts no more than one with few. The sum over j falls into the user's and the item's:
    with s = sum_j x_j v_j of either, the score is w_0 + c_user + c_item + s_user . s_item, where c is what an entity
    scores by itself, its weights and the products within it. So every pair of a block costs one dot product.

    An item without training is scored by those of its attributes that items of the training data have.
    """

    settings: FactorizationMachineSettings

    def model_of(self, users: Catalogue, items: Catalogue, mean: float) -> PairModel:
        """Return the machine."""
        return Machine(self.settings, Side(users, self.trained_U, self.settings.embedding_size),
                       Side(items, self.trained_N, self.settings.embedding_size), mean)

    def can_score(self, items: Catalogue) -> np.ndarray:
        """Return which items have training, or an attribute of an item that has."""
        return self.trained_N | self._has_known_attribute(items.attributes)

    def new_items(self, items: Catalogue) -> tuple[torch.Tensor, np.ndarray]:
        """Return the rows of items by their attributes alone, matched by name."""
        model = self._machine()
        attributes = aligned(items, model.item_side.names)
        return model.item_side.new(attributes).rows, self._has_known_attribute(attributes)

    def row_size(self) -> int:
        """Return the numbers of a user and an item together."""
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
        """Return the rows of items, in training with some of the ids hidden."""
        rows: Rows = self.item_side(item_R, self.id_dropout if self.training else 0.0)
        return rows

    def new_items(self, num_items: int) -> torch.Tensor:
        """Return the rows of items of which nothing is known."""
        return self.item_side.ids.nobody(num_items)

    def block(self, users_SK: torch.Tensor, items_RL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with each item."""
        return with_one(users_SK) @ items_RL.T + (users_SK[:, -1] + self.mean)[:, None]

    def pairs(self, users_BK: torch.Tensor, items_BL: torch.Tensor) -> torch.Tensor:
        """Return the scores of each user with the item of the same row."""
        return (with_one(users_BK) * items_BL).sum(dim=1) + users_BK[:, -1] + self.mean


class Side(nn.Module):
    """The ids and attributes of users, or of items; attributes without training stay 0."""

    def __init__(self, entities: Catalogue, trained_U: np.ndarray, size: int) -> None:
        super().__init__()
        self.names = entities.attribute_names
        self.trained_F = trained_U.astype(np.float32) @ entities.attributes > 0
        self.ids = IdTable(trained_U, size, 0.1)
        self.attributes = IdTable(self.trained_F, size, 0.1)
        self.bags = Bags(entities.attributes)

    def forward(self, id_R: torch.Tensor, id_dropout: float = 0.0) -> Rows:
        """Return the rows (R, D + 1) of entities of the training data."""
        ids = self.ids(id_R)
        if id_dropout > 0:
            ids = ids * (torch.rand(len(ids), 1, device=ids.device) >= id_dropout)
        return self._rows(ids, *self.bags.chosen(id_R))

    def new(self, attributes: sp.csr_array) -> Rows:
        """Return the rows of entities known by their attributes (R, F) alone."""
        device = self.attributes.rows.device
        nobody = self.ids.nobody(attributes.shape[0])
        return self._rows(nobody, *Bags(attributes).to(device).chosen(torch.arange(attributes.shape[0], device=device)))

    def _rows(self, ids: torch.Tensor, which: torch.Tensor, indptr: torch.Tensor, weight: torch.Tensor) -> Rows:
        """Return the rows of ids (R, D + 1) together with the attributes in CSR, `weight` their x."""
        table = self.attributes.rows
        sums = ids + _bags(table, which, indptr, weight)
        squares = ids.square() + _bags(table.square(), which, indptr, weight.square())
        within = (sums[:, :-1].square() - squares[:, :-1]).sum(dim=1) / 2
        return Rows(torch.cat([sums[:, :-1], (sums[:, -1] + within)[:, None]], dim=1), squares @ self.ids.penalised)


class Bags(nn.Module):
    """The attributes of entities as CSR on the device: which, and the x of each."""

    indptr: torch.Tensor
    indices: torch.Tensor
    weight: torch.Tensor

    def __init__(self, attributes: sp.csr_array) -> None:
        super().__init__()
        lengths = np.diff(attributes.indptr)
        weight = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        for name, array in (("indptr", attributes.indptr.astype(np.int64)), ("weight", weight),
                            ("indices", attributes.indices.astype(np.int64))):
            # The entities have them already, so they are not saved again.
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def chosen(self, id_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the attributes, where each bag begins (R + 1,) and the x of each, for the entities `id_R`."""
        start_R = self.indptr[id_R]
        length_R = self.indptr[id_R + 1] - start_R
        indptr = functional.pad(length_R.cumsum(0), (1, 0))
        within = torch.arange(int(indptr[-1]), device=id_R.device) - torch.repeat_interleave(indptr[:-1], length_R)
        place = torch.repeat_interleave(start_R, length_R) + within
        return self.indices[place], indptr, self.weight[place]


def aligned(entities: Catalogue, names: list[str]) -> sp.csr_array:
    """Return the attributes of entities in the columns `names`; others are left out."""
    column = {name: n for n, name in enumerate(names)}
    coo = entities.attributes.tocoo()
    columns = np.array([column.get(name, -1) for name in entities.attribute_names], np.int64)[coo.col]
    known = columns >= 0
    return sp.csr_array((coo.data[known], (coo.row[known], columns[known])), shape=(len(entities), len(names)))


def _bags(table: torch.Tensor, which: torch.Tensor, indptr: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.embedding_bag(which, table, indptr, mode="sum", per_sample_weights=weight,
                                    include_last_offset=True)
