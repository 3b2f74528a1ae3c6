"""The interface of losses.

A head asks a loss for one of two things, and its settings say which (`learns_from`): `of_choices`, `against` and
`of_users` learn an item that was chosen from others that were not; `of_values` learns a number for each pair.
Probabilities are made from logits in the loss, once, and nowhere else. A weight for each row, `weight_B`, multiplies
the row's loss in the mean; None is 1 for all.

Shapes: B rows (queries or interactions) of a step, C candidates, S users that the interactions of a step are of,
P positions of sequences, E embedding size.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.loss import LossSettings

S = TypeVar("S", bound=LossSettings)


@dataclass(frozen=True)
class UserScores:
    """A step, or a part of one, whose candidates are scored once for each user.

    Attributes
    ----------
    positive_B : scores of the items that were chosen
    scores_SC : scores of the candidates for each user
    known_SC : bool, candidates that are no negatives of a user
    user_B : int64, the user of each row, a row of `scores_SC`
    drawn_BC : int64, the candidates that each row is compared with, of losses that `draws`
    log_weight : logarithm of the number of items of the catalogue that a candidate stands for
    share, negative_share : the part's share of the step's rows, and of its negatives
    """

    positive_B: torch.Tensor
    scores_SC: torch.Tensor
    known_SC: torch.Tensor
    user_B: torch.Tensor
    drawn_BC: torch.Tensor | None = None
    log_weight: float = 0.0
    weight_B: torch.Tensor | None = None
    share: float = 1.0
    negative_share: float = 1.0

    def of_drawn(self, of_SC: torch.Tensor) -> torch.Tensor:
        """Return what (S, C) has for the candidates that each row is compared with."""
        assert self.drawn_BC is not None
        return of_SC.flatten()[self.drawn_BC + self.user_B[:, None] * of_SC.shape[1]]


class Loss(ABC, Generic[S]):
    """A loss, built from its settings."""

    normalises: ClassVar[bool] = False
    """Whether it is a distribution over the candidates. Then the items that other rows of a step chose are candidates
    too, each corrected by its chance of being in the step (`log_chance`)."""
    draws: ClassVar[bool] = True
    """Whether `of_users` compares each row with a few drawn candidates, not with all."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def log_q(self, log_chance_N: torch.Tensor) -> torch.Tensor | None:
        """Return what is subtracted from the logits of items with these log chances of being in a step."""
        return None

    def of_choices(self, logits_BC: torch.Tensor, target_B: torch.Tensor, excluded_BC: torch.Tensor,
                   log_q_C: torch.Tensor | None = None, weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of each row's target (int64, its column) against the other candidates of the step.

        `excluded_BC` (bool) marks candidates that are no negatives of a row, the target itself among them.
        """
        return self.against(logits_BC.gather(1, target_B[:, None])[:, 0], logits_BC, excluded_BC, weight_B)

    def of_catalogue(self, users_PE: torch.Tensor, items_CE: torch.Tensor, target_P: torch.Tensor,
                     log_q_C: torch.Tensor | None = None, weight_P: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of each row's target against all others, by vectors; of losses that `normalises`."""
        logits_PC = users_PE @ items_CE.T
        return self.of_choices(logits_PC, target_P, torch.zeros_like(logits_PC, dtype=torch.bool), log_q_C, weight_P)

    @abstractmethod
    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of scores of chosen items against those of others that are not `excluded_BC` (bool)."""

    def of_users(self, step: UserScores) -> torch.Tensor:
        """Return the loss of a step whose candidates are scored once for each user, or a part's share of it."""
        return step.negative_share * self.against(step.positive_B, step.of_drawn(step.scores_SC),
                                                  step.of_drawn(step.known_SC), step.weight_B)


class PointwiseLoss(Loss[S]):
    """A loss of each score by itself: 1 is to come out for what was chosen, 0 for the rest, or any value."""

    draws = False

    @abstractmethod
    def of_values(self, scores: torch.Tensor, values: torch.Tensor,
                  weight: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of scores and what they should be, of the same shape, each with its weight."""

    @abstractmethod
    def of_negatives(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the loss of each score of what was not chosen."""

    @abstractmethod
    def expected(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the values that scores stand for."""

    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of the chosen, plus that of the others.

        The chosen count as much as the others together, so that more negatives do not drown them. Where no negatives
        are left they stand alone.
        """
        of_positives = self.of_values(positive_B, torch.ones_like(positive_B), weight_B)
        negative = negative_BC[~excluded_BC]
        # The mean of nothing is NaN: a last batch of one user who knows every item that was drawn.
        return of_positives + self.of_values(negative, torch.zeros_like(negative)) if len(negative) else of_positives

    def of_users(self, step: UserScores) -> torch.Tensor:
        """Return the same of all candidates of each user, each counted once."""
        losses_SC = self.of_negatives(step.scores_SC).masked_fill(step.known_SC, 0.0)
        of_negatives = losses_SC.sum() / (~step.known_SC).sum().clamp_min(1)
        return (step.share * self.of_values(step.positive_B, torch.ones_like(step.positive_B), step.weight_B)
                + step.negative_share * of_negatives)


def build_loss(settings: LossSettings) -> Loss[Any]:
    """Return the loss of these settings."""
    loss: Loss[Any] = implementation_of(settings)(settings)
    return loss


def build_pointwise(settings: LossSettings) -> PointwiseLoss[Any]:
    """Return the loss of these settings, which learns values."""
    loss = build_loss(settings)
    assert isinstance(loss, PointwiseLoss), "composing refuses other losses"
    return loss


def mean(losses_B: torch.Tensor, weight_B: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of losses times their weights, which are 1 on average over all there is to learn from."""
    return (losses_B if weight_B is None else losses_B * weight_B).mean()
