"""Losses of each position's target against negatives that all positions of a step share.

The scores are computed in chunks of a few positions, with the gradients in the same pass, and discarded: a step needs
the memory of its vectors, whatever the number of negatives.

Shapes: P positions, C negatives, E embedding size, K positions of a chunk.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd.function import once_differentiable

from llmrec_cli.settings.loss import SharedNegativesSettings
from llmrec_cli.training.losses.base import Loss
from llmrec_cli.training.losses.catalogue_softmax import CHUNKS

N = TypeVar("N", bound=SharedNegativesSettings)

Terms = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Takes scores of positives (K,) and negatives (K, C), -inf for none; returns the losses and their derivatives by the
positives, both (K,), and leaves the derivatives by the negatives in the scores' memory."""


class SharedNegativesLoss(Loss[N]):
    """A loss whose negatives are shared by all positions of a step.

    A position's own target is no negative; other items that the user interacted with are. So with all items drawn, the
    loss is that of the whole catalogue.
    """

    draws = False

    def of_positions(self, users_PE: torch.Tensor, positives_PE: torch.Tensor, negatives_CE: torch.Tensor,
                     column_P: torch.Tensor, num_items: int, log_q_P: torch.Tensor | None = None,
                     log_q_C: torch.Tensor | None = None, weight_P: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss of each position.

        `column_P` (int64) is the place of a position's target among the negatives, -1 if it was not drawn. `num_items`
        is the number of items that negatives are drawn from. `log_q_P` and `log_q_C` are the log probabilities of
        targets and negatives of being drawn, None where all are equal.
        """
        positive_P = (users_PE * positives_PE).sum(dim=1)
        terms = self.terms(len(negatives_CE), num_items)
        # In float32 also under autocast: the loss sums thousands of exponentials.
        with torch.autocast(users_PE.device.type, enabled=False):
            positive_P = positive_P.float() if log_q_P is None else positive_P.float() - log_q_P
            no_correction = positive_P.new_zeros(0) if log_q_C is None else log_q_C
            no_weights = positive_P.new_zeros(0) if weight_P is None else weight_P
            value: torch.Tensor = _SharedNegatives.apply(positive_P, users_PE.float(), negatives_CE.float(), column_P,
                                                         no_correction, no_weights, terms)
        return value

    @abstractmethod
    def terms(self, num_negatives: int, num_items: int) -> Terms:
        """Return the function that computes losses and derivatives of a chunk."""

    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Raise: heads that draw negatives for each row have losses of their own."""
        raise AssertionError(f"{self.settings.kind} is for positions only, by works_with")


class _SharedNegatives(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positive_P: torch.Tensor, users_PE: torch.Tensor, negatives_CE: torch.Tensor,
                column_P: torch.Tensor, log_q_C: torch.Tensor, weight_P: torch.Tensor, terms: Terms) -> torch.Tensor:
        num_positions = len(users_PE)
        size = max(1, min(CHUNKS[users_PE.device.type], num_positions))
        buffer_KC = users_PE.new_empty(size, len(negatives_CE))
        value = users_PE.new_zeros(())
        gradient_P, gradient_PE = torch.empty_like(positive_P), torch.empty_like(users_PE)
        gradient_CE = torch.zeros_like(negatives_CE)
        is_drawn_P = column_P >= 0
        for start in range(0, num_positions, size):
            part = slice(start, start + size)
            users_KE = users_PE[part]
            scores_KC = torch.mm(users_KE, negatives_CE.T, out=buffer_KC[:len(users_KE)])
            if len(log_q_C):
                scores_KC -= log_q_C
            row_D = is_drawn_P[part].nonzero()[:, 0]
            scores_KC[row_D, column_P[part][row_D]] = -torch.inf
            losses_K, slopes_K = terms(positive_P[part], scores_KC)
            share_K = weight_P[part] if len(weight_P) else torch.ones_like(losses_K)
            value += (losses_K * share_K).sum()
            gradient_P[part] = slopes_K * share_K
            torch.mm(scores_KC, negatives_CE, out=gradient_PE[part])
            gradient_PE[part] *= share_K[:, None]
            gradient_CE.addmm_(scores_KC.T, users_KE * share_K[:, None])
        ctx.save_for_backward(*(gradient.div_(num_positions) for gradient in (gradient_P, gradient_PE, gradient_CE)))
        return value / num_positions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        gradients = (own * gradient for own in ctx.saved_tensors)
        return *gradients, None, None, None, None
