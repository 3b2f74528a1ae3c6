"""The interface of losses.

A head uses a loss in one of two ways, according to its setting `learns_from`: `of_choices`, `against` and `of_users`
train on positive items against negatives; `of_values` trains on a target value for each pair. Probabilities are
computed from logits in the loss and nowhere else. `weight_B` multiplies each row's loss in the mean; None means 1.

Shapes: B rows (queries or interactions) of a step, C candidates, S distinct users of a step, P positions of sequences,
E embedding size.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.loss import LossSettings

S = TypeVar("S", bound=LossSettings)


@dataclass(frozen=True)
class UserScores:
    """A step, or a part of a step, whose candidates are scored once for each user.

    Attributes
    ----------
    positive_B : scores of the positive items
    scores_SC : scores of the candidates for each user
    excluded_SC : bool, candidates that are no negatives of a user
    user_B : int64, the user of each row as a row of `scores_SC`
    negatives_BC : int64, the sampled negatives of each row as columns of `scores_SC`; only for losses with `draws`
    log_weight : logarithm of the number of catalogue items that a candidate represents
    share, negative_share : the part's shares of the step's rows and of its negatives
    """

    positive_B: torch.Tensor
    scores_SC: torch.Tensor
    excluded_SC: torch.Tensor
    user_B: torch.Tensor
    negatives_BC: torch.Tensor | None = None
    log_weight: float = 0.0
    weight_B: torch.Tensor | None = None
    share: float = 1.0
    negative_share: float = 1.0

    def gather_negatives(self, values_SC: torch.Tensor) -> torch.Tensor:
        """Return the values at the sampled negatives of each row."""
        assert self.negatives_BC is not None
        return values_SC.flatten()[self.negatives_BC + self.user_B[:, None] * values_SC.shape[1]]


class Loss(ABC, Generic[S]):
    """A loss, built from its settings."""

    normalises: ClassVar[bool] = False
    """True for a distribution over the candidates. The positives of other rows are candidates too then, corrected by
    their probability of being in the step (`log_chance`)."""
    draws: ClassVar[bool] = True
    """True if `of_users` compares each row with a few sampled candidates instead of all."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def log_q(self, log_chance_N: torch.Tensor) -> torch.Tensor | None:
        """Return the correction to subtract from the logits, given each item's log probability of being in a step."""
        return None

    def of_choices(self, logits_BC: torch.Tensor, target_B: torch.Tensor, excluded_BC: torch.Tensor,
                   log_q_C: torch.Tensor | None = None, weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of each row's target (int64, its column) against the other candidates of the step.

        `excluded_BC` (bool) marks candidates that are no negatives of a row, including the target itself.
        """
        return self.against(logits_BC.gather(1, target_B[:, None])[:, 0], logits_BC, excluded_BC, weight_B)

    def of_catalogue(self, users_PE: torch.Tensor, items_CE: torch.Tensor, target_P: torch.Tensor,
                     log_q_C: torch.Tensor | None = None, weight_P: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of each position's target against the whole catalogue; for losses with `normalises`."""
        logits_PC = users_PE @ items_CE.T
        return self.of_choices(logits_PC, target_P, torch.zeros_like(logits_PC, dtype=torch.bool), log_q_C, weight_P)

    @abstractmethod
    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of positive scores against negative scores that are not `excluded_BC` (bool)."""

    def of_users(self, step: UserScores) -> torch.Tensor:
        """Return the loss of a step whose candidates are scored once for each user, or a part's share of that loss."""
        return step.negative_share * self.against(step.positive_B, step.gather_negatives(step.scores_SC),
                                                  step.gather_negatives(step.excluded_SC), step.weight_B)


class PointwiseLoss(Loss[S]):
    """A loss of single scores: the target is 1 for positives and 0 for negatives, or a value."""

    draws = False

    @abstractmethod
    def of_values(self, scores: torch.Tensor, values: torch.Tensor,
                  weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of scores and target values of the same shape, with optional weights."""

    @abstractmethod
    def of_negatives(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the loss of each negative's score."""

    @abstractmethod
    def expected(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the predicted values of scores."""

    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of the positives plus the mean loss of the negatives.

        Positives have as much weight as all negatives together, so that more negatives do not outweigh them. Without
        negatives, the loss is that of the positives.
        """
        of_positives = self.of_values(positive_B, torch.ones_like(positive_B), weight_B)
        negative = negative_BC[~excluded_BC]
        # The mean of nothing is NaN, for example in a last batch of a user who knows all sampled items.
        return of_positives + self.of_values(negative, torch.zeros_like(negative)) if len(negative) else of_positives

    def of_users(self, step: UserScores) -> torch.Tensor:
        """Return the loss over all candidates of each user, each counted once."""
        losses_SC = self.of_negatives(step.scores_SC).masked_fill(step.excluded_SC, 0.0)
        of_negatives = losses_SC.sum() / (~step.excluded_SC).sum().clamp_min(1)
        return (step.share * self.of_values(step.positive_B, torch.ones_like(step.positive_B), step.weight_B)
                + step.negative_share * of_negatives)


class TextLoss(nn.Module, ABC, Generic[S]):
    """A loss that trains text vectors of items on interactions (`works_with` similarities), with its own parameters.

    Shapes: U users, T items in training, B items of a step, D size of a vector.

    Attributes
    ----------
    rows : int64, the items among T that have something to learn from
    refresh_steps : optimiser steps between two calls of `refresh`; 0 for a loss without `refresh`
    """

    rows: np.ndarray
    refresh_steps: int = 0

    def __init__(self, settings: S) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    @abstractmethod
    def estimate_memory(cls, settings: S, counts_T: np.ndarray, length_U: np.ndarray, batch: int, size: int) -> int:
        """Return the peak bytes with `counts_T` interactions of the items and `length_U` of the users.

        `batch` is the number of items of a step and `size` the size of a vector.
        """

    def refresh(self, vectors_TD: torch.Tensor) -> None:
        """Take new vectors of all items, without gradients; state that changes must be in buffers."""

    @abstractmethod
    def forward(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the items `items_B` (int64), given vectors of length 1 (0 without text)."""

    @abstractmethod
    def logits(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the logits behind the loss, one row per item, for adversarial=virtual."""


def build_loss(settings: LossSettings) -> Loss[Any]:
    """Return the loss of these settings."""
    loss: Loss[Any] = implementation_of(settings)(settings)
    return loss


def build_pointwise(settings: LossSettings) -> PointwiseLoss[Any]:
    """Return the pointwise loss of these settings."""
    loss = build_loss(settings)
    assert isinstance(loss, PointwiseLoss), "config composition refuses other losses"
    return loss


def mean(losses_B: torch.Tensor, weight_B: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of weighted losses; weights average 1 over all training rows."""
    return (losses_B if weight_B is None else losses_B * weight_B).mean()
