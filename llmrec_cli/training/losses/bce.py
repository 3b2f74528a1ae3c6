"""Binary cross-entropy."""

import torch
from torch.nn import functional

from llmrec_cli.settings.loss import BceSettings
from llmrec_cli.training.losses.base import PointwiseLoss


class Bce(PointwiseLoss[BceSettings]):
    """Binary cross-entropy of logits and labels from 0 to 1."""

    def of_values(self, scores: torch.Tensor, values: torch.Tensor,
                  weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean over logits and labels of the same shape."""
        return functional.binary_cross_entropy_with_logits(scores, values.to(scores.dtype), weight)

    def of_negatives(self, scores: torch.Tensor) -> torch.Tensor:
        """Return -log(1 - sigmoid) of each logit."""
        return functional.softplus(scores)

    def expected(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities."""
        return scores.sigmoid()
