"""Heads: the recommenders. Each has its settings in a file under `heads/`; the fusion of them is here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrec_cli.settings.base import Settings, option
from llmrec_cli.settings.heads.base import HeadSettings, Popularity
from llmrec_cli.settings.heads.ease import Ease
from llmrec_cli.settings.heads.neighbours import ItemKnn, UserKnn
from llmrec_cli.settings.heads.two_tower import TwoTower


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
