"""The same list for everybody."""

import numpy as np
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.settings.head import Recipe


class Popularity(Head):
    """Items by their number of training interactions: the baseline any recommender must beat."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.counts_N = np.zeros(0, np.float32)

    def memory(self, data: TrainingData) -> int:
        """Return the bytes of the counts."""
        return 12 * len(data.items)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Count."""
        self.counts_N = data.interactions.item_counts.astype(np.float32)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return the counts, once per query (Q, N)."""
        return torch.from_numpy(self.counts_N).expand(len(queries), -1)

    def add_items(self, items: Entities) -> None:
        """Append items that nobody has interacted with yet."""
        self.counts_N = np.concatenate([self.counts_N, np.zeros(len(items), np.float32)])

    def state(self) -> dict[str, np.ndarray]:
        """Return the counts."""
        return {"counts": self.counts_N}

    def load(self, state: dict[str, np.ndarray], users: Entities, items: Entities, context: Context) -> None:
        """Take the counts."""
        self.counts_N = state["counts"]
