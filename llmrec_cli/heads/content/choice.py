"""Choosing the settings of `content` on cold items.

Shapes: Q queries, N items, T items in training, C cold items, S sampled items in training, L landmarks.
"""

import sys
import time
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.cold_item_validation import HIDDEN, MOST_QUERIES, ColdTask
from llmrec_cli.heads.shared.item_kernel import (
    BLOCK_ITEMS,
    START_GAMMA,
    START_L2,
    Denoiser,
    UnitFeatures,
    kernel,
    mean_size,
    nearest,
    operations_per_second,
    ridge_factor,
    target_columns,
)
from llmrec_cli.settings.heads.content import ContentSettings

TRIED: dict[str, tuple[float, ...]] = {"denoise": (0.0, 0.5, 1.0), "gamma": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
                                       "l2": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "blend": (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)}
"""Values to try for each setting that is null."""
START = {"denoise": 1.0, "gamma": START_GAMMA, "l2": START_L2, "blend": 0.0}
"""Values that the choice begins with, and keeps if there is no validation data."""
_ROUNDS = 2
"""Most rounds over the settings."""
MOST_EXACT = 2500
"""Largest number of items in training for which every trial solves the whole ridge regression."""
LANDMARKS = 1000
"""Number of landmark items that approximate the kernel above MOST_EXACT items."""
_JITTER = 1e-4
"""Added to the diagonal of the landmarks' kernel matrix, which is 1."""
_SAMPLED = 250
"""Number of items in training from which the mean absolute weight is estimated. Blends differ by factors of about 2,
and the estimate by a few percent."""
SHOWN_FROM = 5.0
"""Seconds from which on a choice prints its progress."""


def learned(settings: ContentSettings, features: UnitFeatures, task: ColdTask, context: Context) -> ContentSettings:
    """Return the settings with a number for everything that is null: coordinate ascent from START."""
    free = [key for key in TRIED if getattr(settings, key) is None]
    chosen = _with(settings, {key: START[key] for key in free})
    seconds = choice_operations(settings, task) / operations_per_second(context.device)
    if seconds > SHOWN_FROM:
        print(f"head=content: choosing {', '.join(free)} on {int(task.cold_N.sum()):,} cold items takes about "
              f"{seconds:.0f} s", file=sys.stderr)
    started = time.monotonic()
    value_of = _Trial(features, task, chosen, context)
    value = value_of(chosen)
    for number in range(_ROUNDS):
        before = value
        for key in free:
            for tried in TRIED[key]:
                other = _with(chosen, {key: tried})
                if (found := value_of(other)) > value:
                    chosen, value = other, found
            if time.monotonic() - started > SHOWN_FROM:
                print(f"head=content: {key}={getattr(chosen, key)} in round {number + 1} of at most {_ROUNDS}, "
                      f"{len(value_of.values)} trials, {task.monitor} {value:.4f} on {int(task.cold_N.sum()):,} cold "
                      f"items, {time.monotonic() - started:.0f} s", file=sys.stderr)
        if value == before:
            break
    context.log("content", monitor=task.monitor, value=value, num_queries=len(task.queries),
                num_cold=int(task.cold_N.sum()), landmarks=value_of.num_landmarks,
                **{key: getattr(chosen, key) for key in TRIED})
    return chosen


def choice_operations(settings: ContentSettings, task: ColdTask) -> float:
    """Return the additions and multiplications that choosing takes at most."""
    num, cold, queries = len(task.trained_T), int(task.cold_N.sum()), len(task.queries)
    size = min(num, task.matrix_UN.shape[0])
    free = [len(TRIED[key]) if getattr(settings, key) is None else 1 for key in TRIED]
    gammas, ridges = free[1], _ROUNDS * sum(free[:3])
    shared = size**3 + 2 * queries * size**2
    if num <= MOST_EXACT:
        return shared + ridges * (num**3 / 3 + 2 * queries * num * (num + cold)) + 4 * _ROUNDS * num**3
    of_gamma = LANDMARKS * num * (3 * LANDMARKS + 2 * queries)  # Sparse histories cost nothing beside the denoised.
    of_trial = LANDMARKS**3 / 3 + 2 * queries * LANDMARKS * (LANDMARKS + cold)
    return shared + gammas * of_gamma + ridges * of_trial + 2 * _ROUNDS * _SAMPLED * LANDMARKS * 2 * num


def choice_memory(settings: ContentSettings, data: TrainingData) -> int:
    """Return the bytes that choosing takes at its peak, beside the features."""
    num_trained = int((data.interactions.item_counts > 0).sum())
    # Hidden are a fifth, or validation has cold items of its own.
    cold = max(int(HIDDEN * num_trained), len(data.items) - num_trained)
    queries = min(MOST_QUERIES, len(data.users))
    denoising = sum(Denoiser.estimate_memory(len(data.users), num_trained, len(data.interactions)))
    profiles = 4 * queries * (3 * num_trained + 4 * cold)
    if num_trained <= MOST_EXACT:
        ridge = 4 * (4 * num_trained**2 + 2 * num_trained * cold)
    else:
        ridge = 4 * LANDMARKS * (3 * num_trained + 3 * cold + 3 * LANDMARKS) + 4 * 2 * _SAMPLED * num_trained
    near = 12 * min(settings.k, num_trained) * (num_trained + cold) + 8 * BLOCK_ITEMS * num_trained
    return denoising + profiles + max(ridge, near)


def _with(settings: ContentSettings, numbers: dict[str, Any]) -> ContentSettings:
    return replace(settings, **numbers)


def defaults(settings: ContentSettings) -> ContentSettings:
    """Return the settings with the usual number for everything that is null."""
    return _with(settings, {key: START[key] for key in TRIED if getattr(settings, key) is None})


class _Ridge(Protocol):
    """Kernel ridge regressions of several targets at one gamma after the other."""

    def take(self, gamma: float) -> None:
        """Make what the next regressions share."""

    def projected(self, targets_XT: torch.Tensor) -> torch.Tensor:
        """Return the targets as `predicted` reads them, whatever l2 is; linear in the targets."""

    def projected_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        """Return `projected` of histories."""

    def predicted(self, projected: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        """Return what is predicted of the cold items (X, C), or of those in training (X, T)."""


class _Exact:
    """The whole ridge regression, targets (K_TT + l2)^-1 K."""

    def __init__(self, trained: UnitFeatures, cold: UnitFeatures, device: torch.device) -> None:
        self.cosine_TT, self.cosine_TC = trained.cosine(trained, device), trained.cosine(cold, device)
        self.gamma, self.solved_at, self.factor_TT = 0.0, (0.0, 0.0), self.cosine_TT
        self.history_QT: torch.Tensor | None = None

    def take(self, gamma: float) -> None:
        self.gamma = gamma

    def projected(self, targets_XT: torch.Tensor) -> torch.Tensor:
        return targets_XT

    def projected_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        if self.history_QT is None:
            self.history_QT = torch.from_numpy(history_QT.toarray()).to(self.cosine_TT.device)
        return self.history_QT

    def predicted(self, projected: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        if self.solved_at != (self.gamma, l2):
            self.solved_at, self.factor_TT = (self.gamma, l2), ridge_factor(self.cosine_TT, self.gamma, l2)
        dual_XT = torch.cholesky_solve(projected.T, self.factor_TT).T
        # K (K + l2)^-1 = 1 - l2 (K + l2)^-1.
        return dual_XT @ kernel(self.cosine_TC, self.gamma) if cold else projected - l2 * dual_XT


class _Landmarks:
    """The ridge regression in the span of the kernels of some items, drawn at random: the subset of regressors.

    With K_LL = G G' and F = G^-1 K_LT the predictions are targets F' (F F' + l2)^-1 F (Williams and Seeger 2001;
    Quinonero-Candela and Rasmussen 2005, section 6). All targets count, and l2 means what it means without landmarks.
    """

    def __init__(self, trained: UnitFeatures, cold: UnitFeatures, device: torch.device,
                 rng: np.random.Generator) -> None:
        chosen = trained.rows(np.sort(rng.permutation(len(trained.dense_ND))[:LANDMARKS]))
        self.cosine_LL = chosen.cosine(chosen, device)
        self.cosine_LT, self.cosine_LC = chosen.cosine(trained, device), chosen.cosine(cold, device)
        self.gamma, self.features_at, self.features_LT = 0.0, 0.0, self.cosine_LT
        self.of_gamma: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def take(self, gamma: float) -> None:
        self.gamma = gamma
        if gamma not in self.of_gamma:
            # Items that say the same have the same kernels: a little on the diagonal keeps them apart.
            root_LL = ridge_factor(self.cosine_LL, gamma, _JITTER)
            self._features(root_LL)
            cold_LC = torch.linalg.solve_triangular(root_LL, kernel(self.cosine_LC, gamma), upper=False)
            self.of_gamma[gamma] = self.features_LT @ self.features_LT.T, cold_LC

    def _features(self, root_LL: torch.Tensor) -> None:
        self.features_LT = torch.linalg.solve_triangular(root_LL, kernel(self.cosine_LT, self.gamma), upper=False)
        self.features_at = self.gamma

    def projected(self, targets_XT: torch.Tensor) -> torch.Tensor:
        return self._of_trained() @ targets_XT.T

    def projected_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        features_TL = self._of_trained().T.cpu().numpy()
        return torch.from_numpy(history_QT @ features_TL).to(self.cosine_LL.device).T

    def predicted(self, projected: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        gram_LL, cold_LC = self.of_gamma[self.gamma]
        penalised_LL = gram_LL.clone()
        penalised_LL.diagonal().add_(l2)
        dual_XL = torch.cholesky_solve(projected, torch.linalg.cholesky(penalised_LL)).T
        return dual_XL @ (cold_LC if cold else self._of_trained())

    def _of_trained(self) -> torch.Tensor:
        """Return F at the present gamma: only the newest is kept, the largest of what there is."""
        if self.features_at != self.gamma:
            self._features(ridge_factor(self.cosine_LL, self.gamma, _JITTER))
        return self.features_LT


class _Trial:
    """The metric of settings on a cold task; what several settings share is computed once."""

    def __init__(self, features: UnitFeatures, task: ColdTask, settings: ContentSettings, context: Context) -> None:
        device = context.device
        self.task, self.settings, self.device = task, settings, device
        rng = np.random.default_rng(context.seed)
        trained, cold = features.rows(task.trained_T), features.rows(np.flatnonzero(task.cold_N))
        num = len(task.trained_T)
        self.history_QT = sp.csr_array(task.queries.history[:, task.trained_T])
        self.denoiser = Denoiser(sp.csr_array(task.matrix_UN[:, task.trained_T]), settings.denoise_l2, device)
        self.denoised_QT = self.denoiser.scores(torch.from_numpy(self.history_QT.toarray()).to(device))
        k, exponent = settings.k, settings.exponent
        near_CT = nearest(trained, cold, k, exponent, np.full(len(cold.dense_ND), -1), device)
        near_TT = nearest(trained, trained, k, exponent, np.arange(num), device)
        near_QC = (self.history_QT @ sp.csr_array(near_CT.T)).toarray() / mean_size(float(near_TT.data.sum()), num)
        self.near_QC = torch.from_numpy(near_QC.astype(np.float32)).to(device)
        self.sampled_S = np.sort(rng.permutation(num)[:_SAMPLED]) if num > MOST_EXACT else np.arange(num)
        self.num_landmarks = LANDMARKS if num > MOST_EXACT else None
        self.solved: _Ridge = (_Exact(trained, cold, device) if num <= MOST_EXACT else
                               _Landmarks(trained, cold, device, rng))
        self.ridge: dict[tuple[float, float, float], torch.Tensor] = {}
        self.profiles: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}
        self.sizes: dict[tuple[float, float, float], float] = {}
        self.values: dict[tuple[float, ...], float] = {}

    def __call__(self, settings: ContentSettings) -> float:
        """Return the metric."""
        key = tuple(float(getattr(settings, name)) for name in TRIED)
        if key not in self.values:
            denoise, gamma, l2, blend = key
            scores_QC = blend * self.near_QC
            if blend < 1:
                ridge_QC = self._ridge(denoise, gamma, l2)
                # Alone, the ridge ranks as it does at any scale.
                scores_QC += (1 - blend) / self._mean_size(denoise, gamma, l2) * ridge_QC if blend > 0 else ridge_QC
            self.values[key] = self.task.value(scores_QC)
        return self.values[key]

    def _ridge(self, denoise: float, gamma: float, l2: float) -> torch.Tensor:
        key = (denoise, gamma, l2)
        if key not in self.ridge:
            self.solved.take(gamma)
            if gamma not in self.profiles:
                self.profiles[gamma] = (self.solved.projected(self.denoised_QT),
                                        self.solved.projected_history(self.history_QT))
            denoised, history = self.profiles[gamma]
            # Only the newest is kept: blends are tried last.
            self.ridge = {key: self.solved.predicted(denoise * denoised + (1 - denoise) * history, l2, True)}
        return self.ridge[key]

    def _mean_size(self, denoise: float, gamma: float, l2: float) -> float:
        """Return the mean size of the weights between two items in training, of the sampled items' histories."""
        key, num, sampled = (denoise, gamma, l2), len(self.task.trained_T), self.sampled_S
        if key in self.sizes:
            return self.sizes[key]
        targets_ST = target_rows(self.denoiser, denoise, num, sampled, self.device)
        self.solved.take(gamma)
        weights_ST = self.solved.predicted(self.solved.projected(targets_ST), l2, False).abs_()
        total = float(weights_ST.sum() - weights_ST[np.arange(len(sampled)), sampled].sum())
        self.sizes[key] = mean_size(total * num / max(len(sampled), 1), num)
        return self.sizes[key]


def target_rows(denoiser: Denoiser, denoise: float, num: int, which: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return some rows (S, T) of what `target_columns` has columns of: P is its own transpose."""
    if denoise == 0:
        return target_columns(None, 0.0, num, which, device).T
    rows_ST = (denoiser.columns(which) * (-denoise / denoiser.diagonal_T1)).T
    rows_ST[torch.arange(len(which)), torch.from_numpy(which)] = 1 - denoise
    return rows_ST
