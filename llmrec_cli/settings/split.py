"""How interactions are divided into train, valid and test."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class SplitSettings(Settings):
    """What every split has."""

    kind: str = ""
    """The option's name; choose with split=<name>."""


@dataclass
class FractionSplit(SplitSettings):
    """What splits by fractions share."""

    valid: float = 0.1
    """Share of the interactions for validation, 0 to 0.9."""
    test: float = 0.1
    """Share of the interactions for the test, 0 to 0.9; valid + test below 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("valid", "test", least=0, most=0.9)
        if self.valid + self.test >= 1:
            yield f"valid={self.valid}: valid + test must be below 1, so that something is left to train on"


@dataclass
class Random(FractionSplit):
    """Each user's interactions at random, by a salted hash of their content."""

    kind: str = "random"
    seed: int = 42
    """Salt of the hash."""


@dataclass
class Temporal(FractionSplit):
    """One global cutoff in time: the newest shares are held out."""

    kind: str = "temporal"


@dataclass
class LeaveLastOut(SplitSettings):
    """Each user's last interaction is the test, the one before it validation."""

    kind: str = "leave_last_out"


@dataclass
class Given(SplitSettings):
    """The files say it: dataset.train, dataset.valid, dataset.test."""

    kind: str = "given"


@dataclass
class NoSplit(SplitSettings):
    """Nothing is held out."""

    kind: str = "none"


SPLITS = {"random": Random, "temporal": Temporal, "leave_last_out": LeaveLastOut, "given": Given, "none": NoSplit}
