"""Dividing interactions by one cutoff in time for everybody."""

import re
from datetime import UTC, datetime, timedelta

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.interactions.coding import Coded
from llmrec_cli.ingest.interactions.splits import SHARE_ROUNDING, TRAIN, Divided, SplitRule, UserSplit
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.settings.split import Temporal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TemporalSplit(SplitRule[Temporal]):
    """Interactions from the cutoff on are held out, the newest of them for the test."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows divided at the cutoffs that the settings name."""
        if unit == "order" and chosen_unit == "auto":
            raise DataError("split=temporal: the timestamps are small numbers, which may be an order within each user "
                            "only; use split=leave_last_out, or set dataset.timestamp_unit=order when they can be "
                            "compared between users (dataset.timestamp_unit=s when they are seconds)")
        cutoff = cutoffs(coded.rows, self.settings, unit)
        return Divided(since(coded.rows, cutoff), cutoff)

    def divide_negatives(self, negatives: Table, coded: Coded, divided: Divided) -> Table:
        """Return the negatives divided at the same cutoffs."""
        return since(negatives, divided.cutoff)

    def divide_groups(self, coded: Coded, users: UserSplit, unit: str, chosen_unit: str,
                      known: Table | None = None) -> Divided:
        """Return the rows of groups divided at the users' cutoffs where these have any."""
        if not users.cutoff:
            return self.divide(coded, unit, chosen_unit)
        if (unit == "order") != (users.unit == "order"):
            raise DataError(f"dataset.group_interactions: its timestamps are written in '{unit}' and the users' in "
                            f"'{users.unit}', so one cutoff cannot be for both; write them alike or use "
                            f"split.group=random")
        return Divided(since(coded.rows, users.cutoff))


def cutoffs(rows: Table, settings: Temporal, unit: str) -> dict[str, int]:
    """Return the first moment of the test and of validation, {test, valid}; a part without a share is left out."""
    number = size(rows)
    end = int(scalar(rows.timestamp.max())) + 1 if number else 0
    found: dict[str, int] = {}
    for part in ("test", "valid"):
        start, days, share = (getattr(settings, key) for key in (f"{part}_from", f"{part}_days", part))
        if start is not None:
            at = typed_time(start, unit, f"split.{part}_from")
            if at > end:
                raise ConfigError(f"split.{part}_from={start}: is after {'the test began' if found else 'all data'}; "
                                  f"choose an earlier time")
        elif days is not None:
            if unit == "order":
                raise ConfigError(f"split.{part}_days={days:g}: the timestamps are an order, which has no days; use "
                                  f"split.{part} or split.{part}_from")
            at = end - round(days * _DAY)
        elif held := int(number * share + SHARE_ROUNDING):
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


def typed_time(text: str, unit: str, key: str, last: bool = False) -> int:
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
