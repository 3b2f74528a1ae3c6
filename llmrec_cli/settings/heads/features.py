"""Weights of item features."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from llmrec_cli.settings.base import Settings

KINDS = ("text", "words", "attributes", "knowledge", "two_hops", "documents", "entities")
"""Kinds of item features; each has a weight."""


@dataclass
class FeatureWeightsSettings(Settings):
    """Weights of item features; 0 leaves a kind of feature out."""

    text: float = 0.0
    """Weight of the centred, normalised text vectors, at least 0; 2 to 6 is usual for EASE."""
    words: float = 0.0
    """Weight of the normalised TF-IDF vectors of the texts' words, at least 0."""
    attributes: float = 0.0
    """Weight of the normalised item attributes, at least 0; about 6 is usual for EASE."""
    knowledge: float = 0.0
    """Weight of an item's neighbours in the knowledge graph (IDF, normalised), at least 0; 5 to 8 is usual for EASE."""
    two_hops: float = 0.0
    """Weight of the neighbours of an item's neighbours in the knowledge graph (IDF, normalised), at least 0; for
    example the other films of a film's director. About 4 is usual for EASE, in addition to `knowledge`."""
    documents: float = 0.0
    """Weight of the centred, normalised vectors of documents about an item (dataset.documents), at least 0. The frozen
    encoder reads documents in pieces of encoder.max_length tokens; an item's vector is the mean over its pieces."""
    entities: float = 0.0
    """Weight of the centred, normalised entity vectors of an item, learned from the whole knowledge graph by the model
    chosen by `entities`, at least 0; 3 to 5 is usual for EASE, 1 to 2 for content."""
    tuned: bool = False
    """First train the text vectors (with the method chosen by `peft`) on the interactions, by the objective chosen by
    `loss`: readers (default) or distillation."""
    frozen_text: float = 0.0
    """With tuned=true: weight of the original text vectors beside the trained ones, at least 0; the same as `text`
    suits head=content, whose kernel then takes the mean of both cosines."""
    interpolation: float = 1.0
    """With tuned=true: share of the trained weights, the rest being the weights before training, above 0, at most 1
    (WiSE-FT, Wortsman et al. 2022); 1: the trained weights."""
    folds: int = 1
    """With tuned=true: trainings, each with another fifth of the items hidden and another seed, that decide on their
    mean gain whether trained vectors are kept, 1 to 5; they take as many times as long, and one more training. 1: a
    single training, on the cold items of validation if there are enough."""
    stop_after: int | None = None
    """Epochs of training the text vectors, at least 0 (0: the original vectors were better on validation); null: chosen
    on validation."""

    def problems(self) -> Iterator[str]:
        yield from self.check(*KINDS, least=0)
        yield from self.check("stop_after", least=0)
        if self.tuned and self.text <= 0:
            yield f"tuned=true: has no effect with text={self.text}; give text a weight"
        yield from self.check("frozen_text", least=0)
        yield from self.check("interpolation", above=0, most=1)
        yield from self.check("folds", least=1, most=5)
        if not self.tuned:
            yield from self.without_effect("frozen_text", "interpolation", "folds", "stop_after",
                                           why="without tuned=true")

    def check_any_used(self) -> Iterator[str]:
        """Yield a problem if all weights are 0; for heads that use nothing but features."""
        if not self.used:
            yield "features: all weights are 0, so items have no features; set features.text=1"

    @property
    def used(self) -> bool:
        """True if any kind of feature has a weight."""
        return any(getattr(self, kind) > 0 for kind in KINDS)

    def without(self, kinds: Iterable[str]) -> "FeatureWeightsSettings":
        """Return the settings with a weight of 0 for these kinds of features."""
        changes: dict[str, Any] = dict.fromkeys(kinds, 0.0)
        return replace(self, **changes)

    def uses(self) -> set[str]:
        """Return the config groups that these features depend on."""
        used = {"entities"} if self.entities > 0 else set()
        if self.tuned and self.text > 0:
            return used | {"encoder", "peft", "adversarial", "loss", "optim"}
        return used | ({"encoder"} if self.text > 0 or self.documents > 0 else set())
