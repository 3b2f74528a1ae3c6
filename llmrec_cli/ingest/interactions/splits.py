"""Dividing interactions into train, valid and test. Every rule depends on the rows' content, never on their order."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
from ibis.expr.types import IntegerColumn, Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, materialised, scalar, size
from llmrec_cli.ingest.interactions.coding import Coded
from llmrec_cli.ingest.interactions.given import carved, earliest_alone
from llmrec_cli.ingest.interactions.hashing import end_of, of_pair, salted, start_of
from llmrec_cli.ingest.interactions.order import keys_of
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.settings.split import (
    ColdItems,
    ColdUsers,
    Given,
    HashSplit,
    LeaveLastOut,
    NoSplit,
    Random,
    SplitSettings,
    Temporal,
)

TRAIN, VALID, TEST = range(len(SPLITS))
_ROUNDING = 1e-9  # so that 0.29 x 100 = 28.999... counts as 29
_DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def divide(coded: Coded, settings: SplitSettings, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
    """Return the rows of `coded` with `split` set.

    `unit` is how timestamps were written ("" without any), `chosen_unit` what the settings said of it. No pair in
    `known` (user, item) is carved from given training for validation.
    """
    rows = coded.rows
    if isinstance(settings, Random):
        return Divided(materialised(_random(coded, settings)))
    if isinstance(settings, LeaveLastOut):
        return Divided(materialised(_last_out(rows)))
    if isinstance(settings, ColdItems):
        return Divided(_by_entity(rows, _cold(coded, "item", settings), "item"))
    if isinstance(settings, ColdUsers):
        return Divided(_by_entity(rows, _cold(coded, "user", settings), "user"))
    if isinstance(settings, Temporal):
        if unit == "order" and chosen_unit == "auto":
            raise DataError("split=temporal: the timestamps are small numbers, which may be an order within each user "
                            "only; use split=leave_last_out, or set dataset.timestamp_unit=order when they can be "
                            "compared between users (dataset.timestamp_unit=s when they are seconds)")
        cutoff = cutoffs(rows, settings, unit)
        return Divided(since(rows, cutoff), cutoff)
    if isinstance(settings, NoSplit):
        return Divided(rows.mutate(split=ibis.literal(TRAIN, "int8")))
    assert isinstance(settings, Given)
    rows, leaks = earliest_alone(rows) if settings.leaks == "drop" else (rows, None)
    carved_rows, num_known = carved(coded.with_rows(rows), settings.valid, settings.seed, known)
    return Divided(carved_rows, leaks=leaks, num_known=num_known)


def needs_time(settings: SplitSettings) -> str:
    """Return `split=<name>` when the split cannot be made without timestamps, else ""."""
    return f"split={settings.kind}" if isinstance(settings, (Temporal, LeaveLastOut)) else ""


def _random(coded: Coded, settings: Random) -> Table:
    """Split each user's interactions by ratio, as RecBole does.

    Of n interactions floor(test x n) and floor(valid x n) are held out; where that is 0 and the share is not, one is,
    test first, as long as one is left to train on. Which ones: those whose salted hash of user and item is lowest.
    """
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
    return _held_out(placed, placed.place, test, valid).drop("place", "size", "hash")


def _share(size: IntegerColumn, share: float) -> IntegerColumn:
    return (size * share + _ROUNDING).floor().cast("int64")


def _last_out(rows: Table) -> Table:
    """Hold out each user's last interaction as test and the one before as valid; one is always left to train on."""
    keys = [rows[name].desc() for name in keys_of(rows)]
    newest = ibis.row_number().over(group_by="user", order_by=[*keys, rows.item.desc()])
    placed = rows.mutate(place=newest, size=rows.count().over(group_by="user"))
    test = (placed["size"] > 1).ifelse(1, 0)
    valid = (placed["size"] > 2).ifelse(1, 0)
    return _held_out(placed, placed.place, test, valid).drop("place", "size")


def _cold(coded: Coded, kind: str, settings: HashSplit) -> Table:
    """Return <kind> and its split: the shares with the lowest salted hashes of their ids are held out entirely."""
    ids = coded.users if kind == "user" else coded.items
    present = ids.semi_join(coded.rows, kind)
    place = ibis.row_number().over(order_by=[salted(settings.seed, present[f"{kind}_id"]), present[f"{kind}_id"]])
    number = size(present)
    test, valid = (max(int(number * share + _ROUNDING), int(share > 0)) for share in (settings.test, settings.valid))
    if test + valid >= number:
        raise DataError(f"split=cold_{kind}s: there are {number:,} {kind}s, too few to hold any out; use another split")
    placed = present.mutate(place=place)
    return materialised(_held_out(placed, placed.place, ibis.literal(test), ibis.literal(valid)).select(kind, "split"))


def _by_entity(rows: Table, parts: Table, kind: str) -> Table:
    return rows.drop("split").inner_join(parts, kind).select(*rows.columns)


def cutoffs(rows: Table, settings: Temporal, unit: str) -> dict[str, int]:
    """Return the first moment of the test and of validation, {test, valid}; a part without a share is left out."""
    number = size(rows)
    end = int(scalar(rows.timestamp.max())) + 1 if number else 0
    found: dict[str, int] = {}
    for part in ("test", "valid"):
        start, days, share = (getattr(settings, key) for key in (f"{part}_from", f"{part}_days", part))
        if start is not None:
            at = moment(start, unit, f"split.{part}_from")
            if at > end:
                raise ConfigError(f"split.{part}_from={start}: is after {'the test began' if found else 'all data'}; "
                                  f"choose an earlier time")
        elif days is not None:
            if unit == "order":
                raise ConfigError(f"split.{part}_days={days:g}: the timestamps are an order, which has no days; use "
                                  f"split.{part} or split.{part}_from")
            at = end - round(days * _DAY)
        elif held := int(number * share + _ROUNDING):
            before = rows if not found else rows.filter(rows.timestamp < end)
            newest = _newest_share(before, held)
            if newest is None:
                continue
            at = newest
        else:
            continue
        found[part] = end = at
    return found


def _newest_share(rows: Table, held: int) -> int | None:
    """Return the moment from which on about `held` rows are, the older ones of that moment too.

    All that happens at one moment is on one side, so that the cutoff is one in time for everybody; something is always
    older, or there is no such moment.
    """
    moments = collect(rows.order_by(ibis.desc("timestamp")).select("timestamp").limit(1, offset=held - 1)).column(0)
    oldest = scalar(rows.timestamp.min())
    if not len(moments) or moments[0].as_py() > oldest:
        return moments[0].as_py() if len(moments) else None
    later: int | None = scalar(rows.filter(rows.timestamp > oldest).timestamp.min())
    return later


def since(rows: Table, cutoff: dict[str, int]) -> Table:
    """Return the rows divided by time: what happens from the cutoffs on is held out."""
    cases = [(rows.timestamp >= at, ibis.literal(SPLITS.index(part), "int8"))
             for part, at in sorted(cutoff.items(), key=lambda item: -item[1])]
    return rows.mutate(split=ibis.cases(*cases, else_=ibis.literal(TRAIN, "int8")) if cases else
                       ibis.literal(TRAIN, "int8"))


def moment(text: str, unit: str, key: str, last: bool = False) -> int:
    """Return a time that a person wrote as int64 milliseconds, or as it is when timestamps are an order.

    Of a date, or a whole second, it is the first millisecond, or the last one.
    """
    if re.fullmatch("[0-9]+([.][0-9]+)?", text) and unit in timestamps.UNITS and unit != "iso" \
            and not re.fullmatch("(19|20)[0-9]{6}", text):
        return timestamps.milliseconds_of(float(text), unit) + (999 if last and unit == "s" else 0)
    try:
        if unit == "order":
            raise ValueError("the timestamps are an order")
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text}: is no time ({error}); write it as 2024-05-31, 2024-05-31T18:00:00 or like "
                          f"the timestamps, which are written in '{unit}'") from error
    more = _DAY - 1 if last and re.fullmatch("[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text) else 0
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1) + more


def _held_out(rows: Table, place: IntegerColumn, test: Any, valid: Any) -> Table:
    code = {name: ibis.literal(number, "int8") for number, name in enumerate(SPLITS)}
    return rows.mutate(split=ibis.cases((place < test, code["test"]), (place < test + valid, code["valid"]),
                                        else_=code["train"]))


def divide_negatives(negatives: Table, coded: Coded, divided: Divided, settings: SplitSettings) -> Table:
    """Return the negatives divided so that none tells of what is held out.

    By time, file or entity where the split goes by these; with leave_last_out by the times of the user's own held-out
    interactions; with random by the hash of user and item alone, since no ratio is at stake.
    """
    rows, known = divided.rows, negatives
    if isinstance(settings, (ColdItems, ColdUsers)):
        kind = "item" if isinstance(settings, ColdItems) else "user"
        parts = known.drop("split").left_join(rows.select(kind, "split").distinct(), kind)
        # What nobody likes is in no part; it can be learnt from.
        return parts.mutate(split=parts.split.fill_null(ibis.literal(TRAIN, "int8"))).select(*known.columns)
    if isinstance(settings, Temporal):
        return since(known, divided.cutoff)
    if isinstance(settings, LeaveLastOut):
        return _since_own(known, rows)
    if isinstance(settings, Random):
        named = known.inner_join(coded.users, "user").inner_join(coded.items, "item")
        ends = [end_of(share) for share in (settings.test, settings.test + settings.valid)]
        return _held_out_text(named, start_of(of_pair(settings.seed, named)), ends).select(*known.columns)
    return known.mutate(split=ibis.literal(TRAIN, "int8")) if isinstance(settings, NoSplit) else known


def _held_out_text(rows: Table, at: ibis.expr.types.StringValue, ends: list[str]) -> Table:
    return rows.mutate(split=ibis.cases((at < ends[0], ibis.literal(TEST, "int8")),
                                        (at < ends[1], ibis.literal(VALID, "int8")),
                                        else_=ibis.literal(TRAIN, "int8")))


def _since_own(negatives: Table, rows: Table) -> Table:
    held = rows.filter(rows.split != TRAIN)
    times = held.group_by("user").agg(
        valid_at=ibis.cases((held.split == VALID, held.timestamp)).min(),
        test_at=ibis.cases((held.split == TEST, held.timestamp)).min())
    joined = negatives.left_join(times, "user")
    split = ibis.cases((joined.timestamp >= joined.test_at, ibis.literal(TEST, "int8")),
                       (joined.timestamp >= joined.valid_at, ibis.literal(VALID, "int8")),
                       else_=ibis.literal(TRAIN, "int8"))
    return joined.mutate(split=split).select(*negatives.columns)

