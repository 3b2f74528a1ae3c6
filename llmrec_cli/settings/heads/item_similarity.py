"""Items like those in the history."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class ItemSimilaritySettings(HeadSettings):
    """Items most like those of a history, by texts and attributes; nothing is learned but, where tuned, texts."""

    implementation: ClassVar[str] = "llmrec_cli.heads.item_similarity.ItemSimilarity"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "item_similarity"
    features: FeatureWeightsSettings = field(default_factory=lambda: FeatureWeightsSettings(text=1.0))
    """Only their ratios matter: what is known of an item is normalised to length 1 together."""
    exponent: float = 3.0
    """Power the cosines are raised to, above 0; higher trusts near items more."""
    recency: float = 1.0
    """Weight of an item of the history beside the one that came after it, above 0, at most 1; 1 weighs all alike."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.features.text=3", "head.features.attributes=3", "head.recency=0.9"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("exponent", above=0)
        yield from self.check("recency", above=0, most=1)
        yield from self.features.problems_of_all()

    def uses(self) -> set[str]:
        return self.features.uses()
