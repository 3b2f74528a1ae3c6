"""Choosing the settings of `content` on cold items.

Shapes: Q queries, N items, T items in training.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.content_kernel import (
    UnitFeatures,
    denoiser,
    kernel,
    neighbour_weights,
    ridge_factor,
    scale_of,
    targets,
)
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.heads.content import Content as Settings

TRIED: dict[str, tuple[float, ...]] = {"denoise": (0.0, 0.5, 1.0), "gamma": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
                                       "l2": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "blend": (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)}
"""What is tried for each setting that is to be learned."""
START = {"denoise": 1.0, "gamma": 0.5, "l2": 1.0, "blend": 0.0}
"""Where the choice begins, and what stands where there is nothing to choose on."""
ROUNDS = 2
"""Most rounds over the settings."""
ENOUGH = 300
"""Fewest held-out interactions with cold items in validation that settings are chosen on."""
MOST_QUERIES = 2000
"""Most users that a choice looks at, drawn at random."""
HIDDEN = 0.2
"""Share of the items in training that are hidden where validation has too few cold ones."""
MONITOR = "ndcg@10"
"""What is looked at without validation."""


@dataclass(frozen=True)
class ColdTask:
    """Users, the items that may be learned from, and cold items to be found among cold items.

    Attributes
    ----------
    queries : at most MOST_QUERIES
    relevant_QN : CSR of 1s, cold items only
    matrix_UN : CSR, the interactions that may be learned from
    trained_T : int64, the items that have any
    cold_N : bool, the candidates
    """

    queries: Queries
    relevant_QN: sp.csr_array
    matrix_UN: sp.csr_array
    trained_T: np.ndarray
    cold_N: np.ndarray
    ranks_N: np.ndarray
    monitor: str


def cold_task(data: TrainingData, context: Context) -> ColdTask | None:
    """Return cold items to choose on: those of validation or, where they are too few, some hidden from training.

    None where there is nothing to hide or nobody who would miss it.
    """
    validation, matrix = context.validation, data.interactions.matrix
    rng = np.random.default_rng(context.seed)
    cold_N = data.interactions.item_counts == 0
    if validation is not None:
        relevant = _columns(validation.relevant, cold_N)
        if relevant.nnz >= ENOUGH:
            rows = _drawn(relevant, rng)
            return ColdTask(validation.queries.rows(rows), relevant[rows], matrix, np.flatnonzero(~cold_N), cold_N,
                            validation.ranks, validation.monitor)
    trained = np.flatnonzero(~cold_N)
    hidden_N = np.zeros(len(cold_N), bool)
    hidden_N[rng.permutation(trained)[: int(HIDDEN * len(trained))]] = True
    relevant, kept = _columns(matrix, hidden_N), _columns(matrix, ~hidden_N)
    relevant = sp.csr_array(relevant.multiply((np.diff(kept.indptr) > 0)[:, None]))
    relevant.eliminate_zeros()
    if relevant.nnz == 0:
        return None
    rows = _drawn(relevant, rng)
    ids, history = data.users.ids[rows], kept[rows]
    queries = Queries(ids, ids, rows, history, history, np.full(len(rows), "", object))
    monitor, ranks = (MONITOR, item_hash_ranks(data.items.ids)) if validation is None else (
        validation.monitor, validation.ranks)
    return ColdTask(queries, relevant[rows], kept, np.flatnonzero(np.bincount(kept.indices, minlength=len(cold_N))),
                    hidden_N, ranks, monitor)


def learned(settings: Settings, features: UnitFeatures, task: ColdTask, context: Context) -> Settings:
    """Return the settings with a number for everything that is null: coordinate ascent from START."""
    free = [key for key in TRIED if getattr(settings, key) is None]
    chosen = _with(settings, {key: START[key] for key in free})
    value_of = _Trial(features, task, chosen, context.device)
    value = value_of(chosen)
    for _ in range(ROUNDS):
        before = value
        for key in free:
            for tried in TRIED[key]:
                other = _with(chosen, {key: tried})
                if (found := value_of(other)) > value:
                    chosen, value = other, found
        if value == before:
            break
    context.log("content", monitor=task.monitor, value=value, num_queries=len(task.queries),
                num_cold=int(task.cold_N.sum()), **{key: getattr(chosen, key) for key in TRIED})
    return chosen


def _with(settings: Settings, numbers: dict[str, Any]) -> Settings:
    return replace(settings, **numbers)


def defaults(settings: Settings) -> Settings:
    """Return the settings with the usual number for everything that is null."""
    return _with(settings, {key: START[key] for key in TRIED if getattr(settings, key) is None})


class _Trial:
    """The metric of settings on a cold task; what several settings share is computed once."""

    def __init__(self, features: UnitFeatures, task: ColdTask, settings: Settings, device: torch.device) -> None:
        self.task, self.settings, self.device = task, settings, device
        trained, cold = features.rows(task.trained_T), features.rows(np.flatnonzero(task.cold_N))
        self.cosine_TT, self.cosine_TC = trained.cosine(trained, device), trained.cosine(cold, device)
        self.history_QT = torch.from_numpy(task.queries.history[:, task.trained_T].toarray()).to(device)
        weights_TT = denoiser(sp.csr_array(task.matrix_UN[:, task.trained_T]), settings.denoise_l2, device)
        self.denoised_QT = self.history_QT @ weights_TT
        k, exponent, num = settings.k, settings.exponent, len(task.trained_T)
        nobody = torch.full((int(task.cold_N.sum()),), -1, device=device)
        near_TC = neighbour_weights(self.cosine_TC, k, exponent, nobody)
        scale = scale_of(neighbour_weights(self.cosine_TT, k, exponent, torch.arange(num, device=device)))
        self.near_QC = self.history_QT @ near_TC / scale
        self.weights_TT = weights_TT
        self.ridge: dict[tuple[float, float, float], torch.Tensor] = {}
        self.values: dict[tuple[float, ...], float] = {}

    def __call__(self, settings: Settings) -> float:
        """Return the metric."""
        key = tuple(float(getattr(settings, name)) for name in TRIED)
        if key not in self.values:
            denoise, gamma, l2, blend = key
            near = blend * self.near_QC
            scores_QC = near if blend == 1 else (1 - blend) * self._ridge(denoise, gamma, l2) + near
            self.values[key] = self._value(scores_QC)
        return self.values[key]

    def _ridge(self, denoise: float, gamma: float, l2: float) -> torch.Tensor:
        key = (denoise, gamma, l2)
        if key not in self.ridge:
            factor_TT = ridge_factor(self.cosine_TT, gamma, l2)
            profile_QT = denoise * self.denoised_QT + (1 - denoise) * self.history_QT
            scores_QC = torch.cholesky_solve(profile_QT.T, factor_TT).T @ kernel(self.cosine_TC, gamma)
            target_TT = targets(self.weights_TT, denoise, len(factor_TT), self.device)
            weights_TT = torch.cholesky_solve(target_TT.T, factor_TT).T @ kernel(self.cosine_TT, gamma)
            # Only the newest is kept: blends are tried last.
            self.ridge = {key: scores_QC / scale_of(weights_TT)}
        return self.ridge[key]

    def _value(self, scores_QC: torch.Tensor) -> float:
        task = self.task
        # Below every cold item, so that they are ranked among themselves.
        scores_QN = torch.full((len(task.queries), len(task.cold_N)), float(scores_QC.min()) - 1)
        scores_QN[:, torch.from_numpy(task.cold_N)] = scores_QC.cpu()
        return Validation(task.queries, task.relevant_QN, task.ranks_N, task.monitor).of(scores_QN)


def _columns(matrix: sp.csr_array, kept_N: np.ndarray) -> sp.csr_array:
    """Return the matrix with the entries of the other columns left out."""
    kept = kept_N[matrix.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _drawn(relevant_QN: sp.csr_array, rng: np.random.Generator) -> np.ndarray:
    """Return the rows with something to find, ascending, at most MOST_QUERIES of them."""
    rows = np.flatnonzero(np.diff(relevant_QN.indptr))
    return rows if len(rows) <= MOST_QUERIES else np.sort(rng.choice(rows, MOST_QUERIES, replace=False))
