"""The pairs of a user and an item that `interest` is trained on.

Shapes: P pairs of a step, D dislikes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.shared.pair_targets import known_values


@dataclass(frozen=True)
class Batch:
    """Users, items (int64), what is to be learned of each pair, and what it weighs (float32), (P,) each.

    `num_before` (int64) are the oldest items of the user's training row that the pair's history may hold.
    """

    user: np.ndarray
    item: np.ndarray
    target: np.ndarray
    num_before: np.ndarray
    weight: np.ndarray

    def rows(self, which: np.ndarray) -> "Batch":
        """Return the chosen pairs."""
        return Batch(self.user[which], self.item[which], self.target[which], self.num_before[which],
                     self.weight[which])


class Pairs:
    """Likes and dislikes, values, or interactions with an item drawn at random beside each, which is a dislike.

    The history of a pair is what came before it where the training `is_causal`, of a drawn item what came before the
    interaction it is drawn beside; else it is all that the user likes. An interaction has its weight, a drawn item 1.

    Attributes
    ----------
    mean : what is said of a pair that nothing is known of: the mean value, or the logit of the share of likes
    """

    def __init__(self, data: TrainingData, target: str, batch_size: int, is_causal: bool = False,
                 weights: InteractionWeights | None = None) -> None:
        user, item, value = known_values(data, target)
        uniform = weights is None or weights.is_uniform
        self.known = Batch(user, item, value, numbers_before(data, len(user)) if is_causal else
                           np.diff(data.interactions.matrix.indptr)[user],
                           np.ones(len(user), np.float32) if weights is None or uniform else
                           weights.of(data.interactions))
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
        both = np.concatenate([np.arange(len(likes.user)), np.flatnonzero(~known)])
        num_drawn = int((~known).sum())
        return Batch(likes.user[both], np.concatenate([likes.item, drawn[~known]]),
                     np.concatenate([np.ones(len(likes.user)), np.zeros(num_drawn)]).astype(np.float32),
                     likes.num_before[both], np.concatenate([likes.weight, np.ones(num_drawn, np.float32)]))

    @staticmethod
    def parts(batch: Batch, number: int) -> Sequence[tuple[Batch, float]]:
        """Return a batch in at most so many parts, each with its share of the pairs."""
        size = len(batch.user)
        cut = np.array_split(np.arange(size), min(number, size))
        return [(batch.rows(rows), len(rows) / size) for rows in cut]


def numbers_before(data: TrainingData, num_pairs: int) -> np.ndarray:
    """Return how many of their user's likes came before each of `num_pairs` pairs: all likes, then all dislikes.

    A like comes after those that stand before it in its row. A dislike and a like at the same time have no order, so
    that like is not counted.
    """
    likes, dislikes = data.interactions, data.negatives
    start_U = likes.matrix.indptr
    before_likes = np.arange(len(likes)) - start_U[likes.user]
    if num_pairs == len(likes) or dislikes is None:
        return before_likes
    times, rank = np.unique(np.concatenate([likes.timestamp, dislikes.timestamp]), return_inverse=True)
    like_keys, dislike_keys = (part.user * len(times) + ranks for part, ranks in
                               ((likes, rank[:len(likes)]), (dislikes, rank[len(likes):])))
    before_D = np.searchsorted(like_keys, dislike_keys, side="left") - start_U[dislikes.user]
    return np.concatenate([before_likes, before_D])
