"""EASE."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeights


@dataclass
class Ease(HeadSettings):
    """EASE (Steck 2019), collective when features have a weight (Jeunen et al. 2020)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ease.Ease"
    kind: str = "ease"
    l2: float = 200.0
    """Ridge penalty, above 0; more for denser data."""
    features: FeatureWeights = field(default_factory=FeatureWeights)

    def problems(self) -> Iterator[str]:
        yield from self.check("l2", above=0)

    def uses(self) -> set[str]:
        return {"encoder"} if self.features.text > 0 else set()
