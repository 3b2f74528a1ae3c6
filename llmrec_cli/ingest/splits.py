"""Dividing interactions into train, valid and test. Every rule depends on the rows' content, never on their order."""

from typing import Any

import ibis
from ibis.expr.types import IntegerColumn, Table

from llmrec_cli.errors import DataError
from llmrec_cli.settings.split import Given, LeaveLastOut, NoSplit, Random, SplitSettings, Temporal

_ROUNDING = 1e-9  # so that 0.29 x 100 = 28.999... counts as 29


def divide(rows: Table, settings: SplitSettings, unit: str, chosen_unit: str) -> Table:
    """Return `rows` (user_id, item_id, value, timestamp, split) with `split` set to train, valid or test.

    `unit` is how timestamps were written ("" without any), `chosen_unit` what the settings said of it.
    """
    if isinstance(settings, Random):
        return _random(rows, settings)
    if isinstance(settings, LeaveLastOut):
        return _last_out(rows)
    if isinstance(settings, Temporal):
        if unit == "order" and chosen_unit == "auto":
            raise DataError("split=temporal: the timestamps are small numbers, which may be an order within each user "
                            "only; use split=leave_last_out, or set dataset.timestamp_unit=order when they can be "
                            "compared between users (dataset.timestamp_unit=s when they are seconds)")
        return _temporal(rows, settings)
    if isinstance(settings, NoSplit):
        return rows.mutate(split=ibis.literal("train"))
    assert isinstance(settings, Given)
    return rows


def needs_time(settings: SplitSettings) -> str:
    """Return `split=<name>` when the split cannot be made without timestamps, else ""."""
    return f"split={settings.kind}" if isinstance(settings, (Temporal, LeaveLastOut)) else ""


def _random(rows: Table, settings: Random) -> Table:
    """Split each user's interactions by ratio, as RecBole does.

    Of n interactions floor(test x n) and floor(valid x n) are held out; where that is 0 and the share is not, one is,
    test first, as long as one is left to train on. Which ones: those whose salted hash of user and item is lowest.
    """
    salted = ibis.literal(f"{settings.seed}\x1f") + rows.user_id + "\x1f" + rows.item_id
    place = ibis.row_number().over(group_by="user_id", order_by=[salted.hexdigest("md5"), rows.item_id])
    placed = rows.mutate(place=place, size=rows.count().over(group_by="user_id"))
    test, valid = _share(placed["size"], settings.test), _share(placed["size"], settings.valid)
    train = placed["size"] - test - valid
    if settings.test > 0:
        one = ((test == 0) & (train > 1)).ifelse(1, 0)
        test, train = test + one, train - one
    if settings.valid > 0:
        valid = valid + ((valid == 0) & (train > 1)).ifelse(1, 0)
    return _held_out(placed, placed.place, test, valid).drop("place", "size")


def _share(size: IntegerColumn, share: float) -> IntegerColumn:
    return (size * share + _ROUNDING).floor().cast("int64")


def _last_out(rows: Table) -> Table:
    """Hold out each user's last interaction as test and the one before as valid; one is always left to train on."""
    newest = ibis.row_number().over(group_by="user_id", order_by=[rows.timestamp.desc(), rows.item_id.desc()])
    placed = rows.mutate(place=newest, size=rows.count().over(group_by="user_id"))
    test = (placed["size"] > 1).ifelse(1, 0)
    valid = (placed["size"] > 2).ifelse(1, 0)
    return _held_out(placed, placed.place, test, valid).drop("place", "size")


def _temporal(rows: Table, settings: Temporal) -> Table:
    """Hold out the newest shares of all interactions; rows of the same time are ordered by user and item."""
    newest = ibis.row_number().over(order_by=[rows.timestamp.desc(), rows.user_id.desc(), rows.item_id.desc()])
    size = rows.count().to_pyarrow().as_py()
    test, valid = (int(size * share + _ROUNDING) for share in (settings.test, settings.valid))
    placed = rows.mutate(place=newest)
    return _held_out(placed, placed.place, ibis.literal(test), ibis.literal(valid)).drop("place")


def _held_out(rows: Table, place: IntegerColumn, test: Any, valid: Any) -> Table:
    return rows.mutate(split=ibis.cases((place < test, "test"), (place < test + valid, "valid"), else_="train"))


def cutoffs(rows: Table, settings: SplitSettings) -> dict[str, int]:
    """Return the first timestamp of what a temporal split holds out, {valid, test}; {} for other splits."""
    if not isinstance(settings, Temporal):
        return {}
    held = rows.filter(rows.split != "train").group_by("split").agg(first=rows.timestamp.min()).order_by("split")
    return {row["split"]: row["first"] for row in held.to_pyarrow().to_pylist()}
