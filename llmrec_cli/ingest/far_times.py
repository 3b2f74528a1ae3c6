"""Interactions whose time is far after all others: one wrong clock moves the end of the data, and a cutoff with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
from ibis.expr.types import Table

from llmrec_cli.ingest.audit.shape import moment
from llmrec_cli.ingest.checks import Raw, time_of
from llmrec_cli.ingest.engine import collect, size

MOST = 0.01
"""Largest share of the rows that can be far from the rest."""
FAR = 0.5
"""How far it is at least: a gap of this share of the time that all older rows span."""
_DAY = 86_400_000


@dataclass(frozen=True)
class FarRows:
    """The newest rows, where a large gap lies before them.

    Attributes
    ----------
    num : how many
    at, before : time of the first of them, and of the row before it, as int64 milliseconds
    place : file and line of the first, "" where it was prepared before
    """

    num: int
    at: int
    before: int
    place: str

    def sentence(self, unit: str) -> str:
        """Return what is probably wrong."""
        days = (self.at - self.before) / _DAY
        what = f"{self.place} has" if self.num == 1 and self.place else f"{self.num:,} interactions have"
        where = f" (the first: {self.place})" if self.num > 1 and self.place else ""
        before = moment(self.before, unit)
        return (f"{what} the time {moment(self.at, unit)}{' or later' if self.num > 1 else ''}{where}, "
                f"{days:,.1f} days after the one before ({before}): a wrong clock moves the end of the data, and a "
                f"cutoff in time with it; dataset.newest={str(before).removesuffix('Z')} leaves out what is later")


def far_rows(rows: Table, raw: Raw) -> FarRows | None:
    """Return the newest of `rows` (timestamp) that are far after the others; None where there are none."""
    if raw.unit in ("", "order"):
        return None
    number = size(rows)
    some = max(1, int(MOST * number))
    if number < 3:
        return None
    newest = collect(rows.order_by(ibis.desc("timestamp")).limit(some + 1).select("timestamp")).column(0).to_numpy()
    oldest = int(collect(rows.agg(oldest=rows.timestamp.min())).column(0)[0].as_py())
    gaps, spans = newest[:-1] - newest[1:], newest[1:] - oldest
    far = np.flatnonzero((gaps > FAR * spans) & (gaps > _DAY) & (spans > 0))
    if not len(far):
        return None
    place = int(far[-1])
    at = int(newest[place])
    return FarRows(place + 1, at, int(newest[place + 1]), _place(raw, at))


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
