"""The form of a column of times, as settings of `prepare`."""

import re
from dataclasses import dataclass

from llmrec_cli.ingest.drafts.samples import Column
from llmrec_cli.ingest.readers.timestamps import are_dates, unit_of
from llmrec_cli.ingest.readers.value_advice import fitting_patterns

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
                  r" ?(Z|z|[+-][0-9]{2}:?([0-9]{2})?)?)?")
_SAMPLE = 2000


@dataclass(frozen=True)
class TimeForm:
    """Settings that read a column of times, and what is unsure about them; `form` is in words."""

    form: str
    settings: dict[str, str]
    unsure: str = ""


def time_form(column: Column, by_name: bool) -> TimeForm | None:
    """Return the form of a column's times, None if it has no times.

    Small numbers are times only if the name of the column says so (`by_name`).
    """
    texts = column.values[:_SAMPLE]
    if not texts or column.in_array:
        return None
    if all(_ISO.fullmatch(text) for text in texts):
        return TimeForm("ISO 8601", {})
    if column.numbers:
        return _of_numbers(column.numbers[:_SAMPLE], by_name)
    if not any(character.isdigit() for character in texts[0]):
        return None
    patterns = fitting_patterns(texts)
    if not patterns:
        return None
    others = "".join(f" or {pattern}" for pattern in patterns[1:])
    return TimeForm(patterns[0], {"timestamp_format": patterns[0]},
                    f"day and month may be swapped{others}" if others else "")


def _of_numbers(numbers: list[float], by_name: bool) -> TimeForm | None:
    units = {unit_of(number) for number in numbers if number}
    if are_dates(numbers):
        return TimeForm("YYYYMMDD", {"timestamp_format": "%Y%m%d"})
    if units <= {"s", "ms", "us", "ns"} and len(units) == 1:
        unit = units.pop()
        return TimeForm({"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit] +
                        " since 1970", {})
    if by_name and all(20_000 <= number < 80_000 for number in numbers):
        return TimeForm("days of a spreadsheet", {"timestamp_unit": "excel"}, "may also be an order of events")
    return TimeForm("an order", {"timestamp_unit": "order"}) if by_name and units == {"order"} else None
