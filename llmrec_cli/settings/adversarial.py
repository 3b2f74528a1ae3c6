"""Adversarial training: a worst-case perturbation of the input of the lowest trained layer."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class AdversarialSettings(Settings):
    """What every choice has."""

    kind: str = ""
    """The option's name; choose with adversarial=<name>."""


@dataclass
class NoAdversary(AdversarialSettings):
    """Plain training."""

    kind: str = "none"


@dataclass
class Fgm(AdversarialSettings):
    """Fast gradient method (Miyato et al. 2017, eq. 5): one step of norm epsilon along the gradient."""

    kind: str = "fgm"
    epsilon: float = 0.05
    """Norm of the perturbation as a share of the norm of what it perturbs, per token or vector; above 0."""
    weight: float = 1.0
    """Weight of the loss under perturbation beside the clean loss; above 0."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", above=0)


ADVERSARIES = {"none": NoAdversary, "fgm": Fgm}
