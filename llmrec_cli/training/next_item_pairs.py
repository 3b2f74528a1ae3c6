"""Histories and the items that followed them.

Shapes: P pairs of a history and an item.
"""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.training.corpus import as_text, held_out

_MOST_MEASURED = 500
"""Most pairs that are held out to measure with."""


@dataclass(frozen=True)
class Following:
    """Histories as text, each with the item that the user went on to.

    Attributes
    ----------
    histories : text of each pair's history, newest title first, so that what is cut off is the oldest
    before : items of each pair's history
    item, user : int64 (P,), what followed, and whose history it is
    """

    histories: list[str]
    before: list[np.ndarray]
    item: np.ndarray
    user: np.ndarray

    def __len__(self) -> int:
        return len(self.histories)


def followers(data: TrainingData, length: int, most: int, holdout_share: float,
              seed: int) -> tuple[Following, Following]:
    """Return at most `most` histories with the item that followed, and at most _MOST_MEASURED held out.

    Held out is what leads to an item whose text is held out (`corpus.held_out`); such items are in no history that is
    trained on, and items without a text follow nothing. `seed` draws the pairs.
    """
    train = _drawn(data, holdout_share, False, length, most, seed)
    measured = held_out_followers(data, length, holdout_share, seed)
    if not len(train) or not len(measured):
        raise DataError(f"{len(train)} histories are followed by an item to train on and {len(measured)} by one held "
                        f"out, and both are needed; prepare users with at least two training interactions and items "
                        f"with texts (dataset.item_text), or raise objective.holdout_share={holdout_share}")
    return train, measured


def held_out_followers(data: TrainingData, length: int, holdout_share: float, seed: int) -> Following:
    """Return at most _MOST_MEASURED histories that led to an item that is held out; there may be none."""
    return _drawn(data, holdout_share, True, length, _MOST_MEASURED, seed)


def _drawn(data: TrainingData, holdout_share: float, wanted: bool, length: int, most: int, seed: int) -> Following:
    """Return histories that led to an item that is held out or, where that is not `wanted`, is not."""
    texts = [str(text) for text in data.items.texts]
    out_N = held_out(texts, holdout_share)
    follows_N = np.array([bool(text.strip()) for text in texts]) & (out_N == wanted)
    # What is trained on never meets the titles that are asked about.
    remembered_N = np.ones(len(texts), bool) if wanted else ~out_N
    matrix, titles = data.interactions.matrix, data.items.titles
    user_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    places = np.flatnonzero(follows_N[matrix.indices])
    found, generator = Following([], [], np.zeros(0, np.int64), np.zeros(0, np.int64)), np.random.default_rng(seed)
    kept = list[int]()
    # Some have nothing before them, so pairs are tried in a random order until there are enough.
    for place in generator.permutation(places):
        if len(kept) == most:
            break
        before = matrix.indices[matrix.indptr[user_of[place]]:place]
        before = before[remembered_N[before]][-length:]
        if text := as_text(titles[before[::-1]]):
            kept.append(int(place))
            found.histories.append(text)
            found.before.append(before)
    return Following(found.histories, found.before, matrix.indices[kept].astype(np.int64), user_of[kept])


class Known:
    """Items that each user is known to have chosen."""

    def __init__(self, data: TrainingData) -> None:
        self.num_items = len(data.items)
        self.pairs = np.unique(data.interactions.user * self.num_items + data.interactions.item)

    def __call__(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return whether the pairs are known, bool, of the shape that `user` and `item` broadcast to."""
        asked = user * self.num_items + item
        places = np.minimum(np.searchsorted(self.pairs, asked), len(self.pairs) - 1)
        return self.pairs[places] == asked
