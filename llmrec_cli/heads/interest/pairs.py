"""Training pairs of a user and an item for `interest`.

Shapes: P pairs of a step, D dislikes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.shared.pair_targets import pair_values


@dataclass(frozen=True)
class Batch:
    """Users, items (int64), targets and weights (float32) of pairs, (P,) each.

    `num_before` (int64) is the number of oldest items of the user's training row that the pair's history may use.
    """

    user: np.ndarray
    item: np.ndarray
    target: np.ndarray
    num_before: np.ndarray
    weight: np.ndarray

    def rows(self, which: np.ndarray) -> "Batch":
        """Return the pairs at these rows."""
        return Batch(self.user[which], self.item[which], self.target[which], self.num_before[which],
                     self.weight[which])


class Pairs:
    """Likes and dislikes, values, or interactions with one random negative each.

    If `is_causal`, the history of a pair has the likes before it (a negative shares its interaction's history);
    otherwise all the user's likes. An interaction has its own weight, a negative has weight 1.

    Attributes
    ----------
    mean : prediction for an unknown pair: the mean value, or the logit of the share of likes
    """

    def __init__(self, data: TrainingData, target: str, batch_size: int, is_causal: bool = False,
                 weights: InteractionWeights | None = None) -> None:
        user, item, value = pair_values(data, target)
        is_uniform = weights is None or weights.is_uniform
        self.labelled = Batch(user, item, value, count_before(data, len(user)) if is_causal else
                              np.diff(data.interactions.matrix.indptr)[user],
                              np.ones(len(user), np.float32) if weights is None or is_uniform else
                              weights.of(data.interactions))
        self.draws = target == "choice"
        self.matrix = data.interactions.matrix
        self.warm_items = np.flatnonzero(data.interactions.item_counts)
        self.num_batches = max(1, math.ceil(len(self.labelled.user) / batch_size))
        mean = float(self.labelled.target.mean(dtype=np.float64))
        share = min(max(mean, 0.01), 0.99)
        self.mean = 0.0 if self.draws else mean if target == "value" else math.log(share / (1 - share))

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        """Yield the pairs in batches of equal size, in an order that depends only on the generator."""
        for rows in np.array_split(generator.permutation(len(self.labelled.user)), self.num_batches):
            batch = self.labelled.rows(rows)
            yield self._with_negatives(batch, generator) if self.draws else batch

    def _with_negatives(self, likes: Batch, generator: np.random.Generator) -> Batch:
        """Append one random negative per interaction, without items that the user has interacted with."""
        items = generator.choice(self.warm_items, len(likes.user))
        is_known = np.asarray(self.matrix[likes.user, items]).ravel() > 0
        both = np.concatenate([np.arange(len(likes.user)), np.flatnonzero(~is_known)])
        num_negatives = int((~is_known).sum())
        return Batch(likes.user[both], np.concatenate([likes.item, items[~is_known]]),
                     np.concatenate([np.ones(len(likes.user)), np.zeros(num_negatives)]).astype(np.float32),
                     likes.num_before[both], np.concatenate([likes.weight, np.ones(num_negatives, np.float32)]))

    @staticmethod
    def parts(batch: Batch, number: int) -> Sequence[tuple[Batch, float]]:
        """Split a batch into at most `number` parts, each with its share of the pairs."""
        size = len(batch.user)
        cut = np.array_split(np.arange(size), min(number, size))
        return [(batch.rows(rows), len(rows) / size) for rows in cut]


def count_before(data: TrainingData, num_pairs: int) -> np.ndarray:
    """Count the user's likes before each of `num_pairs` pairs (all likes, then all dislikes).

    Likes are ordered by their row. A like at the same time as a dislike is not counted as before it.
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
