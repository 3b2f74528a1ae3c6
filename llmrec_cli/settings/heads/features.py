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
    tuned: bool = False
    """Train the text vectors first, as `peft` says, on which items are chosen together; needs loss=distillation."""
    stop_after: int | None = None
    """Epochs of that training, at least 0 (validation preferred the vectors as they came); null lets validation
    choose."""

    def problems(self) -> Iterator[str]:
        yield from self.check("text", "words", "attributes", "knowledge", least=0)
        yield from self.check("stop_after", least=0)
        if self.tuned and self.text <= 0:
            yield f"tuned=true: has no effect with text={self.text}; give text a weight"
        if self.stop_after is not None and not self.tuned:
            yield f"stop_after={self.stop_after}: has no effect without tuned=true"

    def problems_of_all(self) -> Iterator[str]:
        """Yield a problem where nothing else is known of items and all weights are 0."""
        if max(self.text, self.words, self.attributes, self.knowledge) <= 0:
            yield "features: all weights are 0, so nothing is known of items; set features.text=1"

    def uses(self) -> set[str]:
        """Return the config groups that these features depend on."""
        if self.text <= 0:
            return set()
        return {"encoder", "peft", "adversarial", "loss", "optim"} if self.tuned else {"encoder"}
