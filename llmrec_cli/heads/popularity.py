"""Popularity: the same list for everybody."""

import numpy as np
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.settings.head import ModelConfig


class Popularity(Head):
    """Items by their number or total weight of training interactions: the baseline any recommender must beat."""

    weighs_groups = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.counts_N = np.zeros(0, np.float32)
        self.together_N = np.zeros(0, np.float32)

    @property
    def is_personal(self) -> bool:
        """Never: everybody gets the same list."""
        return False

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the counts."""
        return 24 * len(data.items)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Add up the weights of each item's interactions."""
        settings, groups = self.config.head, data.groups
        self.counts_N = fit_weights(data, settings).by_item(data.interactions).astype(np.float32)
        self.together_N = self.counts_N
        if groups is not None and len(groups.interactions) > 0:
            weights = fit_weights(data, settings, groups=True)
            self.together_N = weights.by_item(groups.interactions).astype(np.float32)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the counts, once per query (Q, N)."""
        return torch.from_numpy(self.counts_N).expand(len(queries), -1)

    def score_groups(self, queries: Queries) -> torch.Tensor:
        """Return the counts of group interactions, once per query (Q, N); counts of users if groups have none."""
        return torch.from_numpy(self.together_N).expand(len(queries), -1)

    def add_items(self, items: Catalogue) -> None:
        """Append items that nobody has interacted with yet."""
        zeros_K = np.zeros(len(items), np.float32)
        self.counts_N = np.concatenate([self.counts_N, zeros_K])
        self.together_N = np.concatenate([self.together_N, zeros_K])

    def state(self) -> dict[str, np.ndarray]:
        """Return the counts."""
        return {"counts": self.counts_N, "together": self.together_N}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the counts."""
        self.counts_N = self.together_N = tensors.take("counts", FLOAT, (len(items),), low=0)
        # Models saved before group support have none.
        if "together" in tensors:
            self.together_N = tensors.take("together", FLOAT, (len(items),), low=0)
