"""The pairs of a user and an item that `interest` is trained on.

Shapes: P pairs of a step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.pair_steps import known_values


@dataclass(frozen=True)
class Batch:
    """Users, items (int64) and what is to be learned of each pair (float32), (P,) each."""

    user: np.ndarray
    item: np.ndarray
    target: np.ndarray

    def rows(self, which: np.ndarray) -> "Batch":
        """Return the chosen pairs."""
        return Batch(self.user[which], self.item[which], self.target[which])


class Pairs:
    """Likes and dislikes, values, or interactions with an item drawn at random beside each, which is a dislike.

    Attributes
    ----------
    mean : what is said of a pair that nothing is known of: the mean value, or the logit of the share of likes
    """

    def __init__(self, data: TrainingData, target: str, batch_size: int) -> None:
        self.known = Batch(*known_values(data, target))
        self.draws = target == "choice"
        self.matrix = data.interactions.matrix
        self.warm_items = np.flatnonzero(data.interactions.item_counts)
        self.num_batches = max(1, math.ceil(len(self.known.user) / batch_size))
        mean = float(self.known.target.mean(dtype=np.float64))
        share = min(max(mean, 0.01), 0.99)
        self.mean = 0.0 if self.draws else mean if target == "value" else math.log(share / (1 - share))

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield the pairs in parts of equal size, in an order that depends on nothing else."""
        for rows in np.array_split(generator.permutation(len(self.known.user)), self.num_batches):
            batch = self.known.rows(rows)
            yield self._with_drawn(batch, generator) if self.draws else batch

    def _with_drawn(self, likes: Batch, generator: np.random.Generator) -> Batch:
        """Return interactions, and as many pairs of the same users with items drawn from those they do not know."""
        drawn = generator.choice(self.warm_items, len(likes.user))
        known = np.asarray(self.matrix[likes.user, drawn]).ravel() > 0
        user = np.concatenate([likes.user, likes.user[~known]])
        return Batch(user, np.concatenate([likes.item, drawn[~known]]),
                     np.concatenate([np.ones(len(likes.user)), np.zeros(int((~known).sum()))]).astype(np.float32))

    @staticmethod
    def parts(batch: Batch, number: int) -> Sequence[tuple[Batch, float]]:
        """Return a batch in at most so many parts, each with its share of the pairs."""
        size = len(batch.user)
        cut = np.array_split(np.arange(size), min(number, size))
        return [(batch.rows(rows), len(rows) / size) for rows in cut]
