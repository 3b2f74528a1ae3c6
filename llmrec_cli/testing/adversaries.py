"""Conformance checks of adversaries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.settings.adversarial import ROWS, TEXTS, AdversarialSettings
from llmrec_cli.testing.suite import Check
from llmrec_cli.training.adversary import adversarial_loss, adversarial_loss_of_all

TARGET = torch.tensor([0, 1, 0])


@dataclass(frozen=True)
class AdversaryCase:
    """An example of an adversary."""

    settings: AdversarialSettings

    def value(self, hidden: torch.Tensor, outputs: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the loss of a small model under the adversary, with torch's random stream as in training."""
        def loss(states: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(outputs(states), TARGET)

        with torch.random.fork_rng():
            torch.manual_seed(1)
            if self.settings.perturbs == ROWS:
                return adversarial_loss_of_all(lambda tensors: loss(tensors[0]), [hidden], self.settings)
            return adversarial_loss(loss, hidden, self.settings, outputs)


def _model() -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """Return a perceptron, its output function (to (3, 2)), and hidden states (3, 5, 4)."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        hidden = torch.randn(3, 5, 4)
    return model, lambda states: model(states).sum(dim=1), hidden


def _clean(outputs: Any, hidden: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs(hidden), TARGET)


def it_says_what_it_perturbs(case: AdversaryCase) -> None:
    """`perturbs` is texts, rows, or empty for plain training."""
    assert case.settings.perturbs in ("", TEXTS, ROWS), f"{case.settings.perturbs}"


def the_loss_is_a_finite_number_that_reaches_every_parameter(case: AdversaryCase) -> None:
    """`backward` gives finite gradients of the model and of the perturbed tensors."""
    model, outputs, hidden = _model()
    hidden = hidden.requires_grad_(True)
    value = case.value(hidden * 1, outputs)
    assert value.shape == (), f"shape {tuple(value.shape)}"
    assert torch.isfinite(value), f"{value.item()}"
    value.backward()
    for name, parameter in [*model.named_parameters(), ("hidden", hidden)]:
        assert parameter.grad is not None, f"no gradient of {name}"
        assert torch.isfinite(parameter.grad).all(), f"a gradient of {name} is NaN or infinite"


def a_perturbation_costs_more_than_none(case: AdversaryCase) -> None:
    """The adversarial loss is above the clean loss, or equal to it if nothing is perturbed."""
    _, outputs, hidden = _model()
    value, clean = case.value(hidden, outputs), _clean(outputs, hidden)
    if case.settings.perturbs:
        assert value > clean, f"{value.item()} against a clean {clean.item()}"
    else:
        torch.testing.assert_close(value, clean)


def the_tensors_that_it_is_given_stay_as_they_are(case: AdversaryCase) -> None:
    """Perturbations change copies, because hidden states are cached."""
    _, outputs, hidden = _model()
    before = hidden.clone()
    case.value(hidden, outputs)
    assert torch.equal(hidden, before), "hidden states were changed in place"


def the_same_random_stream_gives_the_same_loss(case: AdversaryCase) -> None:
    """All randomness comes from torch's stream, so that runs are reproducible."""
    _, outputs, hidden = _model()
    assert torch.equal(case.value(hidden, outputs), case.value(hidden, outputs)), "the second loss differs"


ADVERSARY_CHECKS: tuple[Check[AdversaryCase], ...] = (
    it_says_what_it_perturbs, the_loss_is_a_finite_number_that_reaches_every_parameter,
    a_perturbation_costs_more_than_none, the_tensors_that_it_is_given_stay_as_they_are,
    the_same_random_stream_gives_the_same_loss)
