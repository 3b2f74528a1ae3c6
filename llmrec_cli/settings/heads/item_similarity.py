"""Item similarity by features."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.recency import RecencySettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class ItemSimilaritySettings(RecencySettings):
    """Items most similar to the history by texts and attributes; nothing is trained unless features.tuned=true."""

    implementation: ClassVar[str] = "llmrec_cli.heads.item_similarity.ItemSimilarity"
    learns_from: ClassVar[str] = SIMILARITIES
    needs_features: ClassVar[bool] = True
    kind: str = "item_similarity"
    features: FeatureWeightsSettings = field(default_factory=lambda: FeatureWeightsSettings(text=1.0))
    """Weights of the item features. Only their ratios matter, since an item's joint feature vector is normalised to
    length 1."""
    exponent: float = 3.0
    """Power applied to the cosines, above 0; higher gives near items more weight."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.features.text=3", "head.features.attributes=3", "head.recency=place",
                     "head.recency_half_life=6"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("exponent", above=0)
        yield from self.features.check_any_used()

    def uses(self) -> set[str]:
        return self.features.uses()
