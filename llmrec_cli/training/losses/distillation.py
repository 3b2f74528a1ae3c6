"""Distillation of collaborative filtering into text vectors: item co-occurrence as soft targets (loss=distillation).

Shapes: U users, T items in training, B items of a step.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from llmrec_cli.settings.loss import DistillationSettings
from llmrec_cli.training.losses.base import TextLoss


class Distillation(TextLoss[DistillationSettings]):
    """Cross-entropy of the items that co-occur with an item, by the similarity of their vectors."""

    def __init__(self, matrix_UT: sp.csr_array, settings: DistillationSettings, device: torch.device) -> None:
        super().__init__(settings)
        self.targets = SoftTargets(matrix_UT, settings, device)
        self.similarity = Similarity(settings).to(device)
        self.rows = self.targets.rows

    @classmethod
    def estimate_memory(cls, settings: DistillationSettings, counts_T: np.ndarray, length_U: np.ndarray, batch: int,
                        size: int) -> int:
        """Return the bytes of the co-occurring pairs, or of EASE, and of a step."""
        num, together = len(counts_T), co_occurring_pairs(counts_T, length_U)
        pairs = 24 * num**2 if settings.targets == "ease" else 0
        # Targets, logits, their softmax, its product with the targets, and a gradient.
        step = 4 * 5 * batch * num
        # Co-occurring pairs: as product, divided, and with row indices; afterwards one copy.
        return pairs + max(36 * together, 12 * together + step)

    def forward(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of the items."""
        return distillation_loss(self.logits(vectors_TD, items_B), self.targets.of(items_B.cpu().numpy()))

    def logits(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the logits of all items for each item of the step, (B, T)."""
        logits_BT: torch.Tensor = self.similarity(vectors_TD, items_B, self.targets.log_popularity_T)
        return logits_BT


def co_occurring_pairs(counts_T: np.ndarray, length_U: np.ndarray) -> int:
    """Estimate the number of ordered pairs of items that share a user.

    Assumes that users choose items at random by popularity; computed for pairs of 200 classes of similar popularity.
    """
    parts = [part for part in np.array_split(np.sort(counts_T), 200) if len(part)]
    mean_P, size_P = (np.array([of(part) for part in parts], np.float64) for of in (np.mean, len))
    expected_PP = (length_U * (length_U - 1.0)).sum() * np.outer(mean_P, mean_P) / max(1, counts_T.sum())**2
    return int(-(np.outer(size_P, size_P) * np.expm1(-expected_PP)).sum())


class SoftTargets:
    """For each item, the distribution of the items that co-occur with it.

    Attributes
    ----------
    rows : int64, the training items that have a target
    log_popularity_T : float32 (T,), log of each item's share of all targets
    """

    def __init__(self, matrix_UT: sp.csr_array, settings: DistillationSettings, device: torch.device) -> None:
        """Compute the targets from 0/1 interactions with the training items."""
        if settings.targets == "ease":
            weights = sp.csr_array(_ease(matrix_UT, settings.l2).clip(min=0))
        else:
            length_U = np.maximum(np.diff(matrix_UT.indptr), 2)
            # Each user has the same weight for an item whatever the history's length: pairs of a long one count less.
            scaled = sp.csr_array((matrix_UT.data / np.repeat(np.sqrt(length_U - 1), np.diff(matrix_UT.indptr)),
                                   matrix_UT.indices, matrix_UT.indptr), shape=matrix_UT.shape)
            weights = sp.csr_array(scaled.T @ scaled)
        weights.setdiag(0)
        weights.eliminate_zeros()
        sums_T = np.asarray(weights.sum(axis=1)).ravel()
        self.rows = np.flatnonzero(sums_T > 0)
        self.device = device
        row = np.repeat(np.arange(len(sums_T)), np.diff(weights.indptr))
        self.weights = sp.csr_array((weights.data / sums_T[row], weights.indices, weights.indptr), shape=weights.shape)
        share_T = np.bincount(self.weights.indices, self.weights.data, minlength=len(sums_T)) / max(1, len(self.rows))
        self.log_popularity_T = torch.from_numpy(np.log(share_T + 1 / len(share_T)).astype(np.float32)).to(device)

    def of(self, items_B: np.ndarray) -> torch.Tensor:
        """Return the targets of items, float32 (B, T); each row sums to 1."""
        return torch.from_numpy(self.weights[items_B].toarray().astype(np.float32)).to(self.device)


class Similarity(nn.Module):
    """Logits of item-to-item distributions: cosine over a learned temperature, plus the items' popularity."""

    def __init__(self, settings: DistillationSettings) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-float(np.log(settings.temperature))))
        self.popularity = settings.popularity

    def forward(self, vectors_TD: torch.Tensor, items_B: torch.Tensor, log_popularity_T: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, T) of the items `items_B`; an item's logit for itself is -1e9.

        The popularity term is fixed, so that the vectors need not encode popularity.
        """
        logits_BT = self.log_scale.exp() * (vectors_TD[items_B] @ vectors_TD.T) + self.popularity * log_popularity_T
        return logits_BT.scatter(1, items_B[:, None], -1e9)


def distillation_loss(logits_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of the logits with target distributions (Hinton et al. 2015, section 2)."""
    return -(targets_BT * logits_BT.log_softmax(dim=1)).sum(dim=1).mean()


def _ease(matrix_UT: sp.csr_array, l2: float) -> np.ndarray:
    """Return EASE's weights (T, T) (Steck 2019, eq. 8)."""
    gram_TT = (matrix_UT.T @ matrix_UT).toarray().astype(np.float32)
    gram_TT[np.diag_indices_from(gram_TT)] += l2
    factor = torch.linalg.cholesky(torch.from_numpy(gram_TT))
    inverse_TT = torch.cholesky_inverse(factor).numpy()
    weights_TT = -inverse_TT / np.diag(inverse_TT)
    np.fill_diagonal(weights_TT, 0)
    return weights_TT
