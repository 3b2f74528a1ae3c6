"""Losses: pure functions of tensors. Probabilities are made from logits here, once, and nowhere else.

A loss of rows takes a weight for each, `weight_B`: it multiplies the row's loss in the mean, and None is 1 for all.

Shapes: B rows (queries or interactions) of a step, C candidates, S users that the interactions of a step are of.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

Measure = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Scores, what they should be, and weights or None: to a mean loss."""


def softmax_loss(logits_BC: torch.Tensor, target_B: torch.Tensor, log_q_C: torch.Tensor | None = None,
                 excluded_BC: torch.Tensor | None = None, label_smoothing: float = 0.0,
                 weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of a softmax over the candidates of the step (Yi et al. 2019, eq. 3 and 4).

    `target_B` (int64) is each row's candidate; `log_q_C` the logarithm of each candidate's chance of being in the step,
    subtracted so that popular items are not punished for turning up often as negatives; `excluded_BC` (bool) marks
    candidates that are no negatives of a row, such as another copy of its target or another item it is known to like.
    The target itself is never excluded. `label_smoothing` is the share of the target that is spread evenly over what is
    left (Szegedy et al. 2016, section 7).
    """
    if log_q_C is not None:
        logits_BC = logits_BC - log_q_C
    hidden_BC = torch.zeros_like(logits_BC, dtype=torch.bool)
    if excluded_BC is not None:
        columns_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
        hidden_BC = excluded_BC & (columns_C != target_B[:, None])
        logits_BC = logits_BC.masked_fill(hidden_BC, float("-inf"))
    value = _mean(functional.cross_entropy(logits_BC, target_B, reduction="none"), weight_B) \
        if weight_B is not None else functional.cross_entropy(logits_BC, target_B)
    if label_smoothing == 0:
        return value
    mean_B = logits_BC.masked_fill(hidden_BC, 0.0).sum(dim=1) / (~hidden_BC).sum(dim=1)
    evenly = _mean(logits_BC.logsumexp(dim=1) - mean_B, weight_B)
    return (1 - label_smoothing) * value + label_smoothing * evenly


def softmax_of_rows_loss(positive_B: torch.Tensor, logits_SC: torch.Tensor, known_SC: torch.Tensor,
                         user_B: torch.Tensor, log_weight: float = 0.0,
                         weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of each positive among itself and the candidates that its user does not know.

    As `softmax_loss` with the user's known items (bool, True) excluded, but with one sum of exponentials for a user,
    whatever number of interactions the user has in the step. `user_B` (int64) is the user of each positive, a row of
    `logits_SC`; each candidate stands for exp(log_weight) items of the catalogue.
    """
    # Finite, since the gradient of a softmax over nothing is NaN: the weight of such a row's negatives is 0 this way.
    hidden_SC = logits_SC.masked_fill(known_SC, -1e9)
    rest_S = hidden_SC.logsumexp(dim=1) + log_weight
    return _mean(functional.softplus(rest_S.index_select(0, user_B) - positive_B), weight_B)


def bpr_loss(positive_B: torch.Tensor, negative_BC: torch.Tensor,
             excluded_BC: torch.Tensor | None = None, weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean of -log sigmoid(positive - negative) over all pairs (Rendle et al. 2009, eq. 4).

    `excluded_BC` (bool) marks candidates that are no negatives of a row. 0 where nothing is left to compare.
    """
    losses_BC = functional.softplus(negative_BC - positive_B[:, None])
    if weight_B is not None:
        losses_BC = losses_BC * weight_B[:, None]
    if excluded_BC is None:
        return losses_BC.mean()
    return losses_BC.masked_fill(excluded_BC, 0.0).sum() / (~excluded_BC).sum().clamp_min(1)


def against_negatives(measure: Measure, positive_B: torch.Tensor,
                      negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                      weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean of `measure` (bce_loss, mse_loss) of positives to 1, plus that of negatives to 0.

    Positives count as much as their negatives together, so that more negatives do not drown them. `excluded_BC` (bool)
    marks candidates that are no negatives of a row; where nothing is left the positives stand alone. `weight_B` are
    those of the positives.
    """
    of_positives = measure(positive_B, torch.ones_like(positive_B), weight_B)
    negative = negative_BC[~excluded_BC]
    # The mean of nothing is NaN: a last batch of one user who knows every item that was drawn.
    return of_positives + measure(negative, torch.zeros_like(negative), None) if len(negative) else of_positives


def bce_loss(logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean binary cross-entropy of logits and labels (0 to 1) of the same shape, each with its weight."""
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), weight)


def mse_loss(scores: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean squared error of scores and targets of the same shape, each with its weight."""
    if weight is None:
        return functional.mse_loss(scores, targets.to(scores.dtype))
    return _mean((scores - targets).square(), weight)


def _mean(losses_B: torch.Tensor, weight_B: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of losses times their weights, which are 1 on average over all there is to learn from."""
    return (losses_B if weight_B is None else losses_B * weight_B).mean()
