"""Advice on unreadable times and numbers: their likely format, and the setting or export that helps."""

import re
from collections.abc import Iterator, Sequence

from llmrec_cli.settings.time_format import MONTH, WEEKDAY, ZONE, ZONE_NAME, expression_of

DECIMAL_COMMA = "^ *[+-]?[0-9]{1,3}([. \u00a0\u202f]?[0-9]{3})*[0-9]*,[0-9]+ *$"
"""Matches 4,5, 1700000000,5, 1.234,5 and 1 234,5."""
_DECIMAL_COMMA = re.compile(DECIMAL_COMMA)


def decimal_point_advice(text: str) -> str:
    """Return a clause on how to export a number with a decimal comma; "" for any other text."""
    if not _DECIMAL_COMMA.match(text):
        return ""
    number = re.sub(r"[.\s]", "", text).replace(",", ".")
    # 1,234 may also be 1234 with a thousands separator; only the user knows.
    thousands = f", or {text.strip().replace(',', '')} where the comma groups thousands" \
        if re.search(r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$", text.strip()) else ""
    return f"export numbers with a decimal point: {number} for '{text.strip()}'{thousands}"


def decimal_advice(text: str) -> str:
    """Return a clause on how `prepare` reads a number with a decimal comma; "" for any other text."""
    exported = decimal_point_advice(text)
    return f"set dataset.decimal=',', or {exported}" if exported else ""


_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(:([0-9]{2})([.,][0-9]{1,9})?)?(\s*[ap]\.?m\.?(?![a-z]))?", re.IGNORECASE)
_ZONE = re.compile(rf"(\s*)({ZONE})(?![0-9A-Za-z])", re.IGNORECASE)
_WORDS = re.compile(r"[0-9]+|[^\W\d_]+|.", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
                  r" ?(Z|z|UTC|GMT|[+-][0-9]{2}:?([0-9]{2})?)?)?")
_JAVASCRIPT = re.compile(r".*[0-9]{2}:[0-9]{2}:[0-9]{2} GMT[+-][0-9]{4}( \(.*\))?")
_AFTER_CLOCK = ("on", "at", "of", "the", "de", "uhr", "hrs")
"""Words that may follow a clock time; any other word may be a time zone with an unknown offset."""
_ISO_WEEK = re.compile(r"[0-9]{4}-?W[0-9]{2}(-?[1-7])?")
_CALENDAR = re.compile(r"(19[7-9][0-9]|20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
                       r"(?P<clock>([01][0-9]|2[0-3])[0-5][0-9](?P<seconds>[0-5][0-9])?)?")
_RANGES = (((1e8, 4.2e9), "s", "seconds since 1970"), ((1e11, 4.2e12), "ms", "milliseconds since 1970"),
           ((1e14, 4.2e15), "us", "microseconds since 1970"), ((9.4e17, 4.2e18), "ns", "nanoseconds since 1970"),
           ((20_000, 80_000), "excel", "days since 1899-12-30, as spreadsheets count them"))


def advice(texts: Sequence[str]) -> str:
    """Return the end of a sentence on the format of all `texts` and the setting that reads it; "" if nothing fits."""
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        return ""
    if all(_NUMBER.fullmatch(text) for text in texts):
        return _of_numbers(texts)
    if comma := next((words for text in texts if (words := decimal_advice(text))), ""):
        return f"has a decimal comma; {comma}"
    if all(_ISO.fullmatch(text) for text in texts):
        return "is ISO 8601; set dataset.timestamp_unit=iso"
    if all(_ISO_WEEK.fullmatch(text) for text in texts):
        return "is an ISO 8601 week, which is not supported; write a date, 2024-01-31"
    if all(_JAVASCRIPT.fullmatch(text) for text in texts):
        return ("is a date as JavaScript prints it, which is not supported; write date.toISOString() and set "
                "dataset.timestamp_unit=iso")
    fitting = fitting_patterns(texts)
    if not fitting:
        return _of_zones(texts)
    settings = " or ".join(f"dataset.timestamp_format='{pattern}'" for pattern in fitting)
    if len(fitting) == 1:
        return f"is {_form(fitting[0])}; set {settings}"
    forms = " or ".join(dict.fromkeys(map(_form, fitting)))
    return f"is ambiguous, {forms}, and the format is not guessed; set {settings}"


_PARTS = {"%Y": "year", "%y": "year", "%m": "month", "%d": "day", "%b": "month as a word", "%a": "weekday"}


def _form(pattern: str) -> str:
    """Return the date of a pattern in words, without its clock time: `day.month.year`."""
    date = re.sub(r"[\sT]*%[HI][^%]*(%[MSfpzZ][^%YmdyBb]*)*", "", pattern)
    return re.sub("%[YymdbaB]", lambda match: _PARTS.get(match[0], ""), date).strip()


def _of_zones(texts: Sequence[str]) -> str:
    named = [name for text in texts if (name := _zone_name(text))]
    if len(named) < len(texts):
        return ""
    return (f"has a named time zone, '{named[0]}', which is not supported since its offset depends on the date; write "
            f"times with their offset, 2024-05-01T14:05:00+02:00, or in UTC, and set dataset.timestamp_unit=iso")


def _zone_name(text: str) -> str:
    """Return the word in a text that seems to be a time zone, "" if there is none."""
    match = re.search(ZONE_NAME, text)
    clock = _CLOCK.search(text)
    if match is not None or clock is None:
        return match[0] if match is not None else ""
    zone = _ZONE.match(text, clock.end())
    words = re.findall(r"[A-Za-z_]{2,}", text[zone.end() if zone is not None else clock.end():])
    return next((word for word in words if word.lower() not in _AFTER_CLOCK
                 and not re.fullmatch(f"{MONTH}|{WEEKDAY}", word, re.IGNORECASE)), "")


def _of_numbers(texts: Sequence[str]) -> str:
    calendar = [_CALENDAR.fullmatch(text) for text in texts]
    if all(calendar):
        first = calendar[0]
        assert first is not None
        if all(match is not None and bool(match["clock"]) == bool(first["clock"])
               and bool(match["seconds"]) == bool(first["seconds"]) for match in calendar):
            clock = ("%H%M%S" if first["seconds"] else "%H%M") if first["clock"] else ""
            return f"is a date as a number; set dataset.timestamp_format=%Y%m%d{clock}"
    numbers = [float(text) for text in texts]
    for (low, high), unit, words in _RANGES:
        if all(low <= number < high for number in numbers):
            return f"may be {words}; set dataset.timestamp_unit={unit} if so"
    if all(1e17 <= number < 9.4e17 for number in numbers):
        return ("may be ticks of .NET or Windows, which are not supported; write milliseconds since 1970: "
                "(ticks - 621355968000000000) / 10000 of .NET, (ticks - 116444736000000000) / 10000 of Windows")
    return ""


def fitting_patterns(texts: Sequence[str]) -> list[str]:
    """Return the patterns that read all of `texts`, likelier ones first; [] if there is none."""
    if not texts:
        return []
    candidates = dict.fromkeys(patterns_of(texts[0].strip()))
    return [pattern for pattern in candidates if all(re.match(expression_of(pattern)[0], text) for text in texts)]


def patterns_of(text: str) -> Iterator[str]:
    """Yield the patterns that fit a text, with day and month in either order if both are numbers."""
    if _zone_name(text):
        return  # Ignoring the name of a time zone would shift the time.
    clock = _CLOCK.search(text)
    if clock is None:
        yield from _dates_of(text)
        return
    end, time = clock.end(), ("%I" if clock[6] else "%H") + ":%M" + (":%S" if clock[3] else "")
    if clock[5]:
        time += f"{clock[5][0]}%f"
    if clock[6]:
        time += " " * (clock[6] != clock[6].lstrip()) + "%p"
    zone = _ZONE.match(text, end)
    if zone is not None:
        end, time = zone.end(), time + zone[1] + ("%Z" if zone[2].upper() in ("Z", "UTC", "GMT") else "%z")
    for date in _dates_of(text[:clock.start()] + "\0" + text[end:]):
        yield date.replace("\0", time)


def _dates_of(text: str) -> Iterator[str]:
    words: list[str] = _WORDS.findall(text)
    numbers = [n for n, word in enumerate(words) if word.isdecimal() and word.isascii()]
    has_month = False
    for n, word in enumerate(words):
        if re.fullmatch(MONTH, word, re.IGNORECASE):
            words[n], has_month = "%b", True
        elif re.fullmatch(WEEKDAY, word, re.IGNORECASE):
            words[n] = "%a"
        elif word == "%":
            words[n] = "%%"
        elif len(word) > 1 and word.isascii() and word.isalpha() and word.isupper():
            return  # A time zone such as PST; ignoring it would shift the time.
    sizes = [len(words[n]) for n in numbers]
    if not has_month and sizes == [8]:
        orders: list[tuple[str, ...]] = [("%Y%m%d",), ("%d%m%Y",), ("%m%d%Y",)]
    elif has_month:
        orders = [("d", "Y"), ("Y", "d"), ("d", "y")]
    else:
        orders = [("Y", "m", "d"), ("d", "m", "Y"), ("m", "d", "Y"), ("d", "m", "y"), ("m", "d", "y"), ("y", "m", "d")]
    for order in orders:
        if len(order) != len(numbers):
            continue
        if any((size == 4) != (name == "Y") for size, name in zip(sizes, order, strict=True)) and sizes != [8]:
            continue
        filled = list(words)
        for n, name in zip(numbers, order, strict=True):
            filled[n] = name if name.startswith("%") else f"%{name}"
        yield "".join(filled)
