"""Weights of what is known of items beside who interacted with them."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class FeatureWeights(Settings):
    """Weights of the item features; 0 leaves a kind of feature out."""

    text: float = 0.0
    """Weight of the centred, normalised text vectors, at least 0; 5 to 8 is usual for EASE."""
    words: float = 0.0
    """Weight of the normalised TF-IDF of the texts' words, at least 0."""
    attributes: float = 0.0
    """Weight of the normalised item attributes, at least 0; about 6 is usual for EASE."""
    knowledge: float = 0.0
    """Weight of the normalised IDF of an item's neighbours in the knowledge graph, at least 0; 8 to 14 is usual."""

    def problems(self) -> Iterator[str]:
        yield from self.check("text", "words", "attributes", "knowledge", least=0)
