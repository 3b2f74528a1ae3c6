"""Splits of interactions into train, valid and test. Every rule depends on the rows' content, never on their order."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ibis
from ibis.expr.types import IntegerColumn, Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import materialised, size
from llmrec_cli.ingest.interactions.id_codes import Coded
from llmrec_cli.ingest.interactions.order import end_of, keys_of, of_pair, salted, start_of
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    ColdUsersSplitSettings,
    GivenSettings,
    LeaveLastOutSettings,
    NoSplitSettings,
    RandomSettings,
    SplitSettings,
)

TRAIN, VALID, _TEST = range(len(SPLITS))
SHARE_ROUNDING = 1e-9  # so that 0.29 x 100 = 28.999... counts as 29
S = TypeVar("S", bound=SplitSettings)


@dataclass(frozen=True)
class Divided:
    """Interactions whose `split` says what they are for.

    Attributes
    ----------
    cutoff : the first moment of valid and test of a temporal split
    leaks : rows that were left out since an earlier split has their pair; None unless split.leaks=drop
    num_known : rows that stay in training although the hash chose them for validation, since `known` has their pair
    """

    rows: Table
    cutoff: dict[str, int] = field(default_factory=dict)
    leaks: Table | None = None
    num_known: int = 0


@dataclass(frozen=True)
class UserSplit:
    """The parts of the users' division that hold for groups too: what is known of one is known of the other.

    Attributes
    ----------
    cutoff : the first moment of valid and test, where the users' split is temporal
    unit : how the users' timestamps were written
    items : item_id and the place of its split in SPLITS, where the users' split holds items out
    """

    cutoff: dict[str, int]
    unit: str = ""
    items: Table | None = None


class SplitRule(ABC, Generic[S]):
    """A rule that divides interactions, built from its settings.

    `unit` is the unit of the timestamps ("" without any), `chosen_unit` the one in the settings.
    """

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows of `coded` with `split` set.

        No pair in `known` (user, item) is carved from given training for validation.
        """

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return the negatives divided so that none tells of what is held out; here as the files have them."""
        return negatives

    def divide_groups(self, coded: Coded, users: UserSplit, unit: str, chosen_unit: str,
                      known: Table | None = None) -> Divided:
        """Return what groups did together, with the group in the place of the user, divided by the same rule."""
        return self.divide(coded, unit, chosen_unit, known)


class RandomSplit(SplitRule[RandomSettings]):
    """Each user's interactions by ratio, as RecBole does.

    Of n interactions floor(test x n) and floor(valid x n) are held out; where that is 0 and the share is not, one is,
    test first, as long as one is left to train on. Which ones: those whose salted hash of user and item is lowest.
    """

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows divided."""
        settings = self.settings
        rows = coded.rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
        hashed = rows.mutate(hash=of_pair(settings.seed, rows)).drop("user_id", "item_id")
        place = ibis.row_number().over(group_by="user", order_by=[hashed.hash, hashed.item])
        placed = hashed.mutate(place=place, size=hashed.count().over(group_by="user"))
        test, valid = _share(placed["size"], settings.test), _share(placed["size"], settings.valid)
        train = placed["size"] - test - valid
        if settings.test > 0:
            one = ((test == 0) & (train > 1)).ifelse(1, 0)
            test, train = test + one, train - one
        if settings.valid > 0:
            valid = valid + ((valid == 0) & (train > 1)).ifelse(1, 0)
        return Divided(materialised(_held_out(placed, placed.place, test, valid).drop("place", "size", "hash")))

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return the negatives divided by the hash of user and item alone, since no ratio is at stake."""
        settings = self.settings
        named = negatives.inner_join(coded.users, "user").inner_join(coded.items, "item")
        at = start_of(of_pair(settings.seed, named))
        ends = [end_of(share) for share in (settings.test, settings.test + settings.valid)]
        split = ibis.cases((at < ends[0], ibis.literal(_TEST, "int8")), (at < ends[1], ibis.literal(VALID, "int8")),
                           else_=ibis.literal(TRAIN, "int8"))
        return named.mutate(split=split).select(*negatives.columns)


class LeaveLastOutSplit(SplitRule[LeaveLastOutSettings]):
    """Each user's last interaction is the test and the one before validation; one is always left to train on."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows divided."""
        rows = coded.rows
        keys = [rows[name].desc() for name in keys_of(rows)]
        newest = ibis.row_number().over(group_by="user", order_by=[*keys, rows.item.desc()])
        placed = rows.mutate(place=newest, size=rows.count().over(group_by="user"))
        test = (placed["size"] > 1).ifelse(1, 0)
        valid = (placed["size"] > 2).ifelse(1, 0)
        return Divided(materialised(_held_out(placed, placed.place, test, valid).drop("place", "size")))

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return the negatives divided by the times of the user's own held-out interactions."""
        held = divided.rows.filter(divided.rows.split != TRAIN)
        times = held.group_by("user").agg(
            valid_at=ibis.cases((held.split == VALID, held.timestamp)).min(),
            test_at=ibis.cases((held.split == _TEST, held.timestamp)).min())
        joined = negatives.left_join(times, "user")
        split = ibis.cases((joined.timestamp >= joined.test_at, ibis.literal(_TEST, "int8")),
                           (joined.timestamp >= joined.valid_at, ibis.literal(VALID, "int8")),
                           else_=ibis.literal(TRAIN, "int8"))
        return joined.mutate(split=split).select(*negatives.columns)


class ColdSplit(SplitRule[ColdItemsSplitSettings | ColdUsersSplitSettings]):
    """Whole items, or users, are held out: the shares with the lowest salted hashes of their ids."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows divided."""
        kind, rows = self.settings.cold, coded.rows
        return Divided(rows.drop("split").inner_join(self._parts(coded), kind).select(*rows.columns))

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return the negatives divided by item, or user. What nobody likes is in no part; it can be learnt from."""
        kind = self.settings.cold
        parts = negatives.drop("split").left_join(divided.rows.select(kind, "split").distinct(), kind)
        return parts.mutate(split=parts.split.fill_null(ibis.literal(TRAIN, "int8"))).select(*negatives.columns)

    def divide_groups(self, coded: Coded, users: UserSplit, unit: str, chosen_unit: str,
                      known: Table | None = None) -> Divided:
        """Return the rows of groups divided by the items that are cold for users, or by group."""
        if users.items is None:
            return self.divide(coded, unit, chosen_unit)
        parts = coded.items.inner_join(users.items, "item_id").select("item", own=users.items.split)
        joined = coded.rows.left_join(parts, "item")
        # What no user chose is in no part; it can be learnt from.
        return Divided(joined.mutate(split=joined.own.fill_null(ibis.literal(TRAIN, "int8"))))

    def _parts(self, coded: Coded) -> Table:
        """Return each item, or user, and its split."""
        settings, kind = self.settings, self.settings.cold
        ids = coded.users if kind == "user" else coded.items
        present = ids.semi_join(coded.rows, kind)
        place = ibis.row_number().over(order_by=[salted(settings.seed, present[f"{kind}_id"]), present[f"{kind}_id"]])
        number = size(present)
        test, valid = (max(int(number * share + SHARE_ROUNDING), int(share > 0))
                       for share in (settings.test, settings.valid))
        if test + valid >= number:
            raise DataError(f"split=cold_{kind}s: there are {number:,} {kind}s, too few to hold any out; use another "
                            f"split")
        placed = present.mutate(place=place)
        held = _held_out(placed, placed.place, ibis.literal(test), ibis.literal(valid))
        return materialised(held.select(kind, "split"))


class UndividedSplit(SplitRule[NoSplitSettings]):
    """Nothing is held out."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return all rows as training."""
        return Divided(coded.rows.mutate(split=ibis.literal(TRAIN, "int8")))

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return all negatives as training."""
        return negatives.mutate(split=ibis.literal(TRAIN, "int8"))


def build_split(settings: SplitSettings) -> SplitRule[Any]:
    """Return the rule that `settings` name."""
    built: SplitRule[Any] = implementation_of(settings)(settings)
    return built


def _share(size: IntegerColumn, share: float) -> IntegerColumn:
    return (size * share + SHARE_ROUNDING).floor().cast("int64")


def _held_out(rows: Table, place: IntegerColumn, test: Any, valid: Any) -> Table:
    code = {name: ibis.literal(number, "int8") for number, name in enumerate(SPLITS)}
    return rows.mutate(split=ibis.cases((place < test, code["test"]), (place < test + valid, code["valid"]),
                                        else_=code["train"]))


_TRAIN, _VALID = SPLITS.index("train"), SPLITS.index("valid")
LEAKED = "in_earlier_split"
"""Why rows are in filtered.parquet that split.leaks=drop leaves out."""


class GivenSplit(SplitRule[GivenSettings]):
    """The files say it, with validation from their training where `valid` asks for it."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows as the files divide them."""
        settings = self.settings
        rows, leaks = earliest_alone(coded.rows) if settings.leaks == "drop" else (coded.rows, None)
        rows, num_known = carved(coded.with_rows(rows), settings.valid, settings.seed, known)
        return Divided(rows, leaks=leaks, num_known=num_known)


def refuse_contradictions(sources: Sources, split: SplitSettings) -> None:
    """Raise ConfigError for settings of the split that the files make senseless."""
    parts = {source.split for source in sources.interactions}
    of_groups = {source.split for source in sources.group_interactions}
    if split.carved_share > 0 and "valid" in parts:
        raise ConfigError(f"split.valid={split.carved_share:g}: takes validation from training, but there is a file "
                          f"for it already; leave out one of split.valid and dataset.valid")
    share = split.carved_share if split.group_valid is None else split.group_valid
    if share and "valid" in of_groups:
        key = f"split.group_valid={share:g}" if split.group_valid is not None else f"split.valid={share:g}"
        raise ConfigError(f"{key}: takes the groups' validation from their training, but there is a file for it "
                          f"already; leave out dataset.group_valid, or set split.group_valid=0")
    if split.group_valid is not None and not sources.group_interactions:
        raise ConfigError(f"split.group_valid={split.group_valid:g}: has no effect without interactions of groups; "
                          f"leave it out, or name dataset.group_train or dataset.group_interactions")
    if split.leaks == "drop" and not any(parts | of_groups):
        raise ConfigError("split.leaks=drop: has an effect only where files are divided already (split=given, "
                          "dataset.group_train), since a split that is made here has no pair twice; leave it out")


def carved(coded: Coded, share: float, seed: int, known: Table | None = None) -> tuple[Table, int]:
    """Return the rows with about `share` of the training as validation, by the hash that split=random takes.

    Each row goes by its own hash, so that rows which join later move none that were there before; of each user one
    interaction, that of the highest hash, stays to be trained on. So the share is that of the users with more than one.
    Pairs in `known` (user, item) stay in training as well; the number is that of those which the hash would have taken.
    """
    if share == 0:
        return coded.rows, 0
    rows = coded.rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
    hashed = rows.mutate(hash=of_pair(seed, rows)).drop("user_id", "item_id")
    highest = ibis.row_number().over(group_by=["user", "split"], order_by=[hashed.hash.desc(), hashed.item])
    placed = hashed.mutate(place=highest)
    chosen = (placed.split == _TRAIN) & (placed.place > 0) & (start_of(placed.hash) < end_of(share))
    taken = materialised(placed.mutate(chosen=chosen).select(*coded.rows.columns, "chosen"))
    num_known = 0
    if known is not None:
        copies = materialised(taken.filter(taken.chosen).semi_join(known, ["user", "item"]).select("user", "item")
                              .mutate(copied=ibis.literal(True)))
        num_known = size(copies)
        joined = taken.left_join(copies, ["user", "item"])
        taken = joined.mutate(chosen=taken.chosen & joined.copied.isnull()).select(*coded.rows.columns, "chosen")
    split = ibis.cases((taken.chosen, ibis.literal(_VALID, "int8")), else_=taken.split)
    return materialised(taken.mutate(split=split).select(*coded.rows.columns)), num_known


def earliest_alone(rows: Table) -> tuple[Table, Table]:
    """Return the rows without those whose pair an earlier split has, and these: train comes before valid, then test."""
    pairs = rows.group_by("user", "item").agg(earliest=rows.split.min(), times=rows.count())
    several = materialised(pairs.filter(pairs.times > 1).drop("times"))
    joined = rows.inner_join(several, ["user", "item"])
    late = materialised(joined.filter(joined.split > joined.earliest).select(*rows.columns))
    return (rows.anti_join(late, ["user", "item", "split"]) if size(late) else rows), late
