"""Targets of pairs of a user and an item: a choice, a value or an opinion, with their weights and known pairs.

Shapes: S users, C candidates.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.errors import DataError
from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.loss import LossSettings


def resolved(target: str, loss: LossSettings, data: TrainingData) -> str:
    """Return the target that `auto` stands for with this data; raises DataError where the data has not what it needs.

    Called again on other splits with what it returned, it returns the same.
    """
    has_values = len(np.unique(known_values(data, "value")[2])) > 1
    if target == "value" and not has_values:
        raise DataError("head.target=value: every interaction has the same value, so there is nothing to predict; "
                        "prepare with the column of the ratings and feedback that keeps them, or choose "
                        "head.target=choice")
    if target == "opinion" and data.negatives is None:
        raise DataError("head.target=opinion: the data has no dislikes; prepare with dataset.feedback=explicit, or "
                        "choose head.target=choice")
    if target != "auto":
        return target
    learnable = {"value": has_values, "opinion": data.negatives is not None}
    return loss.pair_target if learnable.get(loss.pair_target) else "choice"


def weights_of_choices(data: TrainingData, settings: HeadSettings, target: str) -> InteractionWeights:
    """Return the weights of interactions where they are choices; what is predicted of each is no weight of it."""
    if target == "choice":
        return fit_weights(data, settings)
    if settings.weight not in (None, "none") or settings.decay is not None:
        key = "decay" if settings.decay is not None else "weight"
        raise DataError(f"head.{key}={getattr(settings, key)}: has no effect where the {target} of each interaction is "
                        f"what head={settings.kind} predicts; leave it out, or choose loss=softmax or loss=bpr where "
                        f"the head has it")
    return InteractionWeights()


def unused_weights(target: str) -> dict[str, str]:
    """Return the settings that `weights_of_choices` refuses with this target, each with the reason."""
    if target == "choice":
        return {}
    return dict.fromkeys(("weight", "decay"), f"the {target} of each interaction is what is predicted, so no "
                                              f"interaction has a weight")


def known_values(data: TrainingData, target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items (int64) and what is to be learned of each pair (float32); dislikes come behind the likes."""
    likes, dislikes = data.interactions, None if target == "choice" else data.negatives
    parts = [likes] if dislikes is None else [likes, dislikes]
    values = [part.value if target == "value" else np.full(len(part), float(part is likes), np.float32)
              for part in parts]
    return (np.concatenate([part.user for part in parts]), np.concatenate([part.item for part in parts]),
            np.concatenate(values))


def known_among(matrix: sp.csr_array, users: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return which of the `candidates` (C,), in ascending order, each of `users` (S,) knows, bool (S, C)."""
    rows = matrix[users]
    row = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
    place = np.minimum(np.searchsorted(candidates, rows.indices), len(candidates) - 1)
    is_candidate = candidates[place] == rows.indices
    known_SC = np.zeros((len(users), len(candidates)), bool)
    known_SC[row[is_candidate], place[is_candidate]] = True
    return known_SC
