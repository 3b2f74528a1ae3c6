"""The interactions that a saved model was fitted on, and how popular they make each item."""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.groups import Groups
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.settings.heads.base import Popularity as PopularitySettings


def fitted_data(recommender: Recommender) -> TrainingData:
    """Return exactly the interactions that a model was fitted on."""
    history: sp.csr_array = recommender.history
    user = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    order = np.arange(len(user), dtype=np.int64)
    interactions = Interactions(user, history.indices.astype(np.int64), history.data, order, *history.shape)
    return TrainingData(recommender.users, recommender.items, interactions, groups=_groups_of(recommender),
                        value_kind=recommender.manifest.get("values", ""))


def popularity_of(recommender: Recommender, num_items: int) -> np.ndarray:
    """Return the popularity baseline's scores of a catalogue of `num_items`, float32 (num_items,); new items have 0.

    Queries of which nothing is known get these, so that they are served what head=popularity recommends.
    """
    data = fitted_data(recommender)
    counts_N = fit_weights(data, PopularitySettings()).by_item(data.interactions)
    return np.concatenate([counts_N, np.zeros(num_items - len(counts_N))]).astype(np.float32)


def _groups_of(recommender: Recommender) -> Groups | None:
    """Return the groups that a model knows, with what they did together that it was fitted on."""
    known = recommender.groups
    if known is None:
        return None
    group = np.repeat(np.arange(len(known.entities)), np.diff(known.history.indptr))
    together = Interactions(group, known.history.indices.astype(np.int64), known.history.data,
                            np.arange(len(group), dtype=np.int64), *known.history.shape)
    return Groups(known.entities, known.members, together, np.zeros(len(group), np.int8), known.synthetic)
