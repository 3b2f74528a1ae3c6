"""The global cutoff of a temporal split, and times far from all others, which would move it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.audit.shape import moment
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.interactions.id_codes import Coded
from llmrec_cli.ingest.interactions.splits import SHARE_ROUNDING, TRAIN, Divided, SplitRule, UserSplit
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.checks import Raw, time_of
from llmrec_cli.settings.split import TemporalSettings

_MOST, _MOST_OF_FEW = 0.01, 5
"""Largest share of the rows that can be far from the rest at one end, and their number where that share is fewer."""
_FEWEST = 10
"""Fewest rows to judge by, and fewest for each that may be far."""
_FAR = 0.5
"""Smallest gap before times that are far, as a share of the time that the other rows span."""
_DAY = 86_400_000
_WEEK, _MONTH = 7 * _DAY, 30 * _DAY
"""The gap is at least a week, and in data of less than a month at least the whole time that the other rows span: young
shops have gaps."""


@dataclass(frozen=True)
class FarRows:
    """The newest or the oldest rows, where a large gap lies between them and the others.

    Attributes
    ----------
    num : how many
    at, sound : time of the one nearest to the others, and the nearest time of the others, as int64 milliseconds
    place : file and line of that one, "" where it was prepared before
    """

    num: int
    at: int
    sound: int
    place: str

    def sentence(self, unit: str) -> str:
        """Return what is probably wrong."""
        days, is_late = abs(self.at - self.sound) / _DAY, self.at > self.sound
        what = f"{self.place} has" if self.num == 1 and self.place else f"{self.num:,} interactions have"
        or_more = (" or later" if is_late else " or earlier") if self.num > 1 else ""
        where = f" (the first: {self.place})" if self.num > 1 and self.place else ""
        sound = str(moment(self.sound, unit))
        side, of_others = ("after", "newest") if is_late else ("before", "oldest")
        told = f"{what} the time {moment(self.at, unit)}{or_more}{where}, {days:,.1f} days {side} the {of_others} of " \
               f"the others ({sound}): "
        told += ("a wrong clock moves the end of the data, and a cutoff in time with it" if is_late else
                 "a wrong clock, or a missing time that is written as 0, is taken for what happened first")
        return (f"{told}; dataset.{of_others}={sound.removesuffix('Z')} leaves out what is "
                f"{'later' if is_late else 'earlier'}")


def far_rows(rows: Table, raw: Raw) -> list[FarRows]:
    """Return the oldest and the newest of `rows` (timestamp), where they are far from the others."""
    if raw.unit in ("", "order"):
        return []
    # A missing time written as 0 may be in any number of rows: the others are looked at without these.
    is_missing = rows.timestamp < _DAY
    missing = size(rows.filter(is_missing))
    timed = rows.filter(~is_missing) if missing else rows
    number = size(rows) - missing
    if number < _FEWEST:
        return []
    some = max(int(_MOST * number), min(_MOST_OF_FEW, number // _FEWEST))
    newest, oldest = (collect(timed.order_by(by).limit(some + 1).select("timestamp")).column(0).to_numpy()
                      for by in (ibis.desc("timestamp"), ibis.asc("timestamp")))
    # A span is taken without what may be far at its other end: decades would hide any gap.
    num_late, num_early = _num_far(newest, oldest[-1]), _num_far(oldest, newest[-1])
    late, early = (newest[num_late - 1], newest[num_late]), (oldest[num_early - 1], oldest[num_early])
    if missing:
        last = scalar(rows.filter(is_missing).timestamp.max())
        if _num_far(np.array([last, early[1]]), newest[-1]):
            early = (early[0] if num_early else last, early[1])
            num_early += missing
    return [FarRows(num, int(at), int(sound), _place(raw, int(at)))
            for num, (at, sound) in ((num_late, late), (num_early, early)) if num]


def _num_far(times: np.ndarray, other_end: int) -> int:
    """Return how many of `times`, from one end inwards, are far from those after them; `other_end` ends all."""
    gaps, spans = np.abs(np.diff(times)), np.abs(times[1:] - other_end)
    far = np.flatnonzero(gaps >= np.maximum(np.maximum(_WEEK, _FAR * spans), np.minimum(spans, _MONTH)))
    return int(far[-1]) + 1 if len(far) else 0


def _place(raw: Raw, at: int) -> str:
    """Return the file and line of the first row with this time."""
    found: Sequence[dict[str, int]] = []
    for part in raw.parts:
        timed = part.select("file", "line", at=time_of(part, raw))
        found = [*found, *collect(timed.filter(timed["at"] == at).order_by("file", "line").limit(1)).to_pylist()]
    if not found:
        return ""
    first = min(found, key=lambda row: (row["file"], row["line"]))
    return f"{raw.files[first['file']]} line {first['line']}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TemporalSplit(SplitRule[TemporalSettings]):
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


def cutoffs(rows: Table, settings: TemporalSettings, unit: str) -> dict[str, int]:
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
