"""RP3beta."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings


@dataclass
class Rp3BetaSettings(HeadSettings):
    """Random walks of three steps from the user, with popular items damped (Christoffel et al. 2015)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.rp3beta.Rp3Beta"
    kind: str = "rp3beta"
    k: int = 30
    """Number of neighbours per item, those with the most probable walks to it, at least 1."""
    alpha: float = 0.7
    """Power applied to each step's probability, above 0; higher prefers steps through users and items with few
    interactions."""
    beta: float = 0.5
    """Damping of popular items, at least 0: scores are divided by an item's interactions to this power."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.k=10"], "damped": ["head.k=10", "head.alpha=1.2", "head.beta=0.8"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("k", least=1)
        yield from self.check("alpha", above=0)
        yield from self.check("beta", least=0)
