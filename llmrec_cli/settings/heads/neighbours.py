"""User-kNN and item-kNN."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.recency import RecencySettings
from llmrec_cli.settings.loss import SIMILARITIES


@dataclass
class NeighbourSettings(HeadSettings):
    """Settings of user-kNN and item-kNN."""

    k: int = 100
    """Number of neighbours, at least 1."""
    shrinkage: float = 10.0
    """Added to the denominator of the similarity, at least 0; damps similarities supported by few interactions."""
    weighting: str = "none"
    """none | tfidf | bm25: weighting of interactions before similarities are computed."""
    k1: float = 1.2
    """With weighting=bm25: damping of long rows, above 0; higher damps more."""
    b: float = 0.75
    """With weighting=bm25: normalisation by a row's length relative to the average, 0 (none) to 1 (full)."""
    normalisation: float = 1.0
    """Power of the norms in the denominator of the similarity, 0 to 1: 1 is the cosine, 0 the dot product."""
    asymmetry: float = 0.5
    """Share of the target in the normalisation, 0 to 1; the neighbour has the rest. The target is the scored item
    (item_knn) or the queried user (user_knn). 0.5 is the cosine; less favours popular items."""
    exponent: float = 1.0
    """Power applied to the similarities, above 0; higher gives near neighbours more weight."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("k", least=1)
        yield from self.check("shrinkage", least=0)
        yield from self.check("exponent", "k1", above=0)
        yield from self.check("b", "normalisation", "asymmetry", least=0, most=1)
        yield from self.check("weighting", among=("none", "tfidf", "bm25"))
        if self.weighting != "bm25":
            yield from self.without_effect("k1", "b", why=f"with weighting={self.weighting}; set weighting=bm25")
        if self.normalisation == 0:
            yield from self.without_effect("asymmetry", why="with normalisation=0")


@dataclass
class ItemKnnSettings(NeighbourSettings, RecencySettings):
    """Item-based collaborative filtering (Sarwar et al. 2001)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.item_knn.ItemKnn"
    learns_from: ClassVar[str] = SIMILARITIES
    kind: str = "item_knn"
    neighbours_of: str = "target"
    """target | history: items whose k neighbours are used. target: a scored item sums over its own neighbours (Sarwar
    et al. 2001). history: each item of the history adds to the scores of its own neighbours (Deshpande and Karypis
    2004)."""
    direction: str = "both"
    """both | forward: evidence for the similarity of two items. both: users who have both, in any order. forward: how
    often the scored item follows the history's item within `window` places of a user's history, 1/gap each, divided by
    the roots of (the item's sum + shrinkage) of both; needs times."""
    window: int = 5
    """With direction=forward: most places between two interactions of a user, at least 1."""
    smooth: float = 0.0
    """With direction=forward and item features: share of transitions smoothed by features, 0 to 1: what follows the
    nearest items, and the items nearest to what follows."""
    features: FeatureWeightsSettings = field(default_factory=FeatureWeightsSettings)
    """With smooth above 0: weights of item features, for example head.features.text=1. Only their ratios matter."""
    smooth_k: int = 20
    """With smooth above 0: number of an item's nearest items by features, itself included, at least 1."""
    smooth_exponent: float = 6.0
    """With smooth above 0: power applied to the cosines of the nearest items, above 0."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.k=10"],
                "bm25": ["head.k=10", "head.weighting=bm25", "head.exponent=2", "head.neighbours_of=history"],
                "forward": ["head.k=20", "head.direction=forward", "head.window=8"],
                "smooth": ["head.k=20", "head.direction=forward", "head.window=8", "head.smooth=0.5",
                           "head.features.text=3", "head.features.attributes=3", "head.neighbours_of=history"]}

    def needs_order(self) -> bool:
        return super().needs_order() or self.direction == "forward"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("neighbours_of", among=("history", "target"))
        yield from self.check("direction", among=("both", "forward"))
        yield from self.check("window", "smooth_k", least=1)
        yield from self.check("smooth", least=0, most=1)
        yield from self.check("smooth_exponent", above=0)
        if self.direction == "both":
            yield from self.without_effect("window", "smooth", why="with direction=both; set direction=forward")
        else:
            yield from self.without_effect("weighting", why="with direction=forward; leave it out")
        if self.smooth == 0:
            yield from self.without_effect("smooth_k", "smooth_exponent", why="with smooth=0; set smooth=0.5")
            if self.features.used:
                yield "features: have no effect with smooth=0; set direction=forward smooth=0.5, or leave them out"
        elif not self.features.used:
            yield f"smooth={self.smooth}: has no effect without item features; set features.text=1"

    def uses(self) -> set[str]:
        return self.features.uses()


@dataclass
class UserKnnSettings(NeighbourSettings):
    """User-based collaborative filtering (Resnick et al. 1994)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.user_knn.UserKnn"
    kind: str = "user_knn"

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.k=20"], "tfidf": ["head.k=20", "head.weighting=tfidf"],
                "bm25": ["head.k=20", "head.weighting=bm25"]}
