"""Bayesian personalised ranking.

Shapes: B rows of a step, C candidates.
"""

import torch
from torch.nn import functional

from llmrec_cli.settings.loss import BprSettings
from llmrec_cli.training.losses.base import Loss


class Bpr(Loss[BprSettings]):
    """Pairwise loss -log sigmoid(positive - negative) (Rendle et al. 2009, eq. 4)."""

    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean over all pairs; 0 without any pair."""
        losses_BC = functional.softplus(negative_BC - positive_B[:, None])
        if weight_B is not None:
            losses_BC = losses_BC * weight_B[:, None]
        return losses_BC.masked_fill(excluded_BC, 0.0).sum() / (~excluded_BC).sum().clamp_min(1)
