"""Item-based collaborative filtering."""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.neighbours import nearest_neighbours, neighbours_memory, weighted
from llmrec_cli.settings.head import ItemKnn as Settings
from llmrec_cli.settings.head import Recipe


class ItemKnn(Head):
    """Score of an item: the summed similarities of the history's items to it (Sarwar et al. 2001, eq. 8).

    Differs: cosine with shrinkage, and each item of the history contributes to its own k neighbours.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.head, Settings)
        self.settings = recipe.head
        self.similarity_NN: sp.csr_array = sp.csr_array(np.zeros((0, 0), np.float32))

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by item, a block of similarities and the neighbours."""
        return neighbours_memory(len(data.items), len(data.items), data.interactions.matrix.nnz, self.settings.k)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Find each item's nearest neighbours."""
        users_of_NU = sp.csr_array(data.interactions.matrix.T)
        items_NU = weighted(users_of_NU, self.settings.weighting, users_of_NU)
        self.similarity_NN = nearest_neighbours(items_NU, items_NU, self.settings, np.arange(items_NU.shape[0]))

    def score(self, queries: Queries) -> torch.Tensor:
        """Return history x similarity (Q, N)."""
        return torch.from_numpy((queries.history @ self.similarity_NN).toarray().astype(np.float32, copy=False))

    def add_items(self, items: Entities) -> None:
        """Append items that are similar to nothing yet."""
        old, size = self.similarity_NN, self.similarity_NN.shape[0] + len(items)
        indptr = np.concatenate([old.indptr, np.full(len(items), old.indptr[-1])])
        self.similarity_NN = sp.csr_array((old.data, old.indices, indptr), shape=(size, size))

    def state(self) -> dict[str, np.ndarray]:
        """Return the similarities."""
        s = self.similarity_NN
        return {"indptr": s.indptr.astype(np.int64), "indices": s.indices.astype(np.int64), "values": s.data}

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take the similarities."""
        self.similarity_NN = sp.csr_array((state["values"], state["indices"], state["indptr"]),
                                          shape=(len(items), len(items)))
