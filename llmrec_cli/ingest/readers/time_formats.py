"""Reading times that are written by a pattern, `settings.time_format`, with an engine."""

import ibis
from ibis.expr.types import IntegerColumn, NumericColumn, StringColumn

from llmrec_cli.settings.time_format import expression_of

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_format(text: StringColumn, pattern: str) -> NumericColumn:
    """Return milliseconds since 1970 UTC of texts by a pattern, null where it does not fit; UTC without a zone."""
    expression, names = expression_of(pattern)

    def part(name: str, otherwise: str = "") -> StringColumn:
        return text.re_extract(expression, names.index(name) + 1) if name in names else ibis.literal(otherwise)

    year = part("Y")
    if "Y" not in names:
        # As POSIX has it: 69 to 99 are of the last century.
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
    """Return minutes east of UTC of '+05:30' and its like, 0 for anything else."""
    hours = zone.re_extract("^([+-])([0-9]{2}):?([0-9]{2})?$", 2).nullif("").cast("int64").fill_null(0)
    minutes = zone.re_extract("^([+-])([0-9]{2}):?([0-9]{2})?$", 3).nullif("").cast("int64").fill_null(0)
    return (hours * 60 + minutes) * ibis.cases((zone.startswith("-"), -1), else_=1)
