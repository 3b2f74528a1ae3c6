"""Content-based recommendations from item features."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.recency import RecencySettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class ContentSettings(RecencySettings):
    """Kernel ridge regression from item features to interactions, blended with the nearest items by features.

    Settings that are null are chosen on cold items: those of the validation split if there are enough, else a fifth of
    the training items, which are hidden for this purpose.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.content.head.Content"
    learns_from: ClassVar[str] = SIMILARITIES
    needs_features: ClassVar[bool] = True
    is_for_cold_items: ClassVar[bool] = True
    kind: str = "content"
    features: FeatureWeightsSettings = field(default_factory=lambda: FeatureWeightsSettings(text=1.0, attributes=0.7))
    """Weights of the item features. Only their ratios matter, since an item's joint feature vector is normalised to
    length 1."""
    gamma: float | None = None
    """Sharpness of the kernel exp(gamma (cosine - 1)), above 0; higher generalises less. null: chosen on cold-start
    items."""
    l2: float | None = None
    """Ridge penalty, above 0; higher smooths more. null: chosen on cold-start items."""
    denoise: float | None = None
    """Share of EASE's scores in the target of the regression, 0 to 1; the rest is the interactions themselves. Higher
    suits denser data. null: chosen on cold-start items."""
    denoise_l2: float = 1000.0
    """Ridge penalty of the EASE model of `denoise`, above 0."""
    blend: float | None = None
    """Share of the nearest items by features in the score, 0 to 1; the rest is the regression. null: chosen on
    cold-start items."""
    k: int = 20
    """Number of an item's nearest training items, at least 1."""
    exponent: float = 3.0
    """Power applied to the cosines of neighbours, above 0; higher gives near neighbours more weight."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.features.text=3", "head.features.attributes=3"],
                "tuned": ["head.features.attributes=0", "head.features.tuned=true",
                          "head.features.frozen_text=0.5", "loss=readers",
                          "peft=embedding_adapter", "peft.rank=4"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("gamma", "l2", above=0)
        yield from self.check("denoise", "blend", least=0, most=1)
        yield from self.check("k", least=1)
        yield from self.check("exponent", "denoise_l2", above=0)
        yield from self.features.check_any_used()

    def ranks_by_kernel(self) -> bool:
        return self.blend != 1

    def uses(self) -> set[str]:
        return self.features.uses()
