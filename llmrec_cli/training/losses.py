"""Losses: pure functions of tensors. Probabilities are made from logits here, once, and nowhere else.

Shapes: B rows (queries) of a step, C candidates.
"""

import torch
from torch.nn import functional


def softmax_loss(logits_BC: torch.Tensor, target_B: torch.Tensor, log_q_C: torch.Tensor | None = None,
                 excluded_BC: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of a softmax over the candidates of the step (Yi et al. 2019, eq. 3 and 4).

    `target_B` (int64) is each row's candidate; `log_q_C` the logarithm of each candidate's chance of being in the step,
    subtracted so that popular items are not punished for turning up often as negatives; `excluded_BC` (bool) marks
    candidates that are no negatives of a row, such as another copy of its target or another item it is known to like.
    The target itself is never excluded.
    """
    if log_q_C is not None:
        logits_BC = logits_BC - log_q_C
    if excluded_BC is not None:
        columns_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
        hidden_BC = excluded_BC & (columns_C != target_B[:, None])
        logits_BC = logits_BC.masked_fill(hidden_BC, float("-inf"))
    return functional.cross_entropy(logits_BC, target_B)


def bce_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy of logits and labels (0 to 1) of the same shape."""
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def mse_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of scores and targets of the same shape."""
    return functional.mse_loss(scores, targets.to(scores.dtype))
