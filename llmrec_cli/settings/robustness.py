"""How the texts of items are disturbed to see what a recommender makes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import Settings


@dataclass
class Robustness(Settings):
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
        for key in ("typos", "synonyms", "truncated", "synonym_file"):
            if not self.on and (value := getattr(self, key)) != getattr(Robustness, key):
                yield f"{key}={value}: has no effect without robustness=true"
