"""Turbo-CF."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.recency import RecencySettings

FILTERS = ("linear", "second", "third")


@dataclass
class TurboCfSettings(RecencySettings):
    """Turbo-CF, a polynomial low-pass filter on the item graph (Park et al. 2024); nothing is solved or trained."""

    implementation: ClassVar[str] = "llmrec_cli.heads.turbo_cf.TurboCf"
    kind: str = "turbo_cf"
    alpha: float = 0.6
    """Asymmetry of the normalisation, 0 to 1: interactions are divided by (length of the history)^alpha and (the item's
    interactions)^(1 - alpha). Higher damps active users more and popular items less."""
    power: float = 0.7
    """Power applied to each item-item value, above 0; below 1 makes strong and weak ones more alike."""
    filter: str = "linear"
    """linear | second | third: P, 2 P - P^2, or P + 0.01 (-P^3 + 10 P^2 - 29 P) of the item-item matrix P. second and
    third take a matrix more of memory, and time that grows with the cube of the items."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("alpha", least=0, most=1)
        yield from self.check("power", above=0)
        yield from self.check("filter", among=FILTERS)

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": [], "second": ["head.filter=second", "head.alpha=0.5", "head.power=1.2"],
                "third": ["head.filter=third"]}
