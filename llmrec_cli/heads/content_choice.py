"""Choosing the settings of `content` on cold items.

Shapes: Q queries, N items, T items in training.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.heads.base import Context
from llmrec_cli.heads.cold_task import ColdTask
from llmrec_cli.heads.content_kernel import (
    UnitFeatures,
    denoiser,
    kernel,
    neighbour_weights,
    ridge_factor,
    scale_of,
    targets,
)
from llmrec_cli.settings.heads.content import Content as Settings

TRIED: dict[str, tuple[float, ...]] = {"denoise": (0.0, 0.5, 1.0), "gamma": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
                                       "l2": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "blend": (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)}
"""What is tried for each setting that is to be learned."""
START = {"denoise": 1.0, "gamma": 0.5, "l2": 1.0, "blend": 0.0}
"""Where the choice begins, and what stands where there is nothing to choose on."""
ROUNDS = 2
"""Most rounds over the settings."""


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
            self.values[key] = self.task.value(scores_QC)
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
