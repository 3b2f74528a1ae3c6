"""Splits of interactions into train, valid and test."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llmrec_cli.settings.base import OptionSettings

_GROUP_RULES = ("random", "leave_last_out", "temporal", "given", "none")


@dataclass
class SplitSettings(OptionSettings):
    """Settings of every split."""

    is_given: ClassVar[bool] = False
    """True if the files say which interactions are held out."""
    needs_time: ClassVar[bool] = False
    """True if interactions without timestamps cannot be divided."""
    by_cutoff: ClassVar[bool] = False
    """True if one moment divides everybody's interactions."""
    cold: ClassVar[str] = ""
    """item | user: whole items, or users, are held out; empty where single interactions are."""
    has_group_shares: ClassVar[bool] = True
    """True if `group_valid` can set the share of the groups' interactions for validation."""
    kind: str = ""
    """The option's name; choose with split=<name>."""
    group: str = ""
    """random | leave_last_out | temporal | given | none: how dataset.group_interactions are divided, with the fractions
    and the cutoff of the split where it has them, else a tenth each for validation and test; empty for the split's own
    rule (with cold_items the same items are held out, with cold_users groups are), and `given` where the files say
    it."""
    group_valid: float | None = None
    """Share of the groups' interactions for validation where they are divided at random or by files, 0 to 0.9; null for
    what `valid` says of the users', and for none where only the groups' files are divided."""
    leaks: str = "auto"
    """auto | keep | drop: rule for held-out pairs that are also in training. Pairs that files have in several splits
    give a warning; drop keeps them in the earliest split only. Where validation of groups is carved from given
    training, auto and drop leave pairs in training that a member is trained on; keep allows them in validation."""

    @property
    def carved_share(self) -> float:
        """Share of the training that files give which becomes validation."""
        return 0.0

    def held_out(self) -> list[str]:
        """Return the parts that should have interactions: valid, test."""
        return []

    def remedy(self, part: str) -> str:
        """Return what to do about a part without interactions."""
        return "give it a larger share, or prepare more rows"

    def for_groups(self) -> dict[str, Any]:
        """Return the shares and the seed that a rule of the groups' own takes over."""
        return {}

    def problems(self) -> Iterator[str]:
        if self.group:
            yield from self.check("group", among=_GROUP_RULES)
        yield from self.check("group_valid", least=0, most=0.9)
        yield from self.check("leaks", among=("auto", "keep", "drop"))


@dataclass
class FractionSplitSettings(SplitSettings):
    """Settings of splits by fractions."""

    valid: float = 0.1
    """Share for validation, 0 to 0.9."""
    test: float = 0.1
    """Share for the test, 0 to 0.9; valid + test below 1."""

    def held_out(self) -> list[str]:
        return [part for part in ("valid", "test") if getattr(self, part) > 0]

    def for_groups(self) -> dict[str, Any]:
        return {"valid": self.valid, "test": self.test}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("valid", "test", least=0, most=0.9)
        if self.valid + self.test >= 1:
            yield f"valid={self.valid}: valid + test must be below 1, so that something is left to train on"


@dataclass
class HashSplitSettings(FractionSplitSettings):
    """Settings of splits by a salted hash."""

    seed: int = 42
    """Salt of the hash."""

    def for_groups(self) -> dict[str, Any]:
        return super().for_groups() | {"seed": self.seed}


@dataclass
class RandomSettings(HashSplitSettings):
    """Each user's interactions at random, by a salted hash of their content."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.RandomSplit"
    kind: str = "random"


@dataclass
class ColdItemsSplitSettings(HashSplitSettings):
    """Items at random, by a salted hash of their ids: all that happens to a held-out item is held out."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.ColdSplit"
    cold: ClassVar[str] = "item"
    kind: str = "cold_items"


@dataclass
class ColdUsersSplitSettings(HashSplitSettings):
    """Users at random, by a salted hash of their ids: all that a held-out user does is held out."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.ColdSplit"
    cold: ClassVar[str] = "user"
    kind: str = "cold_users"


@dataclass
class TemporalSettings(FractionSplitSettings):
    """One global cutoff in time: what happens from it on is held out, the newest of it for the test.

    The cutoff is where the shares `valid` and `test` of the interactions are newer, or what `*_from` or `*_days` say.
    """

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.temporal.TemporalSplit"
    needs_time: ClassVar[bool] = True
    by_cutoff: ClassVar[bool] = True
    has_group_shares: ClassVar[bool] = False
    kind: str = "temporal"
    test_from: str | None = None
    """First moment of the test, written like the timestamps or as 2024-05-31; null for what `test` or test_days say."""
    valid_from: str | None = None
    """First moment of validation, likewise."""
    test_days: float | None = None
    """Length of the test in days before the newest interaction, above 0; null for what `test` or test_from say."""
    valid_days: float | None = None
    """Length of validation in days before the test, above 0; null for what `valid` or valid_from say."""

    def remedy(self, part: str) -> str:
        if getattr(self, f"{part}_days") is not None:
            return (f"nothing happened in its days; set more split.{part}_days, or see whether the newest times are "
                    f"right")
        if getattr(self, f"{part}_from") is not None:
            return f"nothing happened from then to its end; set an earlier split.{part}_from"
        return super().remedy(part)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("test_days", "valid_days", above=0)
        for part in ("test", "valid"):
            if getattr(self, f"{part}_from") is not None and getattr(self, f"{part}_days") is not None:
                yield f"{part}_from: says the same as {part}_days; leave out one of the two"


@dataclass
class LeaveLastOutSettings(SplitSettings):
    """Each user's last interaction is the test, the one before it validation."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.LeaveLastOutSplit"
    needs_time: ClassVar[bool] = True
    has_group_shares: ClassVar[bool] = False
    kind: str = "leave_last_out"

    def held_out(self) -> list[str]:
        return ["valid", "test"]


@dataclass
class GivenSettings(SplitSettings):
    """The files say it: dataset.train, dataset.valid, dataset.test.

    Where there is no file for validation, `valid` takes a share of the training for it.
    """

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.GivenSplit"
    is_given: ClassVar[bool] = True
    kind: str = "given"
    valid: float = 0.0
    """Share of dataset.train that becomes validation, 0 to 0.9, by a salted hash of user and item; of each user, and of
    each group of dataset.group_train, one interaction stays at least. 0 for what the files say."""
    seed: int = 42
    """Salt of the hash."""

    @property
    def carved_share(self) -> float:
        return self.valid

    def held_out(self) -> list[str]:
        return ["test", *(["valid"] if self.valid > 0 else [])]

    def remedy(self, part: str) -> str:
        return ("see what dataset.min_value, dataset.min_*_interactions and split.leaks left out of its file, or give "
                "split.valid a larger share")

    def for_groups(self) -> dict[str, Any]:
        return {"seed": self.seed} | ({"valid": self.valid} if self.valid else {})

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("valid", least=0, most=0.9)
        if self.seed != 42 and not self.valid and not self.group_valid:
            yield f"seed={self.seed}: has an effect only with split.valid or split.group_valid above 0"


@dataclass
class NoSplitSettings(SplitSettings):
    """Nothing is held out."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.UndividedSplit"
    has_group_shares: ClassVar[bool] = False
    kind: str = "none"


SPLITS: dict[str, type[SplitSettings]] = {
    "random": RandomSettings, "temporal": TemporalSettings, "leave_last_out": LeaveLastOutSettings,
    "cold_items": ColdItemsSplitSettings,
    "cold_users": ColdUsersSplitSettings, "given": GivenSettings, "none": NoSplitSettings}
