"""EASE."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.recency import RecencySettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class EaseSettings(RecencySettings):
    """EASE, a linear item-item model (Steck 2019); with item features (Jeunen et al. 2020) if `features` has a
    weight."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ease.head.Ease"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "ease"
    l2: float | None = None
    """Ridge penalty of an item of average popularity, above 0. null: 5 times the average number of interactions of an
    item, close to the best values on MovieLens-100K (200), MovieLens-1M (1000) and an Amazon category (20)."""
    l2_exponent: float = 0.0
    """Growth of the penalty with an item's interactions, l2 * (count / average)^l2_exponent, 0 to 1. 0: the same
    penalty for all items, as in the paper. 0.25 to 0.5 penalises rare items less, so they learn from more other
    items."""
    user_exponent: float = 0.0
    """Weight of a user: (length of history / average)^-user_exponent, 0 to 1. 0: as in the paper. 1: all users have the
    same total weight, however long their history."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    """Weights of item features, for example head.features.text=6; default: none."""
    form: str = "auto"
    """primal | dual | auto: system of equations to solve. primal: an equation per item. dual: an equation per user and
    feature, in double precision. auto: the form that needs less memory. Both give the same scores."""

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
