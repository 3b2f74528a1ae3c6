"""Cross-entropy of a softmax over candidates.

Shapes: B rows (queries or interactions) of a step, C candidates, S distinct users of a step, P positions, E embedding
size.
"""

import torch
from torch.nn import functional

from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.training.losses.base import Loss, UserScores, mean
from llmrec_cli.training.losses.catalogue_softmax import catalogue_softmax_loss


class Softmax(Loss[SoftmaxSettings]):
    """A softmax over the items of a step, with popularity correction (Yi et al. 2019, eq. 3), or over all items."""

    normalises = True
    draws = False

    def log_q(self, log_chance_N: torch.Tensor) -> torch.Tensor:
        """Return the log probabilities times the strength of the popularity correction."""
        return self.settings.popularity_correction * log_chance_N

    def of_choices(self, logits_BC: torch.Tensor, target_B: torch.Tensor, excluded_BC: torch.Tensor,
                   log_q_C: torch.Tensor | None = None, weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean cross-entropy of the targets among the candidates of the step."""
        return softmax_loss(logits_BC, target_B, log_q_C, excluded_BC, self.settings.label_smoothing, weight_B)

    def against(self, positive_B: torch.Tensor, negative_BC: torch.Tensor, excluded_BC: torch.Tensor,
                weight_B: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean cross-entropy of each positive among itself and the negatives."""
        logits_BC = torch.cat([positive_B[:, None], negative_BC], dim=1)
        excluded_BC = functional.pad(excluded_BC, (1, 0))
        return self.of_choices(logits_BC, torch.zeros_like(positive_B, dtype=torch.int64), excluded_BC,
                               weight_B=weight_B)

    def of_users(self, step: UserScores) -> torch.Tensor:
        """Return the same loss with one sum of exponentials per user."""
        return step.share * softmax_of_rows_loss(step.positive_B, step.scores_SC, step.excluded_SC, step.user_B,
                                                 step.log_weight, step.weight_B)

    def of_catalogue(self, users_PE: torch.Tensor, items_CE: torch.Tensor, target_P: torch.Tensor,
                     log_q_C: torch.Tensor | None = None, weight_P: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean cross-entropy of the logits `users_PE @ items_CE.T`, computed in chunks."""
        return catalogue_softmax_loss(users_PE, items_CE, target_P, log_q_C, self.settings.label_smoothing, weight_P)


def softmax_loss(logits_BC: torch.Tensor, target_B: torch.Tensor, log_q_C: torch.Tensor | None = None,
                 excluded_BC: torch.Tensor | None = None, label_smoothing: float = 0.0,
                 weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of a softmax over the candidates of the step (Yi et al. 2019, eq. 3 and 4).

    `target_B` (int64) is each row's target as a column. `log_q_C` is the logarithm of each candidate's probability of
    being in the step; it is subtracted, so that popular items are not penalised for being negatives often.
    `excluded_BC` (bool) marks candidates that are no negatives of a row, such as copies of its target or other items
    of its user; the target itself is never excluded. `label_smoothing` is the share of the target distribution that is
    spread evenly over the remaining candidates (Szegedy et al. 2016, section 7).
    """
    if log_q_C is not None:
        logits_BC = logits_BC - log_q_C
    hidden_BC = torch.zeros_like(logits_BC, dtype=torch.bool)
    if excluded_BC is not None:
        columns_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
        hidden_BC = excluded_BC & (columns_C != target_B[:, None])
        logits_BC = logits_BC.masked_fill(hidden_BC, float("-inf"))
    value = mean(functional.cross_entropy(logits_BC, target_B, reduction="none"), weight_B) \
        if weight_B is not None else functional.cross_entropy(logits_BC, target_B)
    if label_smoothing == 0:
        return value
    mean_B = logits_BC.masked_fill(hidden_BC, 0.0).sum(dim=1) / (~hidden_BC).sum(dim=1)
    evenly = mean(logits_BC.logsumexp(dim=1) - mean_B, weight_B)
    return (1 - label_smoothing) * value + label_smoothing * evenly


def softmax_of_rows_loss(positive_B: torch.Tensor, logits_SC: torch.Tensor, excluded_SC: torch.Tensor,
                         user_B: torch.Tensor, log_weight: float = 0.0,
                         weight_B: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of each positive among itself and the candidates that are unknown to its user.

    Like `softmax_loss` without the candidates in `excluded_SC` (the user's known items), but with one sum of
    exponentials per user instead of per interaction. `user_B` (int64) is the user of each positive as a row of
    `logits_SC`; each candidate represents exp(log_weight) catalogue items.
    """
    # Finite, since the gradient of a softmax over nothing is NaN; -1e9 gives a row without negatives weight 0.
    hidden_SC = logits_SC.masked_fill(excluded_SC, -1e9)
    rest_S = hidden_SC.logsumexp(dim=1) + log_weight
    return mean(functional.softplus(rest_S.index_select(0, user_B) - positive_B), weight_B)
