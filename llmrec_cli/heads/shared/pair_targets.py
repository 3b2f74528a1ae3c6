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


def resolve_target(target: str, loss: LossSettings, data: TrainingData) -> str:
    """Replace `auto` by the target for this data; raise DataError if the data lacks what the target needs.

    Idempotent: a resolved target stays the same on other splits.
    """
    has_values = len(np.unique(pair_values(data, "value")[2])) > 1
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
    """Return the interaction weights for target `choice`, equal weights otherwise; refuse weight and decay then."""
    if target == "choice":
        return fit_weights(data, settings)
    if settings.weight not in (None, "none") or settings.decay is not None:
        key = "decay" if settings.decay is not None else "weight"
        raise DataError(f"head.{key}={getattr(settings, key)}: has no effect, because head={settings.kind} predicts "
                        f"the {target} of each interaction; remove it, or choose loss=softmax or loss=bpr if the head "
                        f"has it")
    return InteractionWeights()


def unused_weights(target: str) -> dict[str, str]:
    """Return the settings that `weights_of_choices` refuses with this target, each with the reason."""
    if target == "choice":
        return {}
    return dict.fromkeys(("weight", "decay"), f"the head predicts the {target} of each interaction, so interactions "
                                              f"have no weights")


def pair_values(data: TrainingData, target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items (int64) and target values (float32) of pairs; dislikes come after the likes."""
    likes, dislikes = data.interactions, None if target == "choice" else data.negatives
    parts = [likes] if dislikes is None else [likes, dislikes]
    values = [part.value if target == "value" else np.full(len(part), float(part is likes), np.float32)
              for part in parts]
    return (np.concatenate([part.user for part in parts]), np.concatenate([part.item for part in parts]),
            np.concatenate(values))


def mask_interactions(matrix: sp.csr_array, users: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the mask of candidates that each user has interacted with, bool (S, C).

    `users` (S,) are rows of the matrix, `candidates` (C,) are ascending columns.
    """
    rows = matrix[users]
    row = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
    place = np.minimum(np.searchsorted(candidates, rows.indices), len(candidates) - 1)
    is_candidate = candidates[place] == rows.indices
    excluded_SC = np.zeros((len(users), len(candidates)), bool)
    excluded_SC[row[is_candidate], place[is_candidate]] = True
    return excluded_SC
