"""Items similar to the history's items by content features.

Shapes: Q queries, M items including added ones, L items in the histories of a block.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_kernel import UnitFeatures
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.settings.head import ItemSimilaritySettings, ModelConfig

_BLOCK_ITEMS = 1024
"""Items scored at a time."""


class ItemSimilarity(Head):
    """score(u, j) = sum over the history's items i of weight(i) max(cosine(i, j), 0)^exponent.

    The content-based neighbourhood of Lops et al. 2011 (section 3.3.1) with all items as neighbours. Similarities do
    not depend on interactions, so cold items compete on equal terms, and a user's scores depend on their history only.
    """

    settings: ItemSimilaritySettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.features: ItemFeatures | None = None
        self.unit = UnitFeatures.of(np.zeros((0, 0), np.float32), sp.csr_array((0, 0), dtype=np.float32))

    @property
    def supports_text_queries(self) -> bool:
        """True if item texts are among the features."""
        return self.settings.features.text > 0

    @property
    def rereads(self) -> bool:
        """Always: items are represented by their content only."""
        return True

    def reread(self, texts: np.ndarray) -> None:
        """Recompute the vectors of all items from other texts (N,)."""
        assert self.features is not None
        self.features.reread(texts)
        self._unify()

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, if text has a weight."""
        return None if self.features is None else self.features.text

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the item features, including their training if enabled, and of their unit vectors."""
        size = 0 if self.config.encoder is None else self.config.encoder.vector_size()
        num_vectors = len(data.items) * (2 if self.settings.features.frozen_text > 0 else 1)
        return features_memory(self.settings.features, self.config, data, 2 * 4 * size * num_vectors)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Compute the item features, after training them if enabled."""
        self.features = ItemFeatures(self.settings.features, self.config, context.device)
        self.features.fit(data, context)
        self.interaction_weights = fit_weights(data, self.settings)
        self._unify()

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the summed similarities (Q, M)."""
        history = self.history(queries)
        items_L, place = np.unique(history.indices, return_inverse=True)
        read = self.unit.rows(items_L)
        weights_QL = sp.csr_array((history.data, place, history.indptr), (history.shape[0], len(items_L)))
        scores_QM = np.empty((history.shape[0], len(self.unit.dense_ND)), np.float32)
        # The histories of many queries have most items, so that all cosines at once would be larger than the scores.
        for some, block in self.unit.blocks(_BLOCK_ITEMS):
            cosine_LB = read.cosine(block, torch.device("cpu"))
            scores_QM[:, some] = weights_QL @ (cosine_LB.clamp_min_(0) ** self.settings.exponent).numpy()
        return torch.from_numpy(scores_QM)

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of the texts with the items' texts (T, M)."""
        assert self.features is not None
        return self.features.text_similarities(texts)

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of text-training epochs that validation chose."""
        features = self.settings.features if self.features is None else self.features.tuned_settings()
        return replace(self.config, head=replace(self.settings, features=features))

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts and attributes."""
        assert self.features is not None
        self.features.add(items)
        self._unify()

    def state(self) -> dict[str, np.ndarray]:
        """Return the features."""
        assert self.features is not None
        return self.features.state() | self.interaction_weights.state()

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self.features = ItemFeatures(self.settings.features, self.config, context.device)
        self.features.read(tensors, items)
        self._unify()

    def _unify(self) -> None:
        assert self.features is not None
        self.unit = UnitFeatures.of(self.features.dense_ND, self.features.sparse_NF)
