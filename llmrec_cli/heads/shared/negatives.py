"""Negatives of a training step: drawn at random, or ranked high by another model.

Shapes: N items, U users, S users of a step, K ranks.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from llmrec_cli.data.queries import known_users
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.loss import HardNegativesSettings


def log_chances(counts_N: np.ndarray, step_size: float, num_negatives: int) -> np.ndarray:
    """Return the log probability of each item being among the candidates of a step, float32 (N,).

    An item is a candidate as one of the step's `step_size` targets, with probability 1 - (1 - q)^B for its share q of
    all interactions, or as one of `num_negatives` drawn uniformly from the items with interactions.
    """
    num_items = int((counts_N > 0).sum())
    share_N = counts_N / max(1, counts_N.sum())
    # log(0) is intended: an item without interactions has probability 0, an item with all of them probability 1.
    with np.errstate(divide="ignore"):
        log_absent_N = step_size * np.log1p(-share_N)
        log_absent_N += np.log1p(-min(num_negatives, num_items) / max(1, num_items)) * (counts_N > 0)
        chances_N: np.ndarray = np.log(-np.expm1(log_absent_N)).astype(np.float32)
    return chances_N


def draw_uniform(items: np.ndarray, number: int | None, generator: np.random.Generator) -> np.ndarray:
    """Draw `number` distinct items uniformly, or all items if there are fewer; none for None."""
    if number is None:
        return items[:0]
    return generator.choice(items, min(number, len(items)), replace=False)


class PopularityDraws:
    """Draws of items with probability proportional to their number of interactions to a power.

    Drawn with replacement, so that each item's probability of being drawn is known; copies are dropped.
    """

    def __init__(self, counts_N: np.ndarray, power: float, number: int) -> None:
        """Prepare draws of `number` items; items without interactions are never drawn."""
        self.items, self.number = np.flatnonzero(counts_N), number
        weights = counts_N[self.items].astype(np.float64)**power
        share = weights / weights.sum()
        self.cumulative = np.cumsum(share)
        # Of a single item, share 1: log1p(-1) is -inf, and its probability 1.
        with np.errstate(divide="ignore"):
            self.log_chance_N = np.full(len(counts_N), -np.inf, np.float32)
            self.log_chance_N[self.items] = np.log(-np.expm1(number * np.log1p(-share)))

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Return the distinct items of a draw, ascending."""
        places = np.searchsorted(self.cumulative, generator.random(self.number), side="right")
        # The sum of the shares may be rounded below 1.
        return self.items[np.unique(np.minimum(places, len(self.items) - 1))]


def draw_from_lists(lists_SK: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Return the distinct items of `number` draws from each user's list; -1 is the padding of a short list."""
    if lists_SK.shape[1] == 0:
        return lists_SK.ravel()
    column_SD = generator.integers(lists_SK.shape[1], size=(len(lists_SK), number))
    items = np.unique(np.take_along_axis(lists_SK, column_SD, axis=1))
    return items[items >= 0]


def mine(settings: HardNegativesSettings, data: TrainingData, context: Context) -> np.ndarray:
    """Mine hard negatives: each user's items from `from_rank` to `to_rank` by `settings.model`, int64 (U, K).

    Items that the user interacted with in `data` are excluded; -1 pads short lists. Without a model K is 0. Differs
    from Xiong et al. 2021, who mine repeatedly during training: lists come once, from a fixed model.
    """
    if settings.model is None:
        return np.empty((len(data.users), 0), np.int64)
    # A local import avoids a cycle: loading a recommender builds heads, which import this module.
    from llmrec_cli.heads.artifact import load_recommender, model_folder

    folder = model_folder(settings.model, "loss.hard_negatives.model")
    miner = load_recommender(folder, replace(context, validation=None, folder=None, tensorboard=None))
    _require_same(folder, "items", miner.items.ids, data.items.ids)
    _require_same(folder, "users", miner.users.ids, data.users.ids)
    if "valid" in miner.manifest["fitted_on"] and context.validation is not None:
        raise ConfigError(f"loss.hard_negatives.model={settings.model}: was fitted on valid too, so its top items are "
                          f"validation targets; give a model of a run with refit=none")
    matrix = data.interactions.matrix
    times = data.interactions.times if data.has_moments else None
    queries = known_users(np.arange(len(data.users)), data.users.ids, data.interactions.values, matrix, times=times)
    lists = recommend_lists(miner.head.score, queries, settings.to_rank, item_hash_ranks(data.items.ids))
    mined: np.ndarray = lists.items_QK[:, settings.from_rank - 1:].astype(np.int64)
    if (mined < 0).all():
        raise DataError(f"loss.hard_negatives.from_rank={settings.from_rank}: no list of {folder} is that long; "
                        f"lower it")
    context.log("hard_negatives", model=str(folder), items=int((mined >= 0).sum()))
    return mined


def _require_same(folder: Path, kind: str, model_ids: np.ndarray, data_ids: np.ndarray) -> None:
    if not np.array_equal(model_ids, data_ids):
        raise DataError(f"loss.hard_negatives.model={folder}: has other {kind} than this data ({len(model_ids):,} and "
                        f"{len(data_ids):,}); train it on the same prepared data")
