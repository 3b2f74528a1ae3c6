"""Parts of evaluations that can be chosen: validation on rows, cold-start users, knowledge, perturbed texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import Settings


@dataclass
class ValidationSettings(Settings):
    """File of queries that settings are chosen on, in place of the validation split."""

    shorthand: ClassVar[str] = "queries"
    """validation=valid.jsonl means validation.queries=valid.jsonl."""
    queries: str = ""
    """File of queries with the column relevant, as for `llmrec evaluate queries=`, on which settings are chosen. While
    they are chosen, the interactions of its users from their first relevant item on are left out of training. Empty:
    the validation split."""
    exclude_seen: bool = False
    """Leave out items in the history of the row; false: rows are ranked as given."""

    def problems(self) -> Iterator[str]:
        if not self.queries:
            yield from self.without_effect("exclude_seen", why="without validation.queries=<file>")


@dataclass
class ColdUsersSettings(Settings):
    """Metrics for cold-start users, given their profile and first interactions."""

    shorthand: ClassVar[str] = "on"
    """cold_users=true means cold_users.on=true."""
    on: bool = False
    """Evaluate only users without training interactions; prepare the data with split=cold_users."""
    first: list[int] = field(default_factory=lambda: [0, 1, 3, 5])
    """Numbers of first interactions given to the model as history, each at least 0; one evaluation per number."""
    after: int | None = None
    """Number of a user's first interactions that never count as relevant and are never recommended, whatever number is
    given as history, so that all evaluations rank the same items. At least the largest of `first`; null for the largest
    of `first`."""

    @property
    def num_excluded(self) -> int:
        """Number of a user's first interactions that never count as relevant."""
        return max(self.first) if self.after is None else self.after

    def problems(self) -> Iterator[str]:
        if not self.first or min(self.first) < 0 or len(set(self.first)) < len(self.first):
            yield f"first={self.first}: must be different numbers, at least one, each at least 0"
        elif self.after is not None and self.after < max(self.first):
            yield f"after={self.after}: must be at least {max(self.first)}, the largest of first"
        if not self.on:
            yield from self.without_effect("first", "after", why="without cold_users=true")


@dataclass
class KnowledgeReportSettings(Settings):
    """Contribution of each relation of the knowledge graph, measured on validation."""

    shorthand: ClassVar[str] = "on"
    """knowledge=true means knowledge.on=true."""
    on: bool = False
    """Fit the head again on the training interactions without each relation, without all relations, and with controls
    that keep only the number of an item's triples; compare on validation. The test split is not read."""
    relations: int = 12
    """Number of relations that are removed one at a time, starting with those of the most items, at least 1; each costs
    a fit. Equivalent relations, such as a relation and its inverse, are removed together."""

    def problems(self) -> Iterator[str]:
        yield from self.check("relations", least=1)
        if not self.on:
            yield from self.without_effect("relations", why="without knowledge=true")


@dataclass
class RobustnessSettings(Settings):
    """Metrics with perturbed item texts: typos, synonyms and truncation."""

    shorthand: ClassVar[str] = "on"
    """robustness=true means robustness.on=true."""
    on: bool = False
    """Also evaluate each model with perturbed item texts."""
    typos: float = 0.2
    """Share of the words that get a typo, above 0 to 1: two letters swapped, a letter dropped or doubled. In Chinese:
    share of the characters that are dropped or replaced by a character that looks or sounds alike."""
    synonyms: float = 0.5
    """Share of the words with a listed synonym that are replaced by it, above 0 to 1."""
    truncated: float = 0.5
    """Share of a text's words (or Chinese characters) that is cut off at the end, above 0 and below 1."""
    synonym_file: str = ""
    """File of synonyms, a set per line, separated by tabs; empty for a built-in list of a few dozen English and Chinese
    words."""

    def problems(self) -> Iterator[str]:
        yield from self.check("typos", "synonyms", "truncated", above=0)
        yield from self.check("typos", "synonyms", most=1)
        yield from self.check("truncated", most=0.99)
        if not self.on:
            yield from self.without_effect("typos", "synonyms", "truncated", "synonym_file",
                                           why="without robustness=true")
