"""Weights of what is known of items beside who interacted with them."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings

KINDS = ("text", "words", "attributes", "knowledge", "two_hops", "documents", "entities")
"""What may be known of items; each has a weight."""


@dataclass
class FeatureWeightsSettings(Settings):
    """Weights of the item features; 0 leaves a kind of feature out."""

    text: float = 0.0
    """Weight of the centred, normalised text vectors, at least 0; 5 to 8 is usual for EASE."""
    words: float = 0.0
    """Weight of the normalised TF-IDF of the texts' words, at least 0."""
    attributes: float = 0.0
    """Weight of the normalised item attributes, at least 0; about 6 is usual for EASE."""
    knowledge: float = 0.0
    """Weight of the normalised IDF of an item's neighbours in the knowledge graph, at least 0; 5 to 8 is usual for
    EASE."""
    two_hops: float = 0.0
    """Weight of the normalised IDF of what those neighbours are joined to, at least 0: of two films with a director
    each, what the directors' other films are; about 4 is usual for EASE, beside knowledge."""
    documents: float = 0.0
    """Weight of the centred, normalised vectors of documents about an item (dataset.documents), at least 0; each is
    read in pieces of encoder.max_length tokens by the frozen encoder, and the mean of an item's pieces counts."""
    entities: float = 0.0
    """Weight of the centred, normalised vectors of an item's entities, learned from the whole graph as the group
    `entities` says, at least 0; 3 to 5 is usual for EASE,
    1 to 2 for content."""
    tuned: bool = False
    """Train the text vectors first, as `peft` says, on which items are chosen together; needs loss=distillation."""
    stop_after: int | None = None
    """Epochs of that training, at least 0 (validation preferred the vectors as they came); null lets validation
    choose."""

    def problems(self) -> Iterator[str]:
        yield from self.check(*KINDS, least=0)
        yield from self.check("stop_after", least=0)
        if self.tuned and self.text <= 0:
            yield f"tuned=true: has no effect with text={self.text}; give text a weight"
        if self.stop_after is not None and not self.tuned:
            yield f"stop_after={self.stop_after}: has no effect without tuned=true"

    def problems_of_all(self) -> Iterator[str]:
        """Yield a problem where nothing else is known of items and all weights are 0."""
        if not self.used:
            yield "features: all weights are 0, so nothing is known of items; set features.text=1"

    @property
    def used(self) -> bool:
        """True if any kind of feature has a weight."""
        return any(getattr(self, kind) > 0 for kind in KINDS)

    def uses(self) -> set[str]:
        """Return the config groups that these features depend on."""
        used = {"entities"} if self.entities > 0 else set()
        if self.tuned and self.text > 0:
            return used | {"encoder", "peft", "adversarial", "loss", "optim"}
        return used | ({"encoder"} if self.text > 0 or self.documents > 0 else set())
