"""Timestamps written in seconds, milliseconds, ISO 8601 or as a mere order, to int64 milliseconds since 1970 UTC."""

from collections.abc import Sequence

import ibis
from ibis.expr.types import BooleanColumn, Column, IntegerColumn, NumericColumn, StringColumn, Table, TimestampColumn

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect

# Spaces around a number are allowed here, since casts allow them and stripping costs more than both.
NUMBER = r"^ *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *$"
_WHOLE = r"^ *[+-]?[0-9]+ *$"
_ISO = (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
        r"( ?(Z|z|[+-][0-9]{2}(:?[0-9]{2})?))?)?$")
_ZONE = r"[0-9:.,] ?([+-][0-9]{2}):?([0-9]{2})?$"
_END = 4_102_444_800_000  # 2100-01-01 in ms; what lies beyond is a wrong unit, not a wrong clock
_SECONDS_FROM, _MILLISECONDS_FROM = 1e8, 1e11  # 1973 in s; 1973 in ms and 5138 in s
_MOST = 1e15
_FILE = 1 << 40  # more lines than a file has: file and line as one number
OUT_OF_RANGE = "is before 1970 or after 2100"


def infer_unit(parts: Sequence[Table], files: Sequence[str]) -> str:
    """Return s | ms | iso | order for the column `timestamp`; numbers all below 1e8 are an order.

    `parts` also have file (place in `files`) and line. Raises DataError naming a row of each when units are mixed,
    since then some times would be wrong by a factor 1000.
    """
    at_once = {_kind_at_once(part.timestamp) for part in parts}
    if len(at_once) == 1 and None not in at_once:
        return str(at_once.pop())
    found: dict[str, tuple[int, str]] = {}
    for part in parts:
        kinds = part.mutate(kind=_kind(part.timestamp), place=part.file.cast("int64") * _FILE + part.line)
        kinds = kinds.filter(kinds.kind != "bad")
        examples = kinds.group_by("kind").agg(place=kinds.place.min(), shown=kinds.timestamp.argmin(kinds.place))
        for row in collect(examples.mutate(shown=examples.shown.cast("string"))).to_pylist():
            found[row["kind"]] = min(found.get(row["kind"], (row["place"], row["shown"])), (row["place"], row["shown"]))
    if set(found) == {"order"} or not found:
        return "order" if found else "s"
    if "iso" not in found:
        found.pop("order", None)  # a few small numbers among others: 1970, or a missing time written as 0
    if len(found) > 1:
        rows = ", ".join(f"{files[place // _FILE]} line {place % _FILE} has '{shown}' ({kind})"
                         for kind, (place, shown) in sorted(found.items()))
        raise DataError(f"timestamps are written in more than one unit: {rows}; write them all alike, or say which it "
                        f"is with dataset.timestamp_unit=s|ms|iso|order")
    return next(iter(found))


def _kind_at_once(column: Column) -> str | None:
    """Return the kind of all values of a column of numbers when lowest and highest are of the same, else None."""
    if column.type().is_timestamp() or column.type().is_date():
        return None
    number = column.cast("float64") if column.type().is_numeric() else column.try_cast("float64")
    numbers = number.name("number").as_table()
    [found] = collect(numbers.agg(low=numbers.number.min(), high=numbers.number.max(),
                                  unread=numbers.number.isnull().sum())).to_pylist()
    if found["low"] is None or found["unread"] or not 0 <= found["low"] <= found["high"] <= _MOST:
        return None
    kinds = ["order" if end < _SECONDS_FROM else "s" if end < _MILLISECONDS_FROM else "ms"
             for end in (found["low"], found["high"])]
    return kinds[0] if kinds[0] == kinds[1] else None


def _kind(column: Column) -> StringColumn:
    if column.type().is_timestamp() or column.type().is_date():
        return ibis.cases((column.notnull(), "iso"), else_="bad")
    # Cast without the regular expression that `parse` has: for a guess at the unit it is too slow on every row.
    number = column.cast("float64") if column.type().is_numeric() else column.try_cast("float64")
    no_number = column.re_search(_ISO).ifelse("iso", "bad") if column.type().is_string() else ibis.literal("bad")
    return ibis.cases((number.isnull(), no_number), (~number.between(0, _MOST), "bad"),
                      (number < _SECONDS_FROM, "order"), (number < _MILLISECONDS_FROM, "s"), else_="ms")


def parse(column: Column, unit: str) -> IntegerColumn:
    """Return int64 milliseconds (or the order itself), null where it is no time in `unit` in range.

    `column` is text, or has the type of a Parquet file's column: whole numbers, floats, dates or timestamps.
    """
    time = read(column, unit)
    return ibis.cases((in_range(time, unit), time))


def in_range(time: IntegerColumn, unit: str) -> BooleanColumn:
    """Return whether int64 times, as `read` gives them, are from 1970 to 2100, or an order; null for null."""
    return time >= 0 if unit == "order" else time.between(0, _END)


def read(column: Column, unit: str) -> IntegerColumn:
    """Return what `parse` does, out of range too.

    Apart from `parse`, for an engine works out an expression that stands in a condition and in its result twice.
    """
    if column.type().is_timestamp() or column.type().is_date():
        return _whole(_milliseconds(column.cast("timestamp"))) if unit == "iso" else ibis.null("int64")
    if not column.type().is_numeric():
        return _read_text(column if column.type().is_string() else column.cast("string"), unit)
    if unit == "iso":
        return ibis.null("int64")
    if unit == "order":
        return ibis.cases((column.cast("float64").floor() == column, column.try_cast("int64")))
    if column.type().is_integer():
        most = _END // 1000 if unit == "s" else _END
        return column.clip(-1, most + 1).cast("int64") * (1000 if unit == "s" else 1)
    return _whole(column.cast("float64") * (1000 if unit == "s" else 1))


def _read_text(text: StringColumn, unit: str) -> IntegerColumn:
    if unit == "order":
        return ibis.cases((text.re_search(_WHOLE), text)).try_cast("int64")
    if unit == "iso":
        return _whole(_iso(text))
    number = ibis.cases((text.re_search(NUMBER), text)).try_cast("float64")
    return _whole(number * 1000 if unit == "s" else number)


def _whole(ms: NumericColumn) -> IntegerColumn:
    # Far out of range is as bad as a little, and would not fit.
    return ms.clip(-1, _END + 1).round().cast("int64")


def _iso(text: StringColumn) -> NumericColumn:
    """Parse ISO 8601; without a zone it is UTC. The zone is taken off by hand, since engines differ in it."""
    iso = ibis.cases((text.re_search(_ISO), text))
    local = iso.re_replace(" ?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$", "")
    local = ibis.cases((iso.length() > 10, local), else_=iso).replace("T", " ").replace(",", ".")
    zone = ibis.cases((iso.length() > 10, iso))
    hours = zone.re_extract(_ZONE, 1).nullif("").cast("int64")
    minutes = zone.re_extract(_ZONE, 2).nullif("").cast("int64")
    sign = ibis.cases((zone.re_extract(_ZONE, 1).startswith("-"), -1), else_=1)
    offset = hours.fill_null(0) * 60 + sign * minutes.fill_null(0)
    at = ibis.cases((local.length() == 16, local + ":00"), else_=local).try_cast("timestamp")
    return _milliseconds(at) - offset * 60_000


def _milliseconds(at: TimestampColumn) -> NumericColumn:
    # Truncated first, for DuckDB's epoch has the fraction in it and others' has not.
    return (at.truncate("s").epoch_seconds() * 1000 + at.millisecond()).cast("float64")
