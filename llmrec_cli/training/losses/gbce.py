"""Generalised binary cross-entropy against shared negatives.

Shapes: K positions of a chunk, C negatives.
"""

import math

import torch
from torch.nn import functional

from llmrec_cli.settings.loss import GbceSettings
from llmrec_cli.training.losses.shared_negatives import SharedNegativesLoss, Terms


class Gbce(SharedNegativesLoss[GbceSettings]):
    """gBCE of gSASRec (Petrov and Macdonald 2023, eq. 12 and 18): the positive's probability to the power of beta.

    The loss is the mean over the target and the negatives. Differs: one set of negatives for all positions of a step;
    `offset` is added to all logits, without which training with shared negatives collapses: all positions learn the
    same low scores first.
    """

    def offset(self, num_negatives: int, num_items: int) -> float:
        """Return the logit of all items at which the loss is least if all have the same: log(beta / C)."""
        return math.log(max(1e-6, self.beta(num_negatives, num_items)) / num_negatives)

    def beta(self, num_negatives: int, num_items: int) -> float:
        """Return alpha (t (1 - 1 / alpha) + 1 / alpha) for the sampling rate alpha, the share of items drawn."""
        # A negative is any item but the target.
        rate = min(1.0, num_negatives / max(1, num_items - 1))
        return rate * (self.settings.calibration * (1 - 1 / rate) + 1 / rate)

    def terms(self, num_negatives: int, num_items: int) -> Terms:
        """Return -beta log sigmoid of the positive and -log(1 - sigmoid) of the negatives, over 1 + C."""
        beta, count = self.beta(num_negatives, num_items), 1 + num_negatives
        offset = self.offset(num_negatives, num_items)

        def binary(positive_K: torch.Tensor, scores_KC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            positive_K = positive_K + offset
            scores_KC += offset
            losses_K = (beta * functional.softplus(-positive_K) + functional.softplus(scores_KC).sum(dim=1)) / count
            scores_KC.sigmoid_().div_(count)
            return losses_K, -beta * torch.sigmoid(-positive_K) / count

        return binary
