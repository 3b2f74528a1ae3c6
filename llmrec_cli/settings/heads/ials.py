"""iALS."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class IalsSettings(HeadSettings):
    """Implicit ALS, matrix factorisation by alternating least squares (Hu et al. 2008; Rendle et al. 2022); item
    features with a weight are a prior of the item factors."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ials.head.Ials"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "ials"
    embedding_size: int = 64
    """Size of user and item factors, at least 1."""
    unobserved_weight: float = 0.3
    """Weight of a user-item pair without an interaction, relative to 1 for a pair with an interaction, above 0, at most
    1. About 0.3 suits dense data (MovieLens), 0.02 to 0.1 sparse data (a handful of interactions per user)."""
    l2: float = 0.4
    """Ridge penalty, above 0, relative to the penalty that random data of the same density needs, so that the best
    number varies less between data sets: 0.2 to 0.6 in docs/experiments.md."""
    frequency_exponent: float = 1.0
    """Growth of the penalty with the number of interactions, 0 to 1. 0: the same for all users and items. 1: in
    proportion to the total weight of their pairs, observed or not. The mean penalty is unchanged."""
    iterations: int = 8
    """Number of alternations, each updating the user factors and then the item factors, at least 1."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    """Weights of item features, for example head.features.text=1; default: none. With weight w, features explain w^2 /
    (1 + w^2) of the prior variance of the item factors."""

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
