"""EASE."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class EaseSettings(HeadSettings):
    """EASE (Steck 2019), collective when features have a weight (Jeunen et al. 2020)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ease.head.Ease"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "ease"
    l2: float | None = None
    """Ridge penalty of an item of average popularity, above 0; null takes 5 times the average interactions of an item,
    which is near the best of MovieLens-100K (200), MovieLens-1M (1000) and an Amazon category (20)."""
    l2_exponent: float = 0.0
    """How the penalty grows with an item's interactions, l2 * (count / average)^l2_exponent, 0 to 1; 0 gives all items
    the same, as the paper does, 0.25 to 0.5 lets rare items be explained by more."""
    user_exponent: float = 0.0
    """A user weighs (length of history / average)^-user_exponent, 0 to 1; 0 as the paper does, 1 gives all users the
    same say, however long their history."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    form: str = "auto"
    """primal | dual | auto: an equation for each item, or one for each user and feature in twice the precision; auto
    takes what needs less memory. They give the same scores."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.l2=20"], "features": ["head.l2=20", "head.features.text=3", "head.features.attributes=3"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("l2", above=0)
        yield from self.check("l2_exponent", "user_exponent", least=0, most=1)
        yield from self.check("form", among=("auto", "primal", "dual"))

    def uses(self) -> set[str]:
        return self.features.uses()
