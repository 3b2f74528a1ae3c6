"""Base of heads that score an item by its weights with the history's items.

Shapes: Q queries, N items.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.matrix_products import RightFactor
from llmrec_cli.settings.head import ModelConfig


class ItemItemHead(Head):
    """Score of an item: the sum of its weights with the history's items. Subclasses call `keep` in `fit`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.similarity_NN: sp.csr_array = sp.csr_array(np.zeros((0, 0), np.float32))
        self.factor: RightFactor | None = None

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return history x similarity (Q, N)."""
        if self.factor is None:
            self.factor = RightFactor(self.similarity_NN)
        return torch.from_numpy(self.factor.product(self.history(queries)))

    def keep(self, similarity_NN: sp.csr_array) -> None:
        """Set the weights, CSR (N, N): rows are history items, columns the scored items."""
        self.similarity_NN, self.factor = similarity_NN, None

    def add_items(self, items: Catalogue) -> None:
        """Append items without similarities; they score 0."""
        old, size = self.similarity_NN, self.similarity_NN.shape[0] + len(items)
        indptr = np.concatenate([old.indptr, np.full(len(items), old.indptr[-1])])
        self.keep(sp.csr_array((old.data, old.indices, indptr), shape=(size, size)))

    def state(self) -> dict[str, np.ndarray]:
        """Return the similarities."""
        s = self.similarity_NN
        return {"indptr": s.indptr.astype(np.int64), "indices": s.indices.astype(np.int64), "values": s.data,
                **self.interaction_weights.state()}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the similarities."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self.keep(tensors.csr("", (len(items), len(items)), low=0, is_sorted=True))
