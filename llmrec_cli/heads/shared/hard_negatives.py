"""Hard negatives: what another model would recommend.

Shapes: U users, K ranks.
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
from llmrec_cli.settings.loss import HardNegatives


def mine(settings: HardNegatives, data: TrainingData, context: Context) -> np.ndarray:
    """Return each user's items from `from_rank` to `to_rank` of the lists of `settings.model`, int64 (U, K).

    Nothing that the user interacted with in `data` is among them; -1 stands where a list is shorter (Xiong et al. 2021
    mine again and again while training; this is done once, from a model that stays as it is). Without a model K is 0.
    """
    if settings.model is None:
        return np.empty((len(data.users), 0), np.int64)
    # Loading a recommender builds heads, and heads mine.
    from llmrec_cli.heads.artifact import load_recommender, model_folder

    folder = model_folder(settings.model, "loss.hard_negatives.model")
    miner = load_recommender(folder, replace(context, validation=None, folder=None, tensorboard=None))
    _require_same(folder, "items", miner.items.ids, data.items.ids)
    _require_same(folder, "users", miner.users.ids, data.users.ids)
    if "valid" in miner.manifest["fitted_on"] and context.validation is not None:
        raise ConfigError(f"loss.hard_negatives.model={settings.model}: was fitted on valid too, so its best items are "
                          f"the ones that validation asks for; give a model of a run with refit=none")
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


def _require_same(folder: Path, what: str, theirs: np.ndarray, ours: np.ndarray) -> None:
    if not np.array_equal(theirs, ours):
        raise DataError(f"loss.hard_negatives.model={folder}: has other {what} than this data ({len(theirs):,} and "
                        f"{len(ours):,}); train it on the same prepared data")
