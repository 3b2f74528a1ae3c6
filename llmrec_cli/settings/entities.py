"""Models of entity vectors, learned from the triples of a knowledge graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings


@dataclass
class EntitySettings(OptionSettings):
    """Settings of all entity-vector models, trained with self-adversarial negatives (Sun et al. 2019, eq. 5 and 6)."""

    kind: str = ""
    """The option's name; choose with entities=<name>."""
    embedding_size: int = 64
    """Length of an entity's vector, at least 2; even for rotate and complex, whose vectors hold complex numbers."""
    epochs: int = 10
    """Largest number of epochs, at least 1. The number that predicts the held-out triples best is used. Validation of
    the recommender does not choose it."""
    batch_size: int = 1024
    """Triples in a training step, at least 1; they share their negatives."""
    learning_rate: float = 0.1
    """Step size of Adagrad, above 0."""
    num_negatives: int = 64
    """Entities that replace each end of a step's triples as negatives, at least 1: half are drawn from the same end of
    the step's triples, half from all entities."""
    adversarial_temperature: float = 1.0
    """Sharpness of the weights of negatives, at least 0; higher gives likelier negatives more weight, 0 gives all the
    same."""
    held_out: float = 0.01
    """Share of the connected pairs of entities held out of a first training run, 0 to 0.5. Ranking the held-out triples
    is logged and chooses the number of epochs of a second run on all triples. 0: a single run of `epochs` epochs."""

    def problems(self) -> Iterator[str]:
        yield from self.check("embedding_size", least=2)
        yield from self.check("epochs", "batch_size", "num_negatives", least=1)
        yield from self.check("learning_rate", above=0)
        yield from self.check("adversarial_temperature", least=0)
        yield from self.check("held_out", least=0, most=0.5)


@dataclass
class DistancesSettings(EntitySettings):
    """Settings of distance models."""

    margin: float = 2.0
    """Distance that separates triples of the graph (below) from negatives (above), above 0."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("margin", above=0)


@dataclass
class TransESettings(DistancesSettings):
    """TransE (Bordes et al. 2013): a relation translates its head to its tail."""

    implementation: ClassVar[str] = "llmrec_cli.training.triple_scores.TransEScores"
    kind: str = "transe"


@dataclass
class RotatESettings(DistancesSettings):
    """RotatE (Sun et al. 2019): a relation rotates each complex number of its head."""

    implementation: ClassVar[str] = "llmrec_cli.training.triple_scores.RotatEScores"
    kind: str = "rotate"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _even(self.embedding_size)


@dataclass
class ComplExSettings(EntitySettings):
    """ComplEx (Trouillon et al. 2016): a relation weights the products of the complex numbers of head and tail."""

    implementation: ClassVar[str] = "llmrec_cli.training.triple_scores.ComplExScores"
    kind: str = "complex"
    l2: float = 0.0
    """Penalty on the squared norms of a triple's three vectors, at least 0."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _even(self.embedding_size)
        yield from self.check("l2", least=0)


def _even(embedding_size: int) -> Iterator[str]:
    if embedding_size % 2:
        yield f"embedding_size={embedding_size}: must be even, since a complex number has two parts"


ENTITIES: dict[str, type[EntitySettings]] = {"transe": TransESettings, "rotate": RotatESettings,
                                             "complex": ComplExSettings}
