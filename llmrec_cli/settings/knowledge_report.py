"""Whether it is measured what a model has of the knowledge graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import Settings


@dataclass
class KnowledgeReport(Settings):
    """What each relation of the knowledge graph contributes, on validation."""

    shorthand: ClassVar[str] = "on"
    """knowledge=true means knowledge.on=true."""
    on: bool = False
    """Fit the head again on the training interactions, without each relation, without any and with controls that say
    no more than how much is known of an item, and compare on validation; the test is not read for it."""
    relations: int = 12
    """Relations that are left out one at a time, those of most items first, at least 1; each costs a fit. Such that say
    the same, as one and its inverse, are left out together."""

    def problems(self) -> Iterator[str]:
        yield from self.check("relations", least=1)
        if not self.on and self.relations != KnowledgeReport.relations:
            yield f"relations={self.relations}: has no effect without knowledge=true"
