"""Pairs of a training history and the next item.

Shapes: P pairs.
"""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.training.corpus import as_text, held_out

_MOST_HELD_OUT = 500
"""Maximum number of held-out pairs."""


@dataclass(frozen=True)
class NextItemPairs:
    """Histories as text, each with the user's next item.

    Attributes
    ----------
    histories : text of each history, newest title first, so that truncation removes the oldest
    before : items of each history
    item, user : int64 (P,), the next item and the user of each pair
    """

    histories: list[str]
    before: list[np.ndarray]
    item: np.ndarray
    user: np.ndarray

    def __len__(self) -> int:
        return len(self.histories)


def build_pairs(data: TrainingData, length: int, most: int, holdout_share: float,
                seed: int) -> tuple[NextItemPairs, NextItemPairs]:
    """Return at most `most` training pairs and at most _MOST_HELD_OUT held-out pairs; `seed` draws them.

    A pair is held out if the text of its next item is (`corpus.held_out`). Training histories leave out such items;
    items without a text are never next items.
    """
    train = _sample_pairs(data, holdout_share, False, length, most, seed)
    held = build_held_out_pairs(data, length, holdout_share, seed)
    if not len(train) or not len(held):
        raise DataError(f"{len(train)} histories have a next item for training and {len(held)} a held-out one, but "
                        f"both are needed; prepare users with at least two training interactions and items with texts "
                        f"(dataset.item_text), or raise objective.holdout_share={holdout_share}")
    return train, held


def build_held_out_pairs(data: TrainingData, length: int, holdout_share: float, seed: int) -> NextItemPairs:
    """Return at most _MOST_HELD_OUT pairs with a held-out next item; there may be none."""
    return _sample_pairs(data, holdout_share, True, length, _MOST_HELD_OUT, seed)


def _sample_pairs(data: TrainingData, holdout_share: float, is_held_out: bool, length: int, most: int,
                  seed: int) -> NextItemPairs:
    """Return random pairs with a next item that is held out, or with `is_held_out=False` one that is not."""
    texts = [str(text) for text in data.items.texts]
    out_N = held_out(texts, holdout_share)
    follows_N = np.array([bool(text.strip()) for text in texts]) & (out_N == is_held_out)
    # Training histories must not have held-out titles.
    allowed_N = np.ones(len(texts), bool) if is_held_out else ~out_N
    matrix, titles = data.interactions.matrix, data.items.titles
    user_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    candidates = np.flatnonzero(follows_N[matrix.indices])
    generator = np.random.default_rng(seed)
    histories, histories_items, places = list[str](), list[np.ndarray](), list[int]()
    # Some have no history, so candidates are tried in random order until there are enough.
    for place in generator.permutation(candidates):
        if len(places) == most:
            break
        before = matrix.indices[matrix.indptr[user_of[place]]:place]
        before = before[allowed_N[before]][-length:]
        if text := as_text(titles[before[::-1]]):
            places.append(int(place))
            histories.append(text)
            histories_items.append(before)
    return NextItemPairs(histories, histories_items, matrix.indices[places].astype(np.int64), user_of[places])


class ObservedPairs:
    """The user-item pairs with a training interaction; a call tests membership."""

    def __init__(self, data: TrainingData) -> None:
        self.num_items = len(data.items)
        self.pairs = np.unique(data.interactions.user * self.num_items + data.interactions.item)

    def __call__(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return True where the pair was observed, bool, of the broadcast shape of `user` and `item`."""
        keys = user * self.num_items + item
        places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        return self.pairs[places] == keys
