"""Adversarial training: the loss under the worst small perturbation of the lowest trained layer's input.

Perturbation sizes are shares of the norm of the perturbed vector, so a size means the same for every layer and encoder;
the papers use sizes for embeddings of unit variance. A vector without a gradient, such as padding, is not perturbed.
The returned loss is an ordinary scalar: `backward()` on it, scaled or not, gives the gradients of the whole loss.

Shapes: (..., D) any number of vectors of D numbers; B rows, C candidates.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.nn import functional

from llmrec_cli.settings.adversarial import (
    AdversarialSettings,
    AprSettings,
    FgmSettings,
    FreeLbSettings,
    NoAdversarySettings,
    PgdSettings,
    VirtualSettings,
)
from llmrec_cli.settings.base import implementation_of

Loss = Callable[[torch.Tensor], torch.Tensor]
LossOfAll = Callable[[Sequence[torch.Tensor]], torch.Tensor]
S = TypeVar("S", bound=AdversarialSettings)


class Attack(ABC, Generic[S]):
    """An adversary: adds the loss under perturbation to the clean loss."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def loss(self, loss: Loss, hidden: torch.Tensor, outputs: Loss | None) -> torch.Tensor:
        """Return the training loss with `hidden` perturbed; see `adversarial_loss`."""
        return self.loss_of_all(lambda tensors: loss(tensors[0]), [hidden])

    @abstractmethod
    def loss_of_all(self, loss: LossOfAll, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the training loss with all `tensors` perturbed."""


class NoAttack(Attack[NoAdversarySettings]):
    """Plain training."""

    def loss_of_all(self, loss: LossOfAll, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the clean loss."""
        return loss(tensors)


class GradientAttack(Attack[FgmSettings | AprSettings]):
    """One step along the gradient of hidden states (Miyato et al. 2017) or, with apr, embeddings (He et al. 2018)."""

    def loss_of_all(self, loss: LossOfAll, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the clean loss plus the weighted loss under perturbation."""
        value, gradients = _spent(loss, tensors, None)
        deltas = self.perturbations(loss, tensors, gradients)
        return value + self.settings.weight * loss([t + delta for t, delta in zip(tensors, deltas, strict=True)])

    def perturbations(self, loss: LossOfAll, tensors: Sequence[torch.Tensor],
                      gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the perturbations, given the gradients of the clean loss."""
        return [fgm(t.detach(), gradient, self.settings.epsilon, self.settings.norm)
                for t, gradient in zip(tensors, gradients, strict=True)]


class PgdAttack(GradientAttack):
    """Several steps along the gradient, each projected into a ball (Madry et al. 2018, from eq. 2.2).

    Differs: starts at the clean point instead of a random one near it, so the clean pass doubles as the first step.
    """

    settings: PgdSettings

    def perturbations(self, loss: LossOfAll, tensors: Sequence[torch.Tensor],
                      gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the perturbations after all steps."""
        fixed = [t.detach() for t in tensors]
        deltas = [torch.zeros_like(t) for t in fixed]
        for step in range(self.settings.steps):
            if step:
                leaves = [(t + d).requires_grad_(True) for t, d in zip(fixed, deltas, strict=True)]
                gradients = torch.autograd.grad(loss(leaves), leaves)
            deltas = _take_step(fixed, deltas, gradients, self.settings)
        return deltas


class FreeLbAttack(Attack[FreeLbSettings]):
    """Training with the gradients of all ascent steps (Zhu et al. 2020, alg. 1).

    Differs: starts at the clean point instead of a random one near it.
    """

    def loss_of_all(self, loss: LossOfAll, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the mean loss over the clean point and all points of the ascent."""
        fixed = [t.detach() for t in tensors]
        deltas = [torch.zeros_like(t) for t in fixed]
        values = []
        for _ in range(self.settings.steps - 1):
            value, gradients = _spent(loss, tensors, deltas)
            values.append(value)
            deltas = _take_step(fixed, deltas, gradients, self.settings)
        values.append(loss([t + delta for t, delta in zip(tensors, deltas, strict=True)]))
        return torch.stack(values).mean()


class VirtualAttack(Attack[VirtualSettings]):
    """Virtual adversarial training: penalises change of the outputs (Miyato et al. 2018, eq. 5 to 8 and alg. 1)."""

    def loss(self, loss: Loss, hidden: torch.Tensor, outputs: Loss | None) -> torch.Tensor:
        """Return the loss plus the weighted change of the outputs."""
        assert outputs is not None, "virtual compares outputs"
        return loss(hidden) + self.settings.weight * self.change(outputs, hidden)

    def loss_of_all(self, loss: LossOfAll, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Raise AssertionError: heads that learn rows do not support adversarial=virtual."""
        raise AssertionError("virtual compares outputs")

    def change(self, outputs: Loss, hidden: torch.Tensor) -> torch.Tensor:
        """Return the divergence of the outputs in the direction of their fastest change.

        Power iteration on the second derivative of the divergence finds the direction, from a random one. All passes
        use the same dropout masks; otherwise the comparison would measure dropout.
        """
        fixed, direction = hidden.detach(), torch.randn_like(hidden)
        with torch.no_grad(), _same_randomness(hidden.device):
            clean_BC = outputs(fixed)
        for _ in range(self.settings.steps):
            probe = fgm(fixed, direction, self.settings.probe).requires_grad_(True)
            with _same_randomness(hidden.device):
                distance = divergence(clean_BC, outputs(fixed + probe))
            direction = torch.autograd.grad(distance, probe)[0]
        with _same_randomness(hidden.device):
            return divergence(clean_BC, outputs(hidden + fgm(fixed, direction, self.settings.epsilon)))


def adversarial_loss(loss: Loss, hidden: torch.Tensor, settings: AdversarialSettings | None,
                     outputs: Loss | None = None) -> torch.Tensor:
    """Return `loss(hidden)` plus the adversary's term.

    `hidden` (..., D) is the input of the lowest trained layer, with or without a graph; the first call of `loss` is the
    clean one. `outputs(hidden)` are the logits (B, C) behind the loss, which adversarial=virtual compares: a softmax
    over the candidates, or [0, logit] for rows that are likes or dislikes.
    """
    return attack_of(settings).loss(loss, hidden, outputs)


def adversarial_loss_of_all(loss: LossOfAll, tensors: Sequence[torch.Tensor],
                            settings: AdversarialSettings | None) -> torch.Tensor:
    """Return `loss(tensors)` plus the adversary's term, with all `tensors` perturbed."""
    return attack_of(settings).loss_of_all(loss, tensors)


def attack_of(settings: AdversarialSettings | None) -> Attack[Any]:
    """Return the attack that `settings` name; None for no adversary."""
    settings = settings or NoAdversarySettings()
    attack: Attack[Any] = implementation_of(settings)(settings)
    return attack


def fgm(hidden: torch.Tensor, gradient: torch.Tensor, size: float, norm: str = "l2") -> torch.Tensor:
    """Return a perturbation of `hidden` (..., D) uphill (Miyato et al. 2017, eq. 5; linf: Goodfellow et al. 2015).

    Differs: the papers normalise the gradient over a whole sequence. Here each vector moves by `size` times its own
    norm; with linf each of its numbers moves by `size` times the vector's root mean square.
    """
    if norm == "linf":
        return size * _root_mean_square(hidden) * gradient.sign()
    length = gradient.norm(dim=-1, keepdim=True)
    direction = torch.where(length > 0, gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny), 0.0)
    return size * hidden.norm(dim=-1, keepdim=True) * direction


def project(delta: torch.Tensor, hidden: torch.Tensor, size: float, norm: str = "l2") -> torch.Tensor:
    """Return the perturbation (..., D) nearest to `delta` whose norm is at most `size` times that of `hidden`."""
    if norm == "linf":
        limit = size * _root_mean_square(hidden)
        return torch.maximum(torch.minimum(delta, limit), -limit)
    limit = size * hidden.norm(dim=-1, keepdim=True)
    return delta * (limit / delta.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1.0)


def divergence(clean_BC: torch.Tensor, perturbed_BC: torch.Tensor) -> torch.Tensor:
    """Return the mean over rows of the Kullback-Leibler divergence of the softmax of logits, in nats."""
    clean_BC, perturbed_BC = (logits.float().log_softmax(dim=1) for logits in (clean_BC, perturbed_BC))
    return functional.kl_div(perturbed_BC, clean_BC, reduction="batchmean", log_target=True)


def _take_step(fixed: Sequence[torch.Tensor], deltas: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor],
             settings: PgdSettings | FreeLbSettings) -> list[torch.Tensor]:
    """Return the perturbations after one more step uphill, projected into the ball."""
    return [project(d + fgm(t, g, settings.step_size, settings.norm), t, settings.epsilon, settings.norm)
            for t, d, g in zip(fixed, deltas, gradients, strict=True)]


def _spent(loss: LossOfAll, tensors: Sequence[torch.Tensor],
           deltas: Sequence[torch.Tensor] | None) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Return the loss at `tensors` + `deltas`, and its gradients with respect to the tensors.

    One backward pass computes these gradients and those of the parameters. The returned loss holds the parameter
    gradients instead of its graph, so that `backward()` does not compute them again.
    """
    leaves = [t.detach().clone() if deltas is None else t.detach() + deltas[n] for n, t in enumerate(tensors)]
    for leaf in leaves:
        leaf.requires_grad_(True)
    value = loss(leaves)
    parameters = [p for p in _parameters(value) if all(p is not leaf for leaf in leaves)]
    gradients = torch.autograd.grad(value, [*leaves, *parameters], materialize_grads=True)
    own = gradients[:len(leaves)]
    below = [(t, g) for t, g in zip(tensors, own, strict=True) if t.requires_grad]
    held = [*below, *zip(parameters, gradients[len(leaves):], strict=True)]
    result: torch.Tensor = _WithGradients.apply(value.detach(), [g for _, g in held], *(t for t, _ in held))
    return result, own


class _WithGradients(torch.autograd.Function):
    """A scalar with gradients that are computed already."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, gradients: list[torch.Tensor], *_: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        return (None, None, *(upstream[0].to(g.dtype) * g for g in ctx.gradients))


def _parameters(value: torch.Tensor) -> list[torch.Tensor]:
    """Return the leaves of a value's graph, in an order that depends on the graph alone."""
    leaves: dict[int, torch.Tensor] = {}
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad, which torch has no public name for.
            leaves[id(node.variable)] = node.variable
        waiting += [following for following, _ in node.next_functions]
    return list(leaves.values())


def _root_mean_square(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.square().mean(dim=-1, keepdim=True).sqrt()


def _same_randomness(device: torch.device) -> Any:
    """Return a context that restores torch's random streams afterwards, so that each pass draws the same numbers."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
