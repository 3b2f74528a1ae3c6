"""Heads: the recommenders.

`implementation` is the class that is built, resolved only then. `uses()` names the config groups that
have an effect on a head, so that a setting without one can be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.base import Settings, option


@dataclass
class HeadSettings(Settings):
    """What every head has."""

    implementation: ClassVar[str] = ""
    kind: str = ""
    """The option's name; choose with head=<name>."""

    def uses(self) -> set[str]:
        """Return the config groups beside `head` that change what this head does."""
        return set()


@dataclass
class Popularity(HeadSettings):
    """The same list for everybody: items by number of training interactions."""

    implementation: ClassVar[str] = "llmrec_cli.heads.popularity.Popularity"
    kind: str = "popularity"


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


@dataclass
class FeatureWeights(Settings):
    """Weights of the item features that EASE sees as extra users; 0 leaves a feature out."""

    text: float = 0.0
    """Weight of the centred, normalised text vectors, at least 0; 5 to 8 is usual."""
    attributes: float = 0.0
    """Weight of the normalised item attributes, at least 0; about 6 is usual."""

    def problems(self) -> Iterator[str]:
        yield from self.check("text", "attributes", least=0)


@dataclass
class Ease(HeadSettings):
    """EASE (Steck 2019), collective when features have a weight (Jeunen et al. 2020)."""

    implementation: ClassVar[str] = "llmrec_cli.heads.ease.Ease"
    kind: str = "ease"
    l2: float = 200.0
    """Ridge penalty, above 0; more for denser data."""
    features: FeatureWeights = field(default_factory=FeatureWeights)

    def problems(self) -> Iterator[str]:
        yield from self.check("l2", above=0)

    def uses(self) -> set[str]:
        return {"encoder"} if self.features.text > 0 else set()


@dataclass
class TwoTower(HeadSettings):
    """Two towers: item = text vector and id embedding, user = history and id embedding."""

    implementation: ClassVar[str] = "llmrec_cli.heads.two_tower.TwoTower"
    kind: str = "two_tower"
    embedding_size: int = 128
    """Size of user and item vectors, at least 1."""
    id_dropout: float = 0.2
    """Chance that a training step hides an item's or a user's id, 0 to 1; above 0 makes it work without ids."""
    dropout: float = 0.5
    """Dropout on the history vector, 0 to 1."""
    encoded_items: int | None = 128
    """Most texts that go through the trained layers in a step, at least 1; the other items keep the vectors of when
    they were last encoded. null encodes every item of the step."""
    stop_after: int | None = None
    """Epochs to run of the optim.epochs that the learning rate is planned for; what validation chose, in a refit."""
    id_scale: float = 1.0
    """Weight of the id embeddings beside the text, at least 0; 0 leaves text alone."""

    def problems(self) -> Iterator[str]:
        yield from self.check("embedding_size", "encoded_items", "stop_after", least=1)
        yield from self.check("id_dropout", "dropout", least=0, most=0.99)
        yield from self.check("id_scale", least=0)

    def uses(self) -> set[str]:
        return {"encoder", "peft", "adversarial", "loss", "optim"}


@dataclass
class Fusion(HeadSettings):
    """A weighted sum of the scores of other heads, weights learned on validation.

    Each member is a recipe of its own: a head with the settings it gives, the rest from the top level.
    """

    implementation: ClassVar[str] = "llmrec_cli.heads.fusion.Fusion"
    kind: str = "fusion"
    members: dict[str, "Recipe"] = field(default_factory=dict)
    normalise: str = "zscore"
    """zscore | raw: how a member's scores of one query are scaled before they are added."""
    weights: str | dict[str, float] = "learned"
    """`learned`: coordinate ascent on the validation metric, falling back to the best member; or a number each."""

    def problems(self) -> Iterator[str]:
        yield from self.check("normalise", among=("zscore", "raw"))
        if not self.members:
            yield "members: empty; name at least one, head.members.<name>.head=<head>"
        for name, member in self.members.items():
            if isinstance(member.head, Fusion):
                yield f"members.{name}.head=fusion: a fusion cannot be a member of a fusion"
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
                yield f"members.{name}: a member's name is made of letters, digits, '_' and '-'"
        if isinstance(self.weights, str):
            yield from self.check("weights", among=("learned",))
        else:
            for name in sorted(set(self.members) ^ set(self.weights)):
                yield f"weights.{name}: weights and members must have the same names"

    def uses(self) -> set[str]:
        return set().union(*(member.head.uses() for member in self.members.values()))


@dataclass
class Recipe(Settings):
    """A head with all that it is trained with; enough to build it again."""

    head: HeadSettings = option("head")
    encoder: Any = option("encoder", optional=True)
    peft: Any = option("peft", optional=True)
    adversarial: Any = option("adversarial", optional=True)
    loss: Any = option("loss", optional=True)
    optim: Any = option("optim", optional=True)


HEADS = {"popularity": Popularity, "item_knn": ItemKnn, "user_knn": UserKnn, "ease": Ease, "two_tower": TwoTower,
         "fusion": Fusion}
