"""Optional parts of an evaluation: cold-start users, knowledge, perturbed texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import Settings


@dataclass
class ColdUsersSettings(Settings):
    """Metrics for users whom training knows nothing of, asked for with their profile and first interactions."""

    shorthand: ClassVar[str] = "on"
    """cold_users=true means cold_users.on=true."""
    on: bool = False
    """Measure users without training interactions, and only these; prepare with split=cold_users."""
    first: list[int] = field(default_factory=lambda: [0, 1, 3, 5])
    """How many of a user's first interactions are told, each at least 0."""
    after: int | None = None
    """What comes after so many interactions is to be found, and what comes before is on no list, however many are told,
    so that all figures are about the same items; at least the largest of `first`, null for that."""

    @property
    def apart(self) -> int:
        """The interactions of a user that are not to be found."""
        return max(self.first) if self.after is None else self.after

    def problems(self) -> Iterator[str]:
        if not self.first or min(self.first) < 0 or len(set(self.first)) < len(self.first):
            yield f"first={self.first}: must be different numbers, at least one, each at least 0"
        elif self.after is not None and self.after < max(self.first):
            yield f"after={self.after}: must be at least {max(self.first)}, the most that is told"
        if not self.on:
            yield from self.without_effect("first", "after", why="without cold_users=true")


@dataclass
class KnowledgeReportSettings(Settings):
    """Contribution of each relation of the knowledge graph, on validation."""

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
        if not self.on:
            yield from self.without_effect("relations", why="without knowledge=true")


@dataclass
class RobustnessSettings(Settings):
    """Metrics once more with item texts as people mistype, reword and shorten them."""

    shorthand: ClassVar[str] = "on"
    """robustness=true means robustness.on=true."""
    on: bool = False
    """Measure each model with disturbed item texts too."""
    typos: float = 0.2
    """Share of the words that get a typo, above 0 to 1: two letters swapped, one dropped or doubled. In Chinese the
    share of the characters that are mistaken for one that looks or sounds alike, or dropped."""
    synonyms: float = 0.5
    """Share of the words with a known synonym that are replaced by one, above 0 to 1."""
    truncated: float = 0.5
    """Share of a text, of its words or Chinese characters, that is cut off at its end, above 0 to below 1."""
    synonym_file: str = ""
    """Groups of words that mean the same, a group a line, separated by tabs; empty for a few dozen common words of
    English and Chinese that come with llmrec."""

    def problems(self) -> Iterator[str]:
        yield from self.check("typos", "synonyms", "truncated", above=0)
        yield from self.check("typos", "synonyms", most=1)
        yield from self.check("truncated", most=0.99)
        if not self.on:
            yield from self.without_effect("typos", "synonyms", "truncated", "synonym_file",
                                           why="without robustness=true")
