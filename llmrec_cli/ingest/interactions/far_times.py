"""Interactions whose time is far from all others: a wrong clock moves an end of the data, and a cutoff with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
from ibis.expr.types import Table

from llmrec_cli.ingest.audit.shape import moment
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.readers.checks import Raw, time_of

MOST, MOST_OF_FEW = 0.01, 5
"""Largest share of the rows that can be far from the rest at one end, and their number where that share is fewer."""
FEWEST = 10
"""Fewest rows to judge by, and fewest for each that may be far."""
FAR = 0.5
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
    if number < FEWEST:
        return []
    some = max(int(MOST * number), min(MOST_OF_FEW, number // FEWEST))
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
    far = np.flatnonzero(gaps >= np.maximum(np.maximum(_WEEK, FAR * spans), np.minimum(spans, _MONTH)))
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
