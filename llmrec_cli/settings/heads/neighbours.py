"""User-kNN and item-kNN."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings


@dataclass
class NeighbourSettings(HeadSettings):
    """Settings of user-kNN and item-kNN."""

    k: int = 100
    """Neighbours kept, at least 1."""
    shrinkage: float = 10.0
    """Added to the denominator of the similarity, at least 0; damps similarities with little support."""
    weighting: str = "none"
    """none | tfidf | bm25: how interactions are weighted before they are compared."""
    k1: float = 1.2
    """BM25's damping of long rows, above 0; higher damps more. With weighting=bm25 only."""
    b: float = 0.75
    """How far BM25 counts a row's length against the average, 0 to 1. With weighting=bm25 only."""
    normalisation: float = 1.0
    """Power of the norms that similarities are divided by, 0 to 1: 1 is the cosine, 0 the mere dot product."""
    asymmetry: float = 0.5
    """Share of the normalisation that the target has, 0 to 1; what it is compared with has the rest. The target is the
    item that is scored, or the user who asks; 0.5 is the cosine. Less lets popular items be recommended more."""
    exponent: float = 1.0
    """Power the similarities are raised to, above 0; higher trusts near neighbours more."""

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
class ItemKnnSettings(NeighbourSettings):
    """Item-based collaborative filtering (Sarwar et al. 2001)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.item_knn.ItemKnn"
    kind: str = "item_knn"
    neighbours_of: str = "target"
    """target | history: whether each item that is scored takes the sum over its own k neighbours (Sarwar et al. 2001),
    or each item of the history gives to its own k neighbours (Deshpande and Karypis 2004)."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.k=10"],
                "bm25": ["head.k=10", "head.weighting=bm25", "head.exponent=2", "head.neighbours_of=history"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("neighbours_of", among=("history", "target"))


@dataclass
class UserKnnSettings(NeighbourSettings):
    """User-based collaborative filtering (Resnick et al. 1994)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.user_knn.UserKnn"
    kind: str = "user_knn"

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["head.k=20"], "tfidf": ["head.k=20", "head.weighting=tfidf"],
                "bm25": ["head.k=20", "head.weighting=bm25"]}
