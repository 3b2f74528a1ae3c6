"""Adversarial training: a worst-case perturbation of the input of the lowest trained layer, or of embedding rows.

Sizes are relative to the perturbed vector (of a token, an item or a user), so that they mean the same for every layer,
encoder and head: a share of its norm with `norm=l2`, of its root mean square per number with `norm=linf`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings

_NORMS = ("l2", "linf")
TEXTS, ROWS = "texts", "rows"
"""Targets of an adversary."""


@dataclass
class AdversarialSettings(OptionSettings):
    """Settings of every adversary."""

    perturbs: ClassVar[str] = TEXTS
    """texts (hidden states or text vectors) | rows (embedding rows of users and items); empty for no perturbation."""
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
    """Size of the perturbation, above 0, as a share of the norm of the perturbed vector."""
    weight: float = 1.0
    """Weight of the loss under perturbation, added to the clean loss; above 0."""
    norm: str = "l2"
    """l2 | linf: direction of the perturbation. l2: along the gradient. linf: the same amount in every number, with the
    gradient's signs."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "linf": ["adversarial.norm=linf"]}

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", above=0)
        yield from self.check("norm", among=_NORMS)


@dataclass
class PgdSettings(FgmSettings):
    """Projected gradient descent (Madry et al. 2018): several steps, each projected back into a ball of size
    epsilon."""

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
    """FreeLB (Zhu et al. 2020): training uses the mean of the gradients of all ascent steps.

    The first step is the clean one, so there is no setting `weight`.
    """

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.FreeLbAttack"
    kind: str = "freelb"
    epsilon: float = 0.05
    """Largest size of the perturbation, above 0, as a share of the norm of the perturbed vector."""
    norm: str = "l2"
    """l2 | linf: direction of the perturbation. l2: along the gradient. linf: the same amount in every number, with the
    gradient's signs."""
    steps: int = 3
    """Passes including the clean one, at least 2; each costs a forward and a backward pass."""
    step_size: float = 0.025
    """Size of a step, above 0, in the same unit as epsilon."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", above=0)
        yield from self.check("norm", among=_NORMS)
        yield from self.check("steps", least=2)
        yield from _problems_of_steps(self, self.steps - 1)


@dataclass
class VirtualSettings(AdversarialSettings):
    """Virtual adversarial training (Miyato et al. 2018): predictions must not change under perturbation; needs no
    labels."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.VirtualAttack"
    kind: str = "virtual"
    epsilon: float = 0.05
    """Size of the perturbation, above 0, as a share of the norm of the perturbed vector."""
    weight: float = 1.0
    """Weight of the divergence, added to the loss; above 0."""
    steps: int = 1
    """Power iterations to find the direction, at least 1; each costs a forward and a backward pass."""
    probe: float = 0.01
    """Step size of the power iteration (xi in the paper), above 0 and at most epsilon."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", "probe", above=0)
        yield from self.check("probe", most=self.epsilon)
        yield from self.check("steps", least=1)


@dataclass
class AprSettings(AdversarialSettings):
    """Adversarial personalised ranking (He et al. 2018): perturbs the embedding rows of users and items."""

    implementation: ClassVar[str] = "llmrec_cli.training.adversary.GradientAttack"
    perturbs: ClassVar[str] = ROWS
    kind: str = "apr"
    epsilon: float = 0.1
    """Size of the perturbation, above 0: a share of the norm of each user's and item's row."""
    weight: float = 1.0
    """Weight of the loss under perturbation, added to the clean loss; above 0."""
    norm: str = "l2"
    """l2 | linf: direction of the perturbation. l2: along the gradient. linf: the same amount in every number, with the
    gradient's signs."""

    def problems(self) -> Iterator[str]:
        yield from self.check("epsilon", "weight", above=0)
        yield from self.check("norm", among=_NORMS)


def _problems_of_steps(settings: PgdSettings | FreeLbSettings, num_ascents: int) -> Iterator[str]:
    yield from settings.check("steps", least=1)
    yield from settings.check("step_size", above=0)
    reach = num_ascents * settings.step_size
    if 0 < reach < settings.epsilon * (1 - 1e-9):
        yield (f"epsilon={settings.epsilon}: has no effect, since {num_ascents} ascents of step_size="
               f"{settings.step_size} reach {reach:g} at most; raise steps or step_size, or lower epsilon")


ADVERSARIES: dict[str, type[AdversarialSettings]] = {
    "none": NoAdversarySettings, "fgm": FgmSettings, "pgd": PgdSettings, "freelb": FreeLbSettings,
    "virtual": VirtualSettings, "apr": AprSettings}
