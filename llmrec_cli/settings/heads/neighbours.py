"""User-kNN and item-kNN."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.heads.base import HeadSettings


@dataclass
class NeighbourSettings(HeadSettings):
    """What user-kNN and item-kNN share."""

    k: int = 100
    """Neighbours kept, at least 1."""
    shrinkage: float = 10.0
    """Added to the denominator of the cosine, at least 0; damps similarities with little support."""
    weighting: str = "none"
    """none | tfidf | bm25: how interactions are weighted before the cosine."""
    exponent: float = 1.0
    """Power the similarities are raised to, above 0; higher trusts near neighbours more."""

    def problems(self) -> Iterator[str]:
        yield from self.check("k", least=1)
        yield from self.check("shrinkage", least=0)
        yield from self.check("exponent", above=0)
        yield from self.check("weighting", among=("none", "tfidf", "bm25"))


@dataclass
class ItemKnn(NeighbourSettings):
    """Item-based collaborative filtering (Sarwar et al. 2001)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.item_knn.ItemKnn"
    kind: str = "item_knn"


@dataclass
class UserKnn(NeighbourSettings):
    """User-based collaborative filtering (Resnick et al. 1994)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.user_knn.UserKnn"
    kind: str = "user_knn"
