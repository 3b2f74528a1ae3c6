"""Content: what items are, joined with what people chose."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class ContentSettings(HeadSettings):
    """Kernel ridge from item features to what people chose, blended with the nearest items by features.

    What is null is chosen on cold items: those of the validation split where it has enough of them, otherwise a
    fifth of the items in training, hidden for the purpose.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.content.head.Content"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "content"
    features: FeatureWeightsSettings = field(default_factory=lambda: FeatureWeightsSettings(text=1.0, attributes=0.7))
    """Only their ratios matter: what is known of an item is normalised to length 1 together."""
    gamma: float | None = None
    """Sharpness of the kernel exp(gamma (cosine - 1)), above 0: high generalises little; null to learn it."""
    l2: float | None = None
    """Ridge penalty, above 0: high smooths more; null to learn it."""
    denoise: float | None = None
    """Share of EASE's scores in what the ridge learns to predict, 0 to 1, the rest being the interactions as they are;
    more suits denser data; null to learn it."""
    denoise_l2: float = 1000.0
    """Ridge penalty of that EASE, above 0."""
    blend: float | None = None
    """Share of the neighbours by features beside the ridge, 0 to 1; null to learn it."""
    k: int = 20
    """Neighbours of an item among those in training, at least 1."""
    exponent: float = 3.0
    """Power the cosines of neighbours are raised to, above 0; higher trusts near ones more."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.features.text=3", "head.features.attributes=3"],
                "tuned": ["head.features.attributes=0", "head.features.tuned=true", "loss=distillation",
                          "peft=embedding_adapter", "peft.rank=4"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("gamma", "l2", above=0)
        yield from self.check("denoise", "blend", least=0, most=1)
        yield from self.check("k", least=1)
        yield from self.check("exponent", "denoise_l2", above=0)
        yield from self.features.problems_of_all()

    def ranks_by_kernel(self) -> bool:
        return self.blend != 1

    def uses(self) -> set[str]:
        return self.features.uses()
