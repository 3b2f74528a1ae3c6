"""Adversarial training: the loss under the worst small perturbation of what the lowest trained layer is given."""

from collections.abc import Callable

import torch

from llmrec_cli.settings.adversarial import AdversarialSettings, Fgm, NoAdversary


def fgm(hidden: torch.Tensor, gradient: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return the perturbation of `hidden` (..., D) along the loss's gradient (Miyato et al. 2017, eq. 5).

    Differs: the paper normalises the gradient over a whole sequence of embeddings of unit variance; here each vector is
    moved by `epsilon` times its own norm, so that the strength means the same for every layer and encoder. A vector
    without a gradient, such as padding, is not moved.
    """
    length = gradient.norm(dim=-1, keepdim=True)
    direction = torch.where(length > 0, gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny), 0.0)
    return epsilon * hidden.norm(dim=-1, keepdim=True) * direction


def adversarial_loss(loss: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor,
                     settings: AdversarialSettings) -> torch.Tensor:
    """Return `loss(hidden)`, plus with an adversary the weighted loss where `hidden` is perturbed against it.

    `hidden` (..., D) is the input of the lowest trained layer, kept or with a graph of its own. With an adversary the
    gradients of the clean loss are added to the parameters here, since the same backward pass also finds the attack:
    call `backward()` on what is returned, once. Costs two forward and two backward passes.
    """
    if isinstance(settings, NoAdversary):
        return loss(hidden)
    assert isinstance(settings, Fgm)
    leaf = hidden.detach().requires_grad_(True)
    clean = loss(leaf)
    clean.backward()
    assert leaf.grad is not None
    value = clean.detach() + settings.weight * loss(hidden + fgm(leaf.detach(), leaf.grad, settings.epsilon))
    if hidden.requires_grad:
        # Worth 0, but its gradient carries that of the clean loss on to what lies below.
        below = (hidden * leaf.grad).sum()
        value = value + below - below.detach()
    return value
