"""Parsing of timestamps to int64 milliseconds since 1970 UTC. A `unit` is one of UNITS, or a pattern with '%'."""

import math
from collections.abc import Sequence

import ibis
import numpy as np
from ibis.expr.types import BooleanColumn, Column, IntegerColumn, NumericColumn, StringColumn, Table, TimestampColumn

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect
from llmrec_cli.ingest.readers.array_texts import nested_value
from llmrec_cli.ingest.readers.value_advice import advice
from llmrec_cli.settings.time_format import ZONE, expression_of

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_format(text: StringColumn, pattern: str) -> NumericColumn:
    """Parse texts by a pattern to milliseconds since 1970 UTC, null where it does not fit; UTC without a zone."""
    expression, names = expression_of(pattern)

    def part(name: str, otherwise: str = "") -> StringColumn:
        return text.re_extract(expression, names.index(name) + 1) if name in names else ibis.literal(otherwise)

    year = part("Y")
    if "Y" not in names:
        # As in POSIX, 69 to 99 are years of the last century.
        short = part("y")
        year = ibis.cases((short >= "69", ibis.literal("19") + short), else_=ibis.literal("20") + short)
    month = part("m").lpad(2, "0")
    if "m" not in names:
        named = part("b").lower().left(3)
        month = ibis.cases(*((named == name, f"{n:02}") for n, name in enumerate(_MONTHS, start=1)), else_="")
    hour = part("H", "0")
    if "I" in names:
        afternoon = ibis.cases((part("p").lower().startswith("p"), 12), else_=0)
        hour = (part("I").try_cast("int64") % 12 + afternoon).cast("string")
    date = year + "-" + month + "-" + part("d").lpad(2, "0")
    at = date + " " + hour.lpad(2, "0") + ":" + part("M", "0").lpad(2, "0") + ":" + part("S", "0").lpad(2, "0")
    fraction = part("f").left(3).rpad(3, "0") if "f" in names else ibis.literal("0")
    zone = part("z") if "z" in names else ibis.literal("")
    return milliseconds(at, fraction, zone if "z" in names else None)


def milliseconds(at: StringColumn, fraction: StringColumn, zone: StringColumn | None) -> NumericColumn:
    """Return milliseconds since 1970 UTC of 'YYYY-MM-DD hh:mm:ss', a fraction of three digits and a zone or ""."""
    seconds = at.try_cast("timestamp").epoch_seconds()
    offset = ibis.literal(0, "int64") if zone is None else _offset_minutes(zone)
    return ((seconds - offset * 60) * 1000 + fraction.try_cast("int64")).cast("float64")


def _offset_minutes(zone: StringColumn) -> IntegerColumn:
    """Return minutes east of UTC for offsets like '+05:30', 0 for anything else."""
    hours = zone.re_extract("^([+-])([0-9]{2}):?([0-9]{2})?$", 2).nullif("").cast("int64").fill_null(0)
    minutes = zone.re_extract("^([+-])([0-9]{2}):?([0-9]{2})?$", 3).nullif("").cast("int64").fill_null(0)
    return (hours * 60 + minutes) * ibis.cases((zone.startswith("-"), -1), else_=1)


# Spaces around a number are allowed, since casts allow them and stripping is slow.
NUMBER = r"^ *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *$"
_WHOLE = r"^ *[+-]?[0-9]+ *$"
_ISO = (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,12})?)?"
        rf"( ?(z|{ZONE}))?)?$")
_AFTER_CLOCK = rf"([.,][0-9]{{1,12}})?( ?(z|{ZONE}))?$"
_END = 4_102_444_800_000  # 2100-01-01 in ms; later times come from a wrong unit, not a wrong clock
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EXCEL_1970, _DAY = 25_569, 86_400_000  # The day of 1970-01-01, counted from 1899-12-30; milliseconds of a day
UNITS = (*_PER_SECOND, "iso", "excel", "order")
_KINDS = ((1e8, "order"), (1e11, "s"), (1e14, "ms"), (1e17, "us"), (9.4e17, "bad"), (1e19, "ns"))
"""(upper end of a range of numbers, unit of the numbers in it): 1e11 is 1973 in milliseconds and 5138 in seconds.
Numbers from 1e17 to 9.4e17 are nanoseconds before 2000, or ticks of .NET today."""
_FILE = 1 << 40  # more lines than any file has, to code file and line as one number
_SAMPLE, _SHOWN = 2000, 60


def infer_unit(parts: Sequence[Table], files: Sequence[str]) -> str:
    """Return the unit of the column `timestamp`, s | ms | us | ns | iso | order; integers all below 1e8 are an order.

    `parts` also have file (place in `files`) and line. Raises DataError for mixed units, with a row of each, since some
    times would be wrong by a factor of 1000, and for times that can be read only with a setting.
    """
    at_once = {_kind_at_once(part.timestamp) for part in parts}
    if len(at_once) == 1 and None not in at_once:
        return _unless_dates(str(at_once.pop()), parts, files)
    kinds_seen: dict[str, tuple[int, str]] = {}
    for part in parts:
        kinds = part.mutate(kind=_kind(part.timestamp), place=_place(part))
        kinds = kinds.filter(kinds.kind != "bad")
        examples = kinds.group_by("kind").agg(place=kinds.place.min(), shown=kinds.timestamp.argmin(kinds.place))
        for row in collect(examples.mutate(shown=examples.shown.cast("string"))).to_pylist():
            first = (row["place"], row["shown"])
            kinds_seen[row["kind"]] = min(kinds_seen.get(row["kind"], first), first)
    if not kinds_seen:
        _refuse_unknown(parts, files)
        return "s"
    if set(kinds_seen) == {"order"}:
        return _unless_dates("order", parts, files)
    if "iso" not in kinds_seen:
        kinds_seen.pop("order", None)  # a few small numbers among others: 1970, or a missing time written as 0
    if len(kinds_seen) > 1:
        rows = ", ".join(f"{files[place // _FILE]} line {place % _FILE} has '{shown}' ({kind})"
                         for kind, (place, shown) in sorted(kinds_seen.items()))
        raise DataError(f"timestamps are in more than one unit: {rows}; write all in one unit, or set "
                        f"dataset.timestamp_unit={'|'.join(UNITS)}")
    return next(iter(kinds_seen))


def _place(part: Table) -> IntegerColumn:
    return part.file.cast("int64") * _FILE + part.line


def _refuse_unknown(parts: Sequence[Table], files: Sequence[str]) -> None:
    """Raise DataError with advice if no value is of a known kind but a setting can read a sample of them."""
    texts: list[str] = []
    first: tuple[int, str] | None = None
    for part in parts:
        seen = part.select(place=_place(part), shown=part.timestamp.cast("string"))
        seen = seen.filter(seen.shown.fill_null("").strip() != "")
        rows = collect(seen.order_by("place").limit(1)).to_pylist()
        first = min([first or (rows[0]["place"], rows[0]["shown"]), (rows[0]["place"], rows[0]["shown"])]) if rows \
            else first
        values = seen.select("shown").distinct()
        texts += collect(values.order_by(values.shown.hexdigest("md5")).limit(_SAMPLE))["shown"].to_pylist()
    hint = advice([first[1], *texts]) if first else ""
    if first and hint and nested_value(first[1]) is None:  # Arrays are refused elsewhere.
        raise DataError(f"{files[first[0] // _FILE]}: line {first[0] % _FILE}: timestamp '{first[1][:_SHOWN]}' {hint}")


def _unless_dates(kind: str, parts: Sequence[Table], files: Sequence[str]) -> str:
    """Return `kind`; raises DataError if it is `order` but all numbers are dates like 20240131."""
    if kind != "order":
        return kind
    for part in parts:
        numbers = part.select(number=_as_number(part.timestamp))
        numbers = numbers.filter(numbers.number.notnull())
        whole = numbers.number.clip(0, _KINDS[0][0]).cast("int64")
        month, day = (whole // 100) % 100, whole % 100
        is_date = numbers.number.between(19700101, 20991231) & month.between(1, 12) & day.between(1, 31)
        [counts] = collect(numbers.agg(size=numbers.count(), dates=is_date.sum())).to_pylist()
        if not counts["size"] or counts["dates"] != counts["size"]:
            return kind
    row = collect(parts[0].select("file", "line", shown=parts[0].timestamp.cast("string"))
                  .order_by("file", "line").limit(1)).to_pylist()[0]
    raise DataError(f"{files[row['file']]}: line {row['line']}: timestamp '{row['shown']}' and all others are dates as "
                    f"numbers, YYYYMMDD; set dataset.timestamp_format=%Y%m%d, or dataset.timestamp_unit=order if they "
                    f"are an order")


def _as_number(column: Column) -> NumericColumn:
    # Without the regular expression of `parse`, which is too slow for inferring the unit from every row.
    return column.cast("float64") if column.type().is_numeric() else column.cast("string").try_cast("float64")


def _is_broken(number: NumericColumn) -> BooleanColumn:
    # Not by `floor`, which engines return as int64, and numbers in files may be larger.
    return number % 1 != 0


def _kind_at_once(column: Column) -> str | None:
    """Return the kind of a column of numbers if its lowest and highest value have the same kind, else None."""
    if column.type().is_timestamp() or column.type().is_date():
        return None
    numbers = _as_number(column).name("number").as_table()
    number = numbers.number
    [limits] = collect(numbers.agg(low=number.min(), high=number.max(), unread=number.isnull().sum(),
                                  broken=((number < _KINDS[0][0]) & _is_broken(number)).sum())).to_pylist()
    if limits["low"] is None or limits["unread"] or limits["broken"] or not 0 <= limits["low"] <= limits["high"]:
        return None
    kinds = [unit_of(value) for value in (limits["low"], limits["high"])]
    return kinds[0] if kinds[0] == kinds[1] != "bad" else None


def unit_of(number: float) -> str:
    """Return the unit of a number by its size, order | s | ms | us | ns, or bad: the rule of `infer_unit`."""
    if number < 0 or (number < _KINDS[0][0] and number % 1):
        return "bad"
    return next((kind for end, kind in _KINDS if number < end), "bad")


def are_dates(numbers: Sequence[float]) -> bool:
    """Return True if all numbers are dates like 20240131: the rule of `infer_unit`."""
    return all(19700101 <= n <= 20991231 and 1 <= n // 100 % 100 <= 12 and 1 <= n % 100 <= 31 for n in numbers)


def _kind(column: Column) -> StringColumn:
    if column.type().is_timestamp() or column.type().is_date():
        return ibis.cases((column.notnull(), "iso"), else_="bad")
    number = _as_number(column)
    no_number = column.re_search(_ISO).ifelse("iso", "bad") if column.type().is_string() else ibis.literal("bad")
    # A small number with a fraction is not an order; it may be a spreadsheet date.
    return ibis.cases((number.isnull(), no_number), (number < 0, "bad"),
                      ((number < _KINDS[0][0]) & _is_broken(number), "bad"),
                      *((number < end, kind) for end, kind in _KINDS), else_="bad")


def parse(column: Column, unit: str) -> IntegerColumn:
    """Parse a column to int64 milliseconds (or to the order itself), null where it is not a valid time in `unit`.

    `column` is text, or has the type of a Parquet file's column: whole numbers, floats, dates or timestamps.
    """
    time = read(column, unit)
    return ibis.cases((in_range(time, unit), time))


def in_range(time: IntegerColumn, unit: str) -> BooleanColumn:
    """Return True where int64 times from `read` are from 1970 to 2100, or a valid order; null for null."""
    return time >= 0 if unit == "order" else time.between(0, _END)


def in_era(milliseconds: np.ndarray) -> np.ndarray:
    """Return the mask of times from 1970 to 2100, bool (num_times,)."""
    inside: np.ndarray = (milliseconds >= 0) & (milliseconds <= _END)
    return inside


def read(column: Column, unit: str) -> IntegerColumn:
    """Parse a column like `parse`, but keep times out of range.

    Separate from `parse`, since engines evaluate an expression twice if it is in a condition and in its result.
    """
    if column.type().is_timestamp() or column.type().is_date():
        return _whole(_milliseconds(column.cast("timestamp"))) if unit == "iso" else ibis.null("int64")
    if "%" in unit:
        return _whole(read_format(column if column.type().is_string() else column.cast("string"), unit))
    if not column.type().is_numeric():
        return _read_text(column if column.type().is_string() else column.cast("string"), unit)
    if unit == "iso":
        return ibis.null("int64")
    if unit == "order":
        return ibis.cases((column.cast("float64").floor() == column, column.try_cast("int64")))
    if column.type().is_integer() and unit in ("s", "ms"):
        most = _END // 1000 if unit == "s" else _END
        return column.clip(-1, most + 1).cast("int64") * (1000 if unit == "s" else 1)
    return _whole(_scaled(column.cast("float64"), unit))


def _read_text(text: StringColumn, unit: str) -> IntegerColumn:
    if unit == "order":
        return ibis.cases((text.re_search(_WHOLE), text)).try_cast("int64")
    if unit == "iso":
        return _whole(_iso(text))
    return _whole(_scaled(ibis.cases((text.re_search(NUMBER), text)).try_cast("float64"), unit))


def _scaled(number: NumericColumn, unit: str) -> NumericColumn:
    """Convert numbers in a unit to milliseconds; finer digits are truncated, as in ISO 8601."""
    if unit == "excel":
        return (number - _EXCEL_1970) * _DAY
    if unit == "s":
        return number * 1000
    divisor = _PER_SECOND[unit] // 1000
    return number if unit == "ms" else (number / divisor).clip(-1, _END + 1).floor()


def milliseconds_of(number: float, unit: str) -> int:
    """Convert a number in a unit of UNITS (except iso) to milliseconds, like `read`."""
    if unit == "excel":
        return round((number - _EXCEL_1970) * _DAY)
    return round(number) if unit == "order" else math.floor(number * 1000 / _PER_SECOND[unit])


def _whole(ms: NumericColumn) -> IntegerColumn:
    # Clipped, since times far out of range would overflow.
    return ms.clip(-1, _END + 1).round().cast("int64")


def _iso(text: StringColumn) -> NumericColumn:
    """Parse ISO 8601, UTC without a zone. Zone and fraction are parsed separately, since engines differ in them."""
    iso = ibis.cases((text.re_search(_ISO), text))
    has_clock = iso.length() > 10
    local = ibis.cases((has_clock, iso.re_replace(_AFTER_CLOCK, "")), else_=iso).replace("T", " ")
    rest = ibis.cases((has_clock, iso.re_extract(_AFTER_CLOCK, 0)), else_="")
    at = ibis.cases((local.length() == 10, local + " 00:00:00"), (local.length() == 16, local + ":00"), else_=local)
    fraction = rest.re_extract("^[.,]([0-9]{1,3})", 1).rpad(3, "0")
    return milliseconds(at, fraction, rest.re_extract("([+-].*)$", 1))


def _milliseconds(at: TimestampColumn) -> NumericColumn:
    # Truncated first, since DuckDB's epoch includes the fraction and Spark's does not.
    return (at.truncate("s").epoch_seconds() * 1000 + at.millisecond()).cast("float64")
