"""User-based collaborative filtering."""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.matrix_products import RightFactor, compact
from llmrec_cli.heads.shared.neighbours import Candidates, Weighting, nearest_neighbours, powers
from llmrec_cli.settings.head import ModelConfig, UserKnnSettings


class UserKnn(Head):
    """Score of an item: the summed similarities of the nearest users who interacted with it (Resnick et al. 1994).

    Differs: for positives only, so no mean is subtracted and the sum is not divided. Queries are compared by history,
    for known and new users alike; a known user is never their own neighbour. Asymmetric cosine as in Aiolli 2013. With
    weights, users are compared as vectors of interaction weights, and the sum is weighted by them.
    """

    settings: UserKnnSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.matrix_UN: sp.csr_array = sp.csr_array(np.zeros((0, 0), np.float32))
        self.index: _UserIndex | None = None

    @property
    def uses_identity(self) -> bool:
        """Always: a known user must not be their own neighbour."""
        return True

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by user."""
        return 8 * len(data.interactions)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Keep the interactions; neighbours are computed when scoring."""
        self.interaction_weights = fit_weights(data, self.settings)
        self._keep(compact(self.interaction_weights.matrix(data.interactions)))

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the neighbours' similarities x interactions (Q, N)."""
        if self.index is None:
            self.index = _UserIndex(self.matrix_UN, self.settings)
        index, own = self.index, powers(self.settings)[0]
        near_QU = nearest_neighbours(index.weighting(self.history(queries)), own, index.candidates, self.settings,
                                     queries.user)
        return torch.from_numpy(index.factor.product(near_QU))

    def _keep(self, matrix_UN: sp.csr_array) -> None:
        self.matrix_UN, self.index = matrix_UN, None

    def add_items(self, items: Catalogue) -> None:
        """Append items that nobody has interacted with yet."""
        old, shape = self.matrix_UN, (self.matrix_UN.shape[0], self.matrix_UN.shape[1] + len(items))
        self._keep(sp.csr_array((old.data, old.indices, old.indptr), shape=shape))

    def state(self) -> dict[str, np.ndarray]:
        """Return the interactions, with their weights unless all are equal."""
        matrix, weights = self.matrix_UN, self.interaction_weights
        return {"indptr": matrix.indptr.astype(np.int64), "indices": matrix.indices.astype(np.int64),
                **({} if weights.is_uniform else {"values": matrix.data}), **weights.state()}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the interactions."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self._keep(tensors.csr("", (len(users), len(items)), low=0,
                               optional_values=self.interaction_weights.is_uniform))


class _UserIndex:
    """Training users prepared once for comparison with queries."""

    def __init__(self, matrix_UN: sp.csr_array, settings: UserKnnSettings) -> None:
        self.weighting = Weighting(matrix_UN, settings)
        self.candidates = Candidates(self.weighting(matrix_UN), powers(settings)[1])
        self.factor = RightFactor(matrix_UN)
