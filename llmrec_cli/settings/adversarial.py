"""Adversarial training: a worst-case perturbation of the input of the lowest trained layer, or of learned rows.

Sizes are shares of what is perturbed, so that they mean the same for every layer, encoder and head: with `norm=l2` of
the norm of each vector (of a token, an item or a user), with `norm=linf` of its root mean square, for each number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings

_NORMS = ("l2", "linf")
TEXTS, ROWS = "texts", "rows"
"""The two things that an adversary can perturb."""


@dataclass
class AdversarialSettings(OptionSettings):
    """Settings of every adversary."""

    perturbs: ClassVar[str] = TEXTS
    """texts (hidden states or vectors of them) | rows (those that a head learns of users and items); empty where
    training is plain."""
    kind: str = ""
    """The option's name; choose with adversarial=<name>."""


@dataclass
class NoAdversarySettings(AdversarialSettings):
    """Plain training."""

    perturbs: ClassVar[str] = ""
    implementation: ClassVar[str] = "llmrec_cli.training.adversary.NoAttack"
    kind: str = "none"


@dataclass
class FgmSettings(AdversarialSettings):
    """Fast gradient method (Miyato et al. 2017, eq. 5): one step of size epsilon along the gradient."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.GradientAttack"
    kind: str = "fgm"
    epsilon: float = 0.05
    """Size of the perturbation, above 0: a share of the norm of what it perturbs, per token or vector."""
    weight: float = 1.0
    """Weight of the loss under perturbation beside the clean loss; above 0."""
    norm: str = "l2"
    """l2 | linf: along the gradient, or by the same amount in every number, with the gradient's signs."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "linf": ["adversarial.norm=linf"]}

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", above=0)
        yield from self.check("norm", among=_NORMS)


@dataclass
class PgdSettings(FgmSettings):
    """Projected gradient descent (Madry et al. 2018): several steps, each put back into a ball of size epsilon."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.PgdAttack"
    kind: str = "pgd"
    steps: int = 3
    """Ascent steps, at least 1; each costs a forward and a backward pass."""
    step_size: float = 0.025
    """Size of a step, above 0, in the same unit as epsilon."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _problems_of_steps(self, self.steps)


@dataclass
class FreeLbSettings(AdversarialSettings):
    """FreeLB (Zhu et al. 2020): the gradients of all ascent steps are trained with, each counting the same.

    The first step is the clean one, so there is no weight beside it.
    """

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.FreeLbAttack"
    kind: str = "freelb"
    epsilon: float = 0.05
    """Largest size of the perturbation, above 0: a share of the norm of what it perturbs, per token or vector."""
    norm: str = "l2"
    """l2 | linf: along the gradient, or by the same amount in every number, with the gradient's signs."""
    steps: int = 3
    """Passes, at least 2, the clean one counted; each costs a forward and a backward pass."""
    step_size: float = 0.025
    """Size of a step, above 0, in the same unit as epsilon."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", above=0)
        yield from self.check("norm", among=_NORMS)
        yield from self.check("steps", least=2)
        yield from _problems_of_steps(self, self.steps - 1)


@dataclass
class VirtualSettings(AdversarialSettings):
    """Virtual adversarial training (Miyato et al. 2018): what is said must not change under perturbation; no labels."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.VirtualAttack"
    kind: str = "virtual"
    epsilon: float = 0.05
    """Size of the perturbation, above 0: a share of the norm of what it perturbs, per token or vector."""
    weight: float = 1.0
    """Weight of the divergence beside the loss; above 0."""
    steps: int = 1
    """Power iterations to find the direction, at least 1; each costs a forward and a backward pass."""
    probe: float = 0.01
    """Size of the step that the direction is found with (the paper's xi), above 0 and at most epsilon."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", "probe", above=0)
        yield from self.check("probe", most=self.epsilon)
        yield from self.check("steps", least=1)


@dataclass
class AprSettings(AdversarialSettings):
    """Adversarial personalised ranking (He et al. 2018): the rows of users and items that a step learns, perturbed."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.GradientAttack"
    perturbs: ClassVar[str] = ROWS
    kind: str = "apr"
    epsilon: float = 0.1
    """Size of the perturbation, above 0: a share of the norm of each user's and item's row."""
    weight: float = 1.0
    """Weight of the loss under perturbation beside the clean loss; above 0."""
    norm: str = "l2"
    """l2 | linf: along the gradient, or by the same amount in every number, with the gradient's signs."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", above=0)
        yield from self.check("norm", among=_NORMS)


def _problems_of_steps(settings: PgdSettings | FreeLbSettings, num_ascents: int) -> Iterator[str]:
    yield from settings.check("steps", least=1)
    yield from settings.check("step_size", above=0)
    reached = num_ascents * settings.step_size
    if 0 < reached < settings.epsilon * (1 - 1e-9):
        yield (f"epsilon={settings.epsilon}: has no effect, since {num_ascents} ascents of step_size="
               f"{settings.step_size} reach {reached:g} at most; raise steps or step_size, or lower epsilon")


ADVERSARIES: dict[str, type[AdversarialSettings]] = {
    "none": NoAdversarySettings, "fgm": FgmSettings, "pgd": PgdSettings, "freelb": FreeLbSettings,
    "virtual": VirtualSettings, "apr": AprSettings}
