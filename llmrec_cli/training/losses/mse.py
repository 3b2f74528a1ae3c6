"""Squared error."""

import torch
from torch.nn import functional

from llmrec_cli.settings.loss import MseSettings
from llmrec_cli.training.losses.base import PointwiseLoss, mean


class Mse(PointwiseLoss[MseSettings]):
    """Squared error of scores and values, or of similarities and targets of 1 (positives) and 0 (negatives)."""

    def of_values(self, scores: torch.Tensor, values: torch.Tensor,
                  weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean over scores and values of the same shape."""
        if weight is None:
            return functional.mse_loss(scores, values.to(scores.dtype))
        return mean((scores - values).square(), weight)

    def of_negatives(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the square of each score."""
        return scores.square()

    def expected(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores as they are."""
        return scores
