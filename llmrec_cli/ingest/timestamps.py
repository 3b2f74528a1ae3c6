"""Timestamps written in seconds, milliseconds, ISO 8601 or as a mere order, to int64 milliseconds since 1970 UTC."""

import ibis
from ibis.expr.types import IntegerColumn, StringColumn, Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.sources import Source

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


def infer_unit(raw: Table, sources: list[Source]) -> str:
    """Return s | ms | iso | order for the text column `timestamp`; numbers all below 1e8 are an order.

    Raises DataError naming a row of each when units are mixed, since then some times would be wrong by a factor 1000.
    """
    text = raw.timestamp
    # Cast without the regular expression that `parse` has: for a guess at the unit it is too slow on every row.
    number = text.try_cast("float64")
    kind = ibis.cases((number.isnull(), text.re_search(_ISO).ifelse("iso", "bad")),
                      (~number.between(0, _MOST), "bad"), (number < _SECONDS_FROM, "order"),
                      (number < _MILLISECONDS_FROM, "s"), else_="ms")
    kinds = raw.mutate(kind=kind, place=raw.file.cast("int64") * _FILE + raw.line).filter(lambda t: t.kind != "bad")
    examples = kinds.group_by("kind").agg(place=kinds.place.min(), timestamp=kinds.timestamp.argmin(kinds.place))
    found = {row["kind"]: row for row in examples.order_by("kind").to_pyarrow().to_pylist()}
    if set(found) == {"order"} or not found:
        return "order" if found else "s"
    if "iso" not in found:
        found.pop("order", None)  # a few small numbers among others: 1970, or a missing time written as 0
    if len(found) > 1:
        rows = ", ".join(f"{sources[row['place'] // _FILE].path} line {row['place'] % _FILE} has '{row['timestamp']}' "
                         f"({kind})" for kind, row in found.items())
        raise DataError(f"timestamps are written in more than one unit: {rows}; write them all alike, or say which it "
                        f"is with dataset.timestamp_unit=s|ms|iso|order")
    return next(iter(found))


def parse(text: StringColumn, unit: str) -> IntegerColumn:
    """Return int64 milliseconds (or the order itself), null where the text is not a time in `unit` in range."""
    if unit == "order":
        order = ibis.cases((text.re_search(_WHOLE), text)).try_cast("int64")
        return ibis.cases((order >= 0, order))
    if unit == "iso":
        ms = _iso(text)
    else:
        number = ibis.cases((text.re_search(NUMBER), text)).try_cast("float64")
        ms = number * 1000 if unit == "s" else number
    return ibis.cases((ms.between(0, _END), ms.round().try_cast("int64")))


def _iso(text: StringColumn) -> ibis.expr.types.NumericColumn:
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
    # Truncated first, for DuckDB's epoch has the fraction in it and others' has not.
    return (at.truncate("s").epoch_seconds() * 1000 + at.millisecond() - offset * 60_000).cast("float64")
