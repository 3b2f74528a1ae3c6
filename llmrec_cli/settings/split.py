"""Splits of interactions into train, valid and test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase
from llmrec_cli.settings.base import OptionSettings

GROUP_RULES = ("random", "leave_last_out", "temporal", "given", "none")
"""Values of the setting `group`."""


@dataclass
class SplitSettings(OptionSettings):
    """Settings of every split."""

    is_given: ClassVar[bool] = False
    """True if the input files define the split."""
    needs_time: ClassVar[bool] = False
    """True if the split needs interactions with timestamps."""
    by_cutoff: ClassVar[bool] = False
    """True if a single point in time divides the interactions of all users."""
    cold: ClassVar[str] = ""
    """item | user: whole items or users are held out; empty if single interactions are."""
    has_group_shares: ClassVar[bool] = True
    """True if `group_valid` can set the validation share of the groups' interactions."""
    kind: str = ""
    """The option's name; choose with split=<name>."""
    group: str = ""
    """random | leave_last_out | temporal | given | none: split of dataset.group_interactions. It uses the shares and
    the cutoff of the users' split if there are any, else a tenth each for validation and test. Empty: the rule of the
    users' split (cold_items holds out the same items, cold_users holds out groups), or given if there are files
    dataset.group_train, ..."""
    group_valid: float | None = None
    """Validation share of the groups' interactions if they are split at random or by files, 0 to 0.9. null: the same as
    `valid`, or none if only the groups' files are divided."""
    leaks: str = "auto"
    """auto | keep | drop: rule for held-out pairs that are also in training. If the files have a pair in several
    splits, auto and keep warn and keep all of them; drop keeps the pair in the earliest split only. If validation of
    groups is taken from given training interactions, auto and drop leave pairs in training that a member is trained on;
    keep allows them in validation."""

    @property
    def carved_share(self) -> float:
        """Share of the given training interactions that becomes validation."""
        return 0.0

    def held_out(self) -> list[str]:
        """Return the parts that must not be empty: valid, test."""
        return []

    def remedy(self, part: str) -> str:
        """Return the next step for a message about a part without interactions."""
        return Phrase("give it a larger share, or prepare more rows")

    def for_groups(self) -> dict[str, Any]:
        """Return the shares and the seed that a separate split of groups inherits."""
        return {}

    def in_words(self) -> str:
        """Return the rule and its shares as a phrase for reports."""
        return self.kind.replace("_", " ")

    def problems(self) -> Iterator[str]:
        if self.group:
            yield from self.check("group", among=GROUP_RULES)
        yield from self.check("group_valid", least=0, most=0.9)
        yield from self.check("leaks", among=("auto", "keep", "drop"))


@dataclass
class FractionSplitSettings(SplitSettings):
    """Settings of splits by fractions."""

    valid: float = 0.1
    """Validation share, 0 to 0.9."""
    test: float = 0.1
    """Test share, 0 to 0.9; valid + test below 1."""

    def held_out(self) -> list[str]:
        return [part for part in ("valid", "test") if getattr(self, part) > 0]

    def for_groups(self) -> dict[str, Any]:
        return {"valid": self.valid, "test": self.test}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("valid", "test", least=0, most=0.9)
        if self.valid + self.test >= 1:
            yield f"valid={self.valid}: valid + test must be below 1, so that training interactions remain"


@dataclass
class HashSplitSettings(FractionSplitSettings):
    """Settings of splits by a salted hash."""

    unit: ClassVar[str] = ""
    """The units that are held out, in words."""
    seed: int = 42
    """Salt of the hash."""

    def in_words(self) -> str:
        return Phrase("{unit}: {valid} for validation, {test} for test (seed {seed})", unit=self.unit,
                      valid=_percent(self.valid), test=_percent(self.test), seed=self.seed)

    def for_groups(self) -> dict[str, Any]:
        return super().for_groups() | {"seed": self.seed}


@dataclass
class RandomSettings(HashSplitSettings):
    """Random split of each user's interactions, by a salted hash of their content."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.RandomSplit"
    unit: ClassVar[str] = Phrase("random interactions of each user")
    kind: str = "random"


@dataclass
class ColdItemsSplitSettings(HashSplitSettings):
    """Random split of items, by a salted hash of their ids: all interactions of a held-out item are held out."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.ColdSplit"
    cold: ClassVar[str] = "item"
    unit: ClassVar[str] = Phrase("random items with all their interactions")
    kind: str = "cold_items"


@dataclass
class ColdUsersSplitSettings(HashSplitSettings):
    """Random split of users, by a salted hash of their ids: all interactions of a held-out user are held out."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.ColdSplit"
    cold: ClassVar[str] = "user"
    unit: ClassVar[str] = Phrase("random users with all their interactions")
    kind: str = "cold_users"


@dataclass
class TemporalSettings(FractionSplitSettings):
    """Global time cutoff: later interactions are held out, the newest of them for the test.

    The cutoffs follow from the shares `valid` and `test`, unless `*_from` or `*_days` is set.
    """

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.temporal.TemporalSplit"
    needs_time: ClassVar[bool] = True
    by_cutoff: ClassVar[bool] = True
    has_group_shares: ClassVar[bool] = False
    kind: str = "temporal"
    test_from: str | None = None
    """Start of the test period, written like the timestamps or as 2024-05-31; null: from `test` or `test_days`."""
    valid_from: str | None = None
    """Start of the validation period, written likewise; null: from `valid` or `valid_days`."""
    test_days: float | None = None
    """Length of the test period in days, ending at the newest interaction, above 0; null: from `test` or
    `test_from`."""
    valid_days: float | None = None
    """Length of the validation period in days, ending at the test period, above 0; null: from `valid` or
    `valid_from`."""

    def remedy(self, part: str) -> str:
        if getattr(self, f"{part}_days") is not None:
            return Phrase("no interactions in its days; raise split.{part}_days, or check whether the newest times are "
                          "right", part=part)
        if getattr(self, f"{part}_from") is not None:
            return Phrase("no interactions in its period; set an earlier split.{part}_from", part=part)
        return super().remedy(part)

    def in_words(self) -> str:
        return Phrase("by time, with the same cutoffs for all users")

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("test_days", "valid_days", above=0)
        for part in ("test", "valid"):
            if getattr(self, f"{part}_from") is not None and getattr(self, f"{part}_days") is not None:
                yield f"{part}_from: cannot be combined with {part}_days; leave out one of the two"


@dataclass
class LeaveLastOutSettings(SplitSettings):
    """Each user's last interaction is for the test, the one before it for validation."""

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.LeaveLastOutSplit"
    needs_time: ClassVar[bool] = True
    has_group_shares: ClassVar[bool] = False
    kind: str = "leave_last_out"

    def held_out(self) -> list[str]:
        return ["valid", "test"]

    def in_words(self) -> str:
        return Phrase("each user's last interaction for test, the one before it for validation")


@dataclass
class GivenSettings(SplitSettings):
    """Split by files: dataset.train, dataset.valid, dataset.test.

    If there is no file for validation, `valid` can take a share of the training interactions.
    """

    implementation: ClassVar[str] = "llmrec_cli.ingest.interactions.splits.GivenSplit"
    is_given: ClassVar[bool] = True
    kind: str = "given"
    valid: float = 0.0
    """Share of dataset.train that becomes validation, 0 to 0.9, by a salted hash of user and item. Each user, and each
    group of dataset.group_train, keeps at least one training interaction. 0: only the files define the split."""
    seed: int = 42
    """Salt of the hash."""

    @property
    def carved_share(self) -> float:
        return self.valid

    def held_out(self) -> list[str]:
        return ["test", *(["valid"] if self.valid > 0 else [])]

    def remedy(self, part: str) -> str:
        return Phrase("check which rows of its file dataset.min_value, dataset.min_*_interactions and split.leaks "
                      "removed, or raise split.valid")

    def for_groups(self) -> dict[str, Any]:
        return {"seed": self.seed} | ({"valid": self.valid} if self.valid else {})

    def in_words(self) -> str:
        if not self.valid:
            return Phrase("given by the input files")
        return Phrase("given by the input files; {valid} of the training file for validation (seed {seed})",
                      valid=_percent(self.valid), seed=self.seed)

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

    def in_words(self) -> str:
        return Phrase("nothing is held out")


SPLITS: dict[str, type[SplitSettings]] = {
    "random": RandomSettings, "temporal": TemporalSettings, "leave_last_out": LeaveLastOutSettings,
    "cold_items": ColdItemsSplitSettings,
    "cold_users": ColdUsersSplitSettings, "given": GivenSettings, "none": NoSplitSettings}

_LEAKS = {"keep": Phrase("pairs in several splits are kept"),
          "drop": Phrase("pairs in several splits are kept in the earliest only")}


def describe_split(split: Mapping[str, Any], unit: str) -> str:
    """Return the split of a manifest in words; `unit` is the unit of the data's timestamps, "" without times."""
    option = SPLITS.get(split["kind"], SplitSettings)
    names = {field.name for field in fields(option)}
    phrases = [option(**{key: value for key, value in split.items() if key in names}).in_words()]
    cutoff = split.get("cutoff", {})
    if "valid" in cutoff:
        phrases.append(Phrase("validation from {time}", time=_moment(cutoff["valid"], unit)))
    if "test" in cutoff:
        phrases.append(Phrase("test from {time}", time=_moment(cutoff["test"], unit)))
    if split.get("leaks") in _LEAKS:
        phrases.append(_LEAKS[split["leaks"]])
    if split.get("group"):
        phrases.append(Phrase("interactions of groups: {how}", how=fixed_phrase(split["group"].replace("_", " "))))
    return Joined(phrases, "; ")


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _moment(timestamp: int, unit: str) -> str:
    if unit == "order":
        return Phrase("position {position:,}", position=timestamp)
    return f"{datetime.fromtimestamp(timestamp / 1000, UTC):%Y-%m-%d %H:%M} UTC"
