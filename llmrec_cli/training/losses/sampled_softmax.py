"""Softmax over the target and shared negatives.

Shapes: K positions of a chunk, C negatives.
"""

import torch

from llmrec_cli.settings.loss import SampledSoftmaxSettings
from llmrec_cli.training.losses.shared_negatives import SharedNegativesLoss, Terms


class SampledSoftmax(SharedNegativesLoss[SampledSoftmaxSettings]):
    """Cross-entropy of the target among itself and the negatives (Jean et al. 2015, section 3; Klenitskiy and Vasilev
    2023 for next-item prediction).

    Differs: one set of negatives for all positions of a step.
    """

    def terms(self, num_negatives: int, num_items: int) -> Terms:
        """Return the cross-entropy, whose derivatives are the probabilities, minus 1 for the positive."""
        return _cross_entropy


def _cross_entropy(positive_K: torch.Tensor, scores_KC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    highest_K = torch.maximum(scores_KC.amax(dim=1), positive_K)
    scores_KC.sub_(highest_K[:, None]).exp_()
    sums_K = scores_KC.sum(dim=1) + (positive_K - highest_K).exp()
    scores_KC.div_(sums_K[:, None])
    losses_K = sums_K.log() + highest_K - positive_K
    # 1 - p of the positive, without the cancellation of small probabilities of negatives.
    return losses_K, -scores_KC.sum(dim=1)
