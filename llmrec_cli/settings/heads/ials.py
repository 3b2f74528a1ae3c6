"""iALS."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class IalsSettings(HeadSettings):
    """Implicit ALS (Hu et al. 2008; Rendle et al. 2022), item factors drawn to their features where these have a
    weight."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ials.head.Ials"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "ials"
    embedding_size: int = 64
    """Size of user and item factors, at least 1."""
    unobserved_weight: float = 0.3
    """Weight of a user-item pair without an interaction beside 1 for one with it, above 0, at most 1. About .3 suits
    dense data (MovieLens); sparse data (a handful of interactions a user) want .02 to .1."""
    l2: float = 0.4
    """Ridge penalty, above 0, in units of what noise in data as full as this needs, so that the best number differs
    less between data sets than the penalty itself: .2 to .6 on those tried (docs/experiments.md)."""
    frequency_exponent: float = 1.0
    """How the penalty grows with the number of interactions, 0 to 1: 0 is the same for all, 1 in proportion to the
    weight of all pairs, observed or not. The mean penalty stays."""
    iterations: int = 8
    """Times that user factors, then item factors are improved, at least 1."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    """With weight w, features explain w^2 / (1 + w^2) of what the item factors differ by before anything is seen."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        size = "head.embedding_size=16"
        return {"": [size], "features": [size, "head.features.text=1", "head.features.attributes=1"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", "iterations", least=1)
        yield from self.check("l2", above=0)
        yield from self.check("unobserved_weight", above=0, most=1)
        yield from self.check("frequency_exponent", least=0, most=1)

    def uses(self) -> set[str]:
        return self.features.uses()
