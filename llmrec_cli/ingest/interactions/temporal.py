"""The global cutoff of a temporal split, and outlying times that would move it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.audit.shape import format_time
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.interactions.splits import SHARE_ROUNDING, TRAIN, SplitRows, SplitRule, UserSplit
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.checks import RawRows, time_of
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.split import TemporalSettings

_MOST, _MOST_OF_FEW = 0.01, 5
"""Largest share of the rows that can be outliers at one end, and their largest number where the share is smaller."""
_FEWEST = 10
"""Fewest rows for this check, and fewest rows per outlier."""
_FAR = 0.5
"""Smallest gap to outlying times, as a share of the time span of the other rows."""
_DAY = 86_400_000
_WEEK, _MONTH = 7 * _DAY, 30 * _DAY
"""The gap is at least a week, and in data of less than a month at least the whole time span of the other rows, since
young shops have gaps."""


@dataclass(frozen=True)
class FarRows:
    """The newest or oldest rows, if a large gap separates them from the others.

    Attributes
    ----------
    num : number of these rows
    at, sound : time of the row nearest to the others, and the nearest time of the others, int64 milliseconds
    place : file and line of the row nearest to the others, None if it was prepared before
    """

    num: int
    at: int
    sound: int
    place: Phrase | None

    def sentence(self, unit: str) -> Phrase:
        """Return the warning."""
        sound = str(format_time(self.sound, unit))
        values = {"which": self._which(str(format_time(self.at, unit))), "days": abs(self.at - self.sound) / _DAY,
                  "sound": sound, "limit": sound.removesuffix("Z")}
        if self.at > self.sound:
            return Phrase("{which}, {days:,.1f} days after the newest of the others ({sound}); the cause may be a "
                          "wrong clock, which moves the end of the data and the cutoff of a temporal split; "
                          "dataset.newest={limit} drops later interactions", **values)
        return Phrase("{which}, {days:,.1f} days before the oldest of the others ({sound}); the cause may be a wrong "
                      "clock, or a missing time written as 0; dataset.oldest={limit} drops earlier interactions",
                      **values)

    def _which(self, at: str) -> Phrase:
        """Return the beginning of the warning: the rows and their time."""
        if self.num == 1:
            return (Phrase("{place} has the time {at}", place=self.place, at=at) if self.place else
                    Phrase("{num:,} interactions have the time {at}", num=self.num, at=at))
        times = (Phrase("{num:,} interactions have the time {at} or later", num=self.num, at=at)
                 if self.at > self.sound else
                 Phrase("{num:,} interactions have the time {at} or earlier", num=self.num, at=at))
        return Phrase("{times} (the first: {place})", times=times, place=self.place) if self.place else times


def find_far_rows(rows: Table, raw: RawRows) -> list[FarRows]:
    """Return the oldest and the newest of `rows` (timestamp) that are far from the others."""
    if raw.unit in ("", "order"):
        return []
    # Any number of rows may have a missing time written as 0, so these are treated separately.
    is_missing = rows.timestamp < _DAY
    missing = size(rows.filter(is_missing))
    timed = rows.filter(~is_missing) if missing else rows
    number = size(rows) - missing
    if number < _FEWEST:
        return []
    some = max(int(_MOST * number), min(_MOST_OF_FEW, number // _FEWEST))
    newest, oldest = (collect(timed.order_by(by).limit(some + 1).select("timestamp")).column(0).to_numpy()
                      for by in (ibis.desc("timestamp"), ibis.asc("timestamp")))
    # The span leaves out possible outliers at the other end, which would hide any gap.
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
    """Return how many of `times`, ordered from one end inwards, are far from the next; `other_end` is the last time."""
    gaps, spans = np.abs(np.diff(times)), np.abs(times[1:] - other_end)
    far = np.flatnonzero(gaps >= np.maximum(np.maximum(_WEEK, _FAR * spans), np.minimum(spans, _MONTH)))
    return int(far[-1]) + 1 if len(far) else 0


def _place(raw: RawRows, at: int) -> Phrase | None:
    """Return the file and line of the first row with this time."""
    rows: Sequence[dict[str, int]] = []
    for part in raw.parts:
        timed = part.select("file", "line", at=time_of(part, raw))
        rows = [*rows, *collect(timed.filter(timed["at"] == at).order_by("file", "line").limit(1)).to_pylist()]
    if not rows:
        return None
    first = min(rows, key=lambda row: (row["file"], row["line"]))
    return Phrase("{file} line {line}", file=raw.files[first["file"]], line=first["line"])


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TemporalSplit(SplitRule[TemporalSettings]):
    """Interactions from a global cutoff on are held out, the newest of them for the test."""

    def divide(self, coded: CodedRows, unit: str, chosen_unit: str, seen: Table | None = None) -> SplitRows:
        """Split the rows at the cutoffs of the settings."""
        if unit == "order" and chosen_unit == "auto":
            raise DataError("split=temporal: the timestamps are small numbers, perhaps an order within each user only; "
                            "use split=leave_last_out, or set dataset.timestamp_unit=order if they can be compared "
                            "between users (dataset.timestamp_unit=s if they are seconds)")
        cutoff = find_cutoffs(coded.rows, self.settings, unit)
        return SplitRows(split_by_time(coded.rows, cutoff), cutoff)

    def divide_negatives(self, negatives: Table, coded: CodedRows, divided: SplitRows) -> Table:
        """Split the negatives at the same cutoffs."""
        return split_by_time(negatives, divided.cutoff)

    def divide_groups(self, coded: CodedRows, users: UserSplit, unit: str, chosen_unit: str,
                      seen: Table | None = None) -> SplitRows:
        """Split the interactions of groups at the users' cutoffs if there are any."""
        if not users.cutoff:
            return self.divide(coded, unit, chosen_unit)
        if (unit == "order") != (users.unit == "order"):
            raise DataError(f"dataset.group_interactions: its timestamps are in '{unit}' and the users' in "
                            f"'{users.unit}', so they cannot share a cutoff; use one unit or split.group=random")
        return SplitRows(split_by_time(coded.rows, users.cutoff))


def find_cutoffs(rows: Table, settings: TemporalSettings, unit: str) -> dict[str, int]:
    """Return the first time of the test and of validation, {test, valid}; a split without a share is left out."""
    number = size(rows)
    end = int(scalar(rows.timestamp.max())) + 1 if number else 0
    starts: dict[str, int] = {}
    for part in ("test", "valid"):
        start, days, share = (getattr(settings, key) for key in (f"{part}_from", f"{part}_days", part))
        if start is not None:
            at = parse_time(start, unit, f"split.{part}_from")
            if at > end:
                raise ConfigError(f"split.{part}_from={start}: is after "
                                  f"{'the start of the test' if starts else 'all data'}; choose an earlier time")
        elif days is not None:
            if unit == "order":
                raise ConfigError(f"split.{part}_days={days:g}: the timestamps are an order and have no days; use "
                                  f"split.{part} or split.{part}_from")
            at = end - round(days * _DAY)
        elif held := int(number * share + SHARE_ROUNDING):
            before = rows if not starts else rows.filter(rows.timestamp < end)
            newest = _newest_share(before, held)
            if newest is None:
                continue
            at = newest
        else:
            continue
        starts[part] = end = at
    return starts


def _newest_share(rows: Table, held: int) -> int | None:
    """Return the time from which on about `held` rows are held out; None if all rows have the same time.

    Rows of equal time are on the same side, so that the cutoff is one time for all users. Some rows are always older.
    """
    moments = collect(rows.order_by(ibis.desc("timestamp")).select("timestamp").limit(1, offset=held - 1)).column(0)
    oldest = scalar(rows.timestamp.min())
    if not len(moments) or moments[0].as_py() > oldest:
        return moments[0].as_py() if len(moments) else None
    later: int | None = scalar(rows.filter(rows.timestamp > oldest).timestamp.min())
    return later


def split_by_time(rows: Table, cutoff: dict[str, int]) -> Table:
    """Split the rows by time: interactions from the cutoffs on are held out."""
    cases = [(rows.timestamp >= at, ibis.literal(SPLITS.index(part), "int8"))
             for part, at in sorted(cutoff.items(), key=lambda item: -item[1])]
    return rows.mutate(split=ibis.cases(*cases, else_=ibis.literal(TRAIN, "int8")) if cases else
                       ibis.literal(TRAIN, "int8"))


def parse_time(text: str, unit: str, key: str, last: bool = False) -> int:
    """Return a time in a setting as int64 milliseconds, or unchanged if timestamps are an order.

    A date, or a whole second, stands for its first millisecond, with `last` for its last.
    """
    if re.fullmatch("[0-9]+([.][0-9]+)?", text) and unit in timestamps.UNITS and unit != "iso" \
            and not re.fullmatch("(19|20)[0-9]{6}", text):
        return timestamps.milliseconds_of(float(text), unit) + (999 if last and unit == "s" else 0)
    try:
        if unit == "order":
            raise ValueError("the timestamps are an order")
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text}: is not a time ({error}); write it as 2024-05-31, 2024-05-31T18:00:00 or in "
                          f"the unit of the timestamps, '{unit}'") from error
    more = _DAY - 1 if last and re.fullmatch("[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text) else 0
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1) + more
