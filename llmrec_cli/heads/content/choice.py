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
from llmrec_cli.heads.shared.cold_item_validation import HIDDEN_SHARE, MOST_QUERIES, ColdTask
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

GRID: dict[str, tuple[float, ...]] = {"denoise": (0.0, 0.5, 1.0), "gamma": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
                                      "l2": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "blend": (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)}
"""Values to try for each setting that is null."""
START = {"denoise": 1.0, "gamma": START_GAMMA, "l2": START_L2, "blend": 0.0}
"""Start of the search, and result if there is no validation data."""
_ROUNDS = 2
"""Most rounds over the settings."""
MOST_EXACT = 2500
"""Largest number of items in training for which every trial solves the whole ridge regression."""
LANDMARKS = 1000
"""Number of landmark items that approximate the kernel above MOST_EXACT items."""
_JITTER = 1e-4
"""Added to the diagonal of the landmarks' kernel matrix, which is 1."""
_NUM_SAMPLES = 250
"""Number of items in training from which the mean absolute weight is estimated. Blends differ by factors of about 2,
and the estimate by a few percent."""
PROGRESS_AFTER = 5.0
"""Seconds after which a choice prints its progress."""


def choose_settings(settings: ContentSettings, features: UnitFeatures, task: ColdTask,
                    context: Context) -> ContentSettings:
    """Replace each null setting by a number, by coordinate ascent from START."""
    free = [key for key in GRID if getattr(settings, key) is None]
    best = _with(settings, {key: START[key] for key in free})
    seconds = choice_operations(settings, task) / operations_per_second(context.device)
    if seconds > PROGRESS_AFTER:
        print(f"head=content: choosing {', '.join(free)} on {int(task.cold_N.sum()):,} cold items takes about "
              f"{seconds:.0f} s", file=sys.stderr)
    started = time.monotonic()
    evaluate = _Trial(features, task, best, context)
    value = evaluate(best)
    for number in range(_ROUNDS):
        before = value
        for key in free:
            for candidate in GRID[key]:
                other = _with(best, {key: candidate})
                if (other_value := evaluate(other)) > value:
                    best, value = other, other_value
            if time.monotonic() - started > PROGRESS_AFTER:
                print(f"head=content: {key}={getattr(best, key)} in round {number + 1} of at most {_ROUNDS}, "
                      f"{len(evaluate.values)} trials, {task.monitor} {value:.4f} on {int(task.cold_N.sum()):,} cold "
                      f"items, {time.monotonic() - started:.0f} s", file=sys.stderr)
        if value == before:
            break
    context.log("content", monitor=task.monitor, value=value, num_queries=len(task.queries),
                num_cold=int(task.cold_N.sum()), landmarks=evaluate.num_landmarks,
                **{key: getattr(best, key) for key in GRID})
    return best


def choice_operations(settings: ContentSettings, task: ColdTask) -> float:
    """Return the maximal number of additions and multiplications of choosing the settings."""
    num, cold, queries = len(task.trained_T), int(task.cold_N.sum()), len(task.queries)
    size = min(num, task.matrix_UN.shape[0])
    free = [len(GRID[key]) if getattr(settings, key) is None else 1 for key in GRID]
    gammas, ridges = free[1], _ROUNDS * sum(free[:3])
    shared = size**3 + 2 * queries * size**2
    if num <= MOST_EXACT:
        return shared + ridges * (num**3 / 3 + 2 * queries * num * (num + cold)) + 4 * _ROUNDS * num**3
    of_gamma = LANDMARKS * num * (3 * LANDMARKS + 2 * queries)  # Sparse histories cost little next to the denoised.
    of_trial = LANDMARKS**3 / 3 + 2 * queries * LANDMARKS * (LANDMARKS + cold)
    return shared + gammas * of_gamma + ridges * of_trial + 2 * _ROUNDS * _NUM_SAMPLES * LANDMARKS * 2 * num


def choice_memory(settings: ContentSettings, data: TrainingData) -> int:
    """Return the peak bytes of choosing the settings, without the features."""
    num_trained = int((data.interactions.item_counts > 0).sum())
    # Either a fifth of the items is hidden, or validation has its own cold items.
    cold = max(int(HIDDEN_SHARE * num_trained), len(data.items) - num_trained)
    queries = min(MOST_QUERIES, len(data.users))
    denoising = sum(Denoiser.estimate_memory(len(data.users), num_trained, len(data.interactions)))
    profiles = 4 * queries * (3 * num_trained + 4 * cold)
    if num_trained <= MOST_EXACT:
        ridge = 4 * (4 * num_trained**2 + 2 * num_trained * cold)
    else:
        # Of each gamma: both projected targets, the Gram matrix and the cold items' features. Beside them the cosines,
        # and while F is computed also the kernels, the last F and the new one.
        gammas = len(GRID["gamma"]) if settings.gamma is None else 1
        ridge = 4 * LANDMARKS * (gammas * (2 * queries + LANDMARKS + cold) + 4 * num_trained + 2 * cold + 2 * LANDMARKS)
        # Only the denoised histories are left of the profiles.
        ridge -= 4 * queries * 2 * num_trained
    near = 12 * min(settings.k, num_trained) * (num_trained + cold) + 8 * BLOCK_ITEMS * num_trained
    return denoising + profiles + max(ridge, near)


def _with(settings: ContentSettings, numbers: dict[str, Any]) -> ContentSettings:
    return replace(settings, **numbers)


def defaults(settings: ContentSettings) -> ContentSettings:
    """Replace each null setting by its START value."""
    return _with(settings, {key: START[key] for key in GRID if getattr(settings, key) is None})


class _Ridge(Protocol):
    """Kernel ridge regressions on several targets, one gamma at a time."""

    def set_gamma(self, gamma: float) -> None:
        """Set the gamma of the next regressions and compute what they share."""

    def project(self, targets_XT: torch.Tensor) -> torch.Tensor:
        """Return the targets in the form that `predict` takes, for any l2; linear in the targets."""

    def project_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        """Return `project` of histories."""

    def predict(self, projection: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        """Return predictions for the cold items (X, C), or for the items in training (X, T)."""


class _Exact:
    """The whole ridge regression, targets (K_TT + l2)^-1 K."""

    def __init__(self, warm: UnitFeatures, cold: UnitFeatures, device: torch.device) -> None:
        self.cosine_TT, self.cosine_TC = warm.cosine(warm, device), warm.cosine(cold, device)
        self.gamma, self.solved_at, self.factor_TT = 0.0, (0.0, 0.0), self.cosine_TT
        self.history_QT: torch.Tensor | None = None

    def set_gamma(self, gamma: float) -> None:
        self.gamma = gamma

    def project(self, targets_XT: torch.Tensor) -> torch.Tensor:
        return targets_XT

    def project_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        if self.history_QT is None:
            self.history_QT = torch.from_numpy(history_QT.toarray()).to(self.cosine_TT.device)
        return self.history_QT

    def predict(self, projection: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        if self.solved_at != (self.gamma, l2):
            self.solved_at, self.factor_TT = (self.gamma, l2), ridge_factor(self.cosine_TT, self.gamma, l2)
        dual_XT = torch.cholesky_solve(projection.T, self.factor_TT).T
        # K (K + l2)^-1 = 1 - l2 (K + l2)^-1.
        return dual_XT @ kernel(self.cosine_TC, self.gamma) if cold else projection - l2 * dual_XT


class _Landmarks:
    """The ridge regression in the span of the kernels of randomly drawn items: the subset of regressors.

    With K_LL = G G' and F = G^-1 K_LT the predictions are targets F' (F F' + l2)^-1 F (Williams and Seeger 2001;
    Quinonero-Candela and Rasmussen 2005, section 6). All targets count, and l2 has the same meaning as without
    landmarks.
    """

    def __init__(self, warm: UnitFeatures, cold: UnitFeatures, device: torch.device, rng: np.random.Generator) -> None:
        landmarks = warm.rows(np.sort(rng.permutation(len(warm.dense_ND))[:LANDMARKS]))
        self.cosine_LL = landmarks.cosine(landmarks, device)
        self.cosine_LT, self.cosine_LC = landmarks.cosine(warm, device), landmarks.cosine(cold, device)
        self.gamma, self.features_at, self.features_LT = 0.0, 0.0, self.cosine_LT
        self.of_gamma: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def set_gamma(self, gamma: float) -> None:
        self.gamma = gamma
        if gamma not in self.of_gamma:
            # Items with equal features have equal kernels: jitter on the diagonal keeps the matrix invertible.
            root_LL = ridge_factor(self.cosine_LL, gamma, _JITTER)
            self._features(root_LL)
            cold_LC = torch.linalg.solve_triangular(root_LL, kernel(self.cosine_LC, gamma), upper=False)
            self.of_gamma[gamma] = self.features_LT @ self.features_LT.T, cold_LC

    def _features(self, root_LL: torch.Tensor) -> None:
        self.features_LT = torch.linalg.solve_triangular(root_LL, kernel(self.cosine_LT, self.gamma), upper=False)
        self.features_at = self.gamma

    def project(self, targets_XT: torch.Tensor) -> torch.Tensor:
        return self._warm_features() @ targets_XT.T

    def project_history(self, history_QT: sp.csr_array) -> torch.Tensor:
        features_TL = self._warm_features().T.cpu().numpy()
        return torch.from_numpy(history_QT @ features_TL).to(self.cosine_LL.device).T

    def predict(self, projection: torch.Tensor, l2: float, cold: bool) -> torch.Tensor:
        gram_LL, cold_LC = self.of_gamma[self.gamma]
        penalised_LL = gram_LL.clone()
        penalised_LL.diagonal().add_(l2)
        dual_XL = torch.cholesky_solve(projection, torch.linalg.cholesky(penalised_LL)).T
        return dual_XL @ (cold_LC if cold else self._warm_features())

    def _warm_features(self) -> torch.Tensor:
        """Return F at the current gamma; only the last F is kept, because it is the largest array."""
        if self.features_at != self.gamma:
            self._features(ridge_factor(self.cosine_LL, self.gamma, _JITTER))
        return self.features_LT


class _Trial:
    """The metric of settings on a cold task; shared intermediate results are computed once."""

    def __init__(self, features: UnitFeatures, task: ColdTask, settings: ContentSettings, context: Context) -> None:
        device = context.device
        self.task, self.settings, self.device = task, settings, device
        rng = np.random.default_rng(context.seed)
        warm, cold = features.rows(task.trained_T), features.rows(np.flatnonzero(task.cold_N))
        num = len(task.trained_T)
        self.history_QT = sp.csr_array(task.queries.history[:, task.trained_T])
        self.denoiser = Denoiser(sp.csr_array(task.matrix_UN[:, task.trained_T]), settings.denoise_l2, device)
        self.denoised_QT = self.denoiser.scores(torch.from_numpy(self.history_QT.toarray()).to(device))
        k, exponent = settings.k, settings.exponent
        near_CT = nearest(warm, cold, k, exponent, np.full(len(cold.dense_ND), -1), device)
        near_TT = nearest(warm, warm, k, exponent, np.arange(num), device)
        near_QC = (self.history_QT @ sp.csr_array(near_CT.T)).toarray() / mean_size(float(near_TT.data.sum()), num)
        self.near_QC = torch.from_numpy(near_QC.astype(np.float32)).to(device)
        self.sample_S = np.sort(rng.permutation(num)[:_NUM_SAMPLES]) if num > MOST_EXACT else np.arange(num)
        self.num_landmarks = LANDMARKS if num > MOST_EXACT else None
        self.solver: _Ridge = (_Exact(warm, cold, device) if num <= MOST_EXACT else
                               _Landmarks(warm, cold, device, rng))
        self.ridge: dict[tuple[float, float, float], torch.Tensor] = {}
        self.profiles: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}
        self.sizes: dict[tuple[float, float, float], float] = {}
        self.values: dict[tuple[float, ...], float] = {}

    def __call__(self, settings: ContentSettings) -> float:
        """Return the metric."""
        key = tuple(float(getattr(settings, name)) for name in GRID)
        if key not in self.values:
            denoise, gamma, l2, blend = key
            scores_QC = blend * self.near_QC
            if blend < 1:
                ridge_QC = self._ridge(denoise, gamma, l2)
                # Without neighbours the scale does not matter for the ranking.
                scores_QC += (1 - blend) / self._mean_size(denoise, gamma, l2) * ridge_QC if blend > 0 else ridge_QC
            self.values[key] = self.task.value(scores_QC)
        return self.values[key]

    def _ridge(self, denoise: float, gamma: float, l2: float) -> torch.Tensor:
        key = (denoise, gamma, l2)
        if key not in self.ridge:
            self.solver.set_gamma(gamma)
            if gamma not in self.profiles:
                self.profiles[gamma] = (self.solver.project(self.denoised_QT),
                                        self.solver.project_history(self.history_QT))
            denoised, history = self.profiles[gamma]
            # Only the last result is kept, because blends are tried last.
            self.ridge = {key: self.solver.predict(denoise * denoised + (1 - denoise) * history, l2, True)}
        return self.ridge[key]

    def _mean_size(self, denoise: float, gamma: float, l2: float) -> float:
        """Return the mean absolute weight between two items in training, estimated from the sampled items."""
        key, num, sample = (denoise, gamma, l2), len(self.task.trained_T), self.sample_S
        if key in self.sizes:
            return self.sizes[key]
        targets_ST = target_rows(self.denoiser, denoise, num, sample, self.device)
        self.solver.set_gamma(gamma)
        weights_ST = self.solver.predict(self.solver.project(targets_ST), l2, False).abs_()
        total = float(weights_ST.sum() - weights_ST[np.arange(len(sample)), sample].sum())
        self.sizes[key] = mean_size(total * num / max(len(sample), 1), num)
        return self.sizes[key]


def target_rows(denoiser: Denoiser, denoise: float, num: int, which: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return rows (S, T) of the target matrix of `target_columns`, using that P is symmetric."""
    if denoise == 0:
        return target_columns(None, 0.0, num, which, device).T
    rows_ST = (denoiser.columns(which) * (-denoise / denoiser.diagonal_T1)).T
    rows_ST[torch.arange(len(which)), torch.from_numpy(which)] = 1 - denoise
    return rows_ST
