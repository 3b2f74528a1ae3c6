"""Splits of interactions into train, valid and test. Every rule depends on the rows' content, not on file order."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ibis
from ibis.expr.types import IntegerColumn, Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import materialise, size
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.interactions.order import hash_limit, hash_prefix, order_columns, pair_hash, salted_hash
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
class SplitRows:
    """Interactions with their `split`.

    Attributes
    ----------
    cutoff : first time of valid and of test in a temporal split
    leaks : rows removed because an earlier split has their pair; None unless split.leaks=drop
    num_known : rows chosen for validation by their hash that stay in training because a member has their pair in
    training
    """

    rows: Table
    cutoff: dict[str, int] = field(default_factory=dict)
    leaks: Table | None = None
    num_known: int = 0


@dataclass(frozen=True)
class UserSplit:
    """The parts of the users' split that groups share, so that neither reveals what is held out for the other.

    Attributes
    ----------
    cutoff : first time of valid and of test, if the users' split is temporal
    unit : unit of the users' timestamps
    items : item_id and the place of its split in SPLITS, if the users' split holds out items
    """

    cutoff: dict[str, int]
    unit: str = ""
    items: Table | None = None


class SplitRule(ABC, Generic[S]):
    """A split rule, built from its settings.

    In its methods `unit` is the unit of the timestamps ("" without timestamps), `chosen_unit` the unit in the settings.
    """

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return the rows of `coded` with `split` set.

        Validation carved from the given training contains no pair of `seen` (user, item).
        """

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Split the negatives so that none reveals a held-out interaction; by default as the files split them."""
        return negatives

    def divide_groups(self, coded: CodedRows, users: UserSplit, unit: str, chosen_unit: str,
                      seen: Table | None = None) -> SplitRows:
        """Split the interactions of groups, with groups in the place of users, by the same rule."""
        return self.divide(coded, unit, chosen_unit, seen)


class RandomSplit(SplitRule[RandomSettings]):
    """A share of each user's interactions is held out at random, as in RecBole.

    Of n interactions floor(test x n) and floor(valid x n) are held out. Where that is 0 for a positive share, one is
    held out, test first, as long as one remains for training. The interactions with the lowest salted hashes of user
    and item are held out.
    """

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return the rows divided."""
        settings = self.settings
        rows = coded.rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
        hashed = rows.mutate(hash=pair_hash(settings.seed, rows)).drop("user_id", "item_id")
        place = ibis.row_number().over(group_by="user", order_by=[hashed.hash, hashed.item])
        placed = hashed.mutate(place=place, size=hashed.count().over(group_by="user"))
        test, valid = _share(placed["size"], settings.test), _share(placed["size"], settings.valid)
        train = placed["size"] - test - valid
        if settings.test > 0:
            one = ((test == 0) & (train > 1)).ifelse(1, 0)
            test, train = test + one, train - one
        if settings.valid > 0:
            valid = valid + ((valid == 0) & (train > 1)).ifelse(1, 0)
        return SplitRows(materialise(_held_out(placed, placed.place, test, valid).drop("place", "size", "hash")))

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Split the negatives by their hashes alone, since they need no exact ratio per user."""
        settings = self.settings
        named = negatives.inner_join(coded.users, "user").inner_join(coded.items, "item")
        at = hash_prefix(pair_hash(settings.seed, named))
        ends = [hash_limit(share) for share in (settings.test, settings.test + settings.valid)]
        split = ibis.cases((at < ends[0], ibis.literal(_TEST, "int8")), (at < ends[1], ibis.literal(VALID, "int8")),
                           else_=ibis.literal(TRAIN, "int8"))
        return named.mutate(split=split).select(*negatives.columns)


class LeaveLastOutSplit(SplitRule[LeaveLastOutSettings]):
    """Each user's last interaction is the test and the one before validation; one always remains for training."""

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return the rows divided."""
        rows = coded.rows
        keys = [rows[name].desc() for name in order_columns(rows)]
        newest = ibis.row_number().over(group_by="user", order_by=[*keys, rows.item.desc()])
        placed = rows.mutate(place=newest, size=rows.count().over(group_by="user"))
        test = (placed["size"] > 1).ifelse(1, 0)
        valid = (placed["size"] > 2).ifelse(1, 0)
        return SplitRows(materialise(_held_out(placed, placed.place, test, valid).drop("place", "size")))

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Split the negatives at the times of the user's own held-out interactions."""
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

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return the rows divided."""
        kind, rows = self.settings.cold, coded.rows
        return SplitRows(rows.drop("split").inner_join(self._parts(coded), kind).select(*rows.columns))

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Split the negatives by item, or user. Items without a positive interaction go to training."""
        kind = self.settings.cold
        parts = negatives.drop("split").left_join(divided.rows.select(kind, "split").distinct(), kind)
        return parts.mutate(split=parts.split.fill_null(ibis.literal(TRAIN, "int8"))).select(*negatives.columns)

    def divide_groups(self, coded: CodedRows, users: UserSplit, unit: str, chosen_unit: str,
                      seen: Table | None = None) -> SplitRows:
        """Split the interactions of groups by the items that are cold for users, or by group."""
        if users.items is None:
            return self.divide(coded, unit, chosen_unit)
        parts = coded.items.inner_join(users.items, "item_id").select("item", own=users.items.split)
        joined = coded.rows.left_join(parts, "item")
        # Items without an interaction of users go to training.
        return SplitRows(joined.mutate(split=joined.own.fill_null(ibis.literal(TRAIN, "int8"))))

    def _parts(self, coded: CodedRows) -> Table:
        """Return the split of each item, or user."""
        settings, kind = self.settings, self.settings.cold
        ids = coded.users if kind == "user" else coded.items
        present = ids.semi_join(coded.rows, kind)
        id_ = present[f"{kind}_id"]
        place = ibis.row_number().over(order_by=[salted_hash(settings.seed, id_), id_])
        number = size(present)
        test, valid = (max(int(number * share + SHARE_ROUNDING), int(share > 0))
                       for share in (settings.test, settings.valid))
        if test + valid >= number:
            raise DataError(f"split=cold_{kind}s: {number:,} {kind}s are too few to hold any out; use another split")
        placed = present.mutate(place=place)
        held = _held_out(placed, placed.place, ibis.literal(test), ibis.literal(valid))
        return materialise(held.select(kind, "split"))


class UndividedSplit(SplitRule[NoSplitSettings]):
    """Nothing is held out."""

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return all rows as training."""
        return SplitRows(coded.rows.mutate(split=ibis.literal(TRAIN, "int8")))

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Return all negatives as training."""
        return negatives.mutate(split=ibis.literal(TRAIN, "int8"))


def build_split(settings: SplitSettings) -> SplitRule[Any]:
    """Return the split rule of `settings`."""
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
"""Reason in filtered.parquet of rows that split.leaks=drop removes."""


class GivenSplit(SplitRule[GivenSettings]):
    """The files give the split; with `valid`, a share of their training interactions becomes validation."""

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Return the rows as the files split them."""
        settings = self.settings
        rows, leaks = drop_leaks(coded.rows) if settings.leaks == "drop" else (coded.rows, None)
        rows, num_known = carve_validation(coded.with_rows(rows), settings.valid, settings.seed, seen)
        return SplitRows(rows, leaks=leaks, num_known=num_known)


def check_split_settings(sources: Sources, split: SplitSettings) -> None:
    """Raise ConfigError for split settings that contradict the files."""
    parts = {source.split for source in sources.interactions}
    of_groups = {source.split for source in sources.group_interactions}
    if split.carved_share > 0 and "valid" in parts:
        raise ConfigError(f"split.valid={split.carved_share:g}: carves validation from training, but dataset.valid is "
                          f"a validation file already; remove split.valid or dataset.valid")
    share = split.carved_share if split.group_valid is None else split.group_valid
    if share and "valid" in of_groups:
        key = f"split.group_valid={share:g}" if split.group_valid is not None else f"split.valid={share:g}"
        raise ConfigError(f"{key}: carves the groups' validation from their training, but dataset.group_valid is a "
                          f"validation file already; remove dataset.group_valid, or set split.group_valid=0")
    if split.group_valid is not None and not sources.group_interactions:
        raise ConfigError(f"split.group_valid={split.group_valid:g}: has no effect without interactions of groups; "
                          f"remove it, or set dataset.group_train or dataset.group_interactions")
    if split.leaks == "drop" and not any(parts | of_groups):
        raise ConfigError("split.leaks=drop: has no effect unless the files give the split (split=given or "
                          "dataset.group_train), since a split made by prepare has no pair in two splits; remove it")


def carve_validation(coded: CodedRows, share: float, seed: int, seen: Table | None = None) -> tuple[Table, int]:
    """Move about `share` of the training to validation, by the hash of split=random; return rows and a count.

    Each row is chosen by its own hash, so that rows appended later move no earlier ones. The interaction with the
    highest hash of each user stays in training, so `share` holds for users with several interactions. Pairs in `seen`
    (user, item) also stay in training; the count is the number of such pairs whose hash selects them for validation.
    """
    if share == 0:
        return coded.rows, 0
    rows = coded.rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
    hashed = rows.mutate(hash=pair_hash(seed, rows)).drop("user_id", "item_id")
    highest = ibis.row_number().over(group_by=["user", "split"], order_by=[hashed.hash.desc(), hashed.item])
    placed = hashed.mutate(place=highest)
    selected = (placed.split == _TRAIN) & (placed.place > 0) & (hash_prefix(placed.hash) < hash_limit(share))
    marked = materialise(placed.mutate(chosen=selected).select(*coded.rows.columns, "chosen"))
    num_known = 0
    if seen is not None:
        copies = materialise(marked.filter(marked.chosen).semi_join(seen, ["user", "item"]).select("user", "item")
                              .mutate(copied=ibis.literal(True)))
        num_known = size(copies)
        joined = marked.left_join(copies, ["user", "item"])
        marked = joined.mutate(chosen=marked.chosen & joined.copied.isnull()).select(*coded.rows.columns, "chosen")
    split = ibis.cases((marked.chosen, ibis.literal(_VALID, "int8")), else_=marked.split)
    return materialise(marked.mutate(split=split).select(*coded.rows.columns)), num_known


def drop_leaks(rows: Table) -> tuple[Table, Table]:
    """Return the rows without those whose pair an earlier split has, and the removed rows. Order: train, valid, test.
    """
    pairs = rows.group_by("user", "item").agg(earliest=rows.split.min(), times=rows.count())
    several = materialise(pairs.filter(pairs.times > 1).drop("times"))
    joined = rows.inner_join(several, ["user", "item"])
    late = materialise(joined.filter(joined.split > joined.earliest).select(*rows.columns))
    return (rows.anti_join(late, ["user", "item", "split"]) if size(late) else rows), late
