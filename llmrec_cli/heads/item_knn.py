"""Item-based collaborative filtering."""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.matrix_products import RightFactor, compact
from llmrec_cli.heads.shared.neighbours import Candidates, Weighting, fit_memory, nearest_neighbours, powers
from llmrec_cli.settings.head import ItemKnnSettings, Recipe


class ItemKnn(Head):
    """Score of an item: the summed similarities of the history's items to it (Sarwar et al. 2001, eq. 8).

    With weights, items are compared as vectors of the weights of their interactions, and the sum is weighted by those
    of the history.
    Asymmetric cosine: Aiolli 2013, |target|^(2 asymmetry) |history|^(2 - 2 asymmetry) in the denominator.
    Differs: shrinkage, a power of the norms, and not divided by the sum of the similarities, which is for ratings.
    """

    settings: ItemKnnSettings

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.similarity_NN: sp.csr_array = sp.csr_array(np.zeros((0, 0), np.float32))
        self.factor: RightFactor | None = None

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by item, a block of similarities and the neighbours."""
        return fit_memory(data, self.settings.k, self.settings.neighbours_of == "target")

    def fit(self, data: TrainingData, context: Context) -> None:
        """Find each item's nearest neighbours."""
        self.interaction_weights = fit_weights(data, self.settings)
        items_NU = sp.csr_array(compact(self.interaction_weights.matrix(data.interactions)).T)
        items_NU = Weighting(items_NU, self.settings)(items_NU)
        target, other = powers(self.settings)
        own, others = (target, other) if self.settings.neighbours_of == "target" else (other, target)
        similarity_NN = nearest_neighbours(items_NU, own, Candidates(items_NU, others), self.settings,
                                           np.arange(items_NU.shape[0]))
        self._keep(sp.csr_array(similarity_NN.T) if self.settings.neighbours_of == "target" else similarity_NN)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return history x similarity (Q, N)."""
        if self.factor is None:
            self.factor = RightFactor(self.similarity_NN)
        return torch.from_numpy(self.factor.product(self.history(queries)))

    def _keep(self, similarity_NN: sp.csr_array) -> None:
        self.similarity_NN, self.factor = similarity_NN, None

    def add_items(self, items: Entities) -> None:
        """Append items that are similar to nothing yet."""
        old, size = self.similarity_NN, self.similarity_NN.shape[0] + len(items)
        indptr = np.concatenate([old.indptr, np.full(len(items), old.indptr[-1])])
        self._keep(sp.csr_array((old.data, old.indices, indptr), shape=(size, size)))

    def state(self) -> dict[str, np.ndarray]:
        """Return the similarities."""
        s = self.similarity_NN
        return {"indptr": s.indptr.astype(np.int64), "indices": s.indices.astype(np.int64), "values": s.data,
                **self.interaction_weights.state()}

    def read(self, tensors: TensorReader, users: Entities, items: Entities, context: Context) -> None:
        """Take the similarities."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self._keep(tensors.csr("", (len(items), len(items)), low=0, is_sorted=True))
