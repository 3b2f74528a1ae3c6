"""Repeat consumption: what a user had before.

Shapes: Q queries, N items.
"""

import numpy as np
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import DOUBLE, FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.repeat import RepeatSettings


class Repeat(Head):
    """Score of an item of the history: its share of repeats x the weight of the interaction; 0 for all other items.

    Recency and an item's own tendency to be had again explain repeats best in Anderson et al. 2014, "The dynamics of
    repeat consumption". The share is that of the item's users who had it more than once, drawn towards the average of
    all items by `shrinkage` users. The weight is by recency, value and age (`recency`, `weight`, `decay`).
    """

    settings: RepeatSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.share_N = np.zeros(0, np.float32)
        self.mean_share = 1.0

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the shares, and of the values compared."""
        return 32 * len(data.items) + 8 * len(data.interactions)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Compute each item's share of users who had it again."""
        self.interaction_weights = fit_weights(data, self.settings)
        self.mean_share, self.share_N = 1.0, np.ones(len(data.items), np.float32)
        if not self._has_counts(data):
            return
        interactions, added = data.interactions, self.settings.shrinkage
        again_N = np.bincount(interactions.item[interactions.value >= 2], minlength=len(data.items))
        self.mean_share = float(again_N.sum() / max(1, len(interactions)))
        users_N = interactions.item_counts + added
        shares_N = (again_N + added * self.mean_share) / np.where(users_N > 0, users_N, 1)
        self.share_N = np.where(users_N > 0, shares_N, self.mean_share).astype(np.float32)
        context.log("repeats", share=self.mean_share, interactions=len(interactions))

    def _has_counts(self, data: TrainingData) -> bool:
        """Return True if the values of the interactions are numbers of times."""
        value = data.interactions.value
        if self.settings.counts != "auto":
            return self.settings.counts == "values"
        is_whole = bool((value >= 1).all() and (value == np.floor(value)).all())
        return data.value_kind == "strength" and is_whole and bool((value > 1).any())

    def unused_values(self, data: TrainingData) -> list[str]:
        """Return also that the shares of repeats are unknown."""
        reasons = super().unused_values(data)
        if self.settings.counts == "auto" and not self._has_counts(data):
            reasons.append("head=repeat: the values of the data are not numbers of times, so all items have the same "
                           "share of repeats and recency alone orders them; prepare with dataset.duplicates=sum, or "
                           "set head.counts=values")
        return reasons

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the weighted shares of the history's items, and 0 for other items (Q, N)."""
        history = self.history(queries)
        history.data = history.data * self.share_N[history.indices]
        return torch.from_numpy(history.toarray())

    def add_items(self, items: Catalogue) -> None:
        """Append items; in a history they have the average share."""
        self.share_N = np.concatenate([self.share_N, np.full(len(items), self.mean_share, np.float32)])

    def state(self) -> dict[str, np.ndarray]:
        """Return the shares."""
        return {"shares": self.share_N, "mean_share": np.array([self.mean_share]), **self.interaction_weights.state()}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the shares."""
        self.interaction_weights = InteractionWeights.read(tensors)
        self.share_N = tensors.take("shares", FLOAT, (len(items),), low=0, high=1)
        self.mean_share = float(tensors.take("mean_share", DOUBLE, (1,), low=0, high=1)[0])
