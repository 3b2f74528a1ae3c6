"""Patterns of times in strptime's notation, '%d/%m/%Y %H:%M', as regular expressions.

RE2, Java and Python read these expressions in the same way, so times do not depend on the engine.
"""

import re
from collections.abc import Iterator

MONTH = ("jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
         "nov(?:ember)?|dec(?:ember)?")
WEEKDAY = "mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:rs?|rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
ZONE = "Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?"
ZONE_NAME = r"(?<![A-Za-z/])[A-Za-z][A-Za-z_]+/[A-Za-z][A-Za-z_+0-9-]+(?:/[A-Za-z_]+)?"
"""Name of a time zone such as Europe/Berlin. Its offset depends on the date, so patterns do not support it."""
_PARTS = {"Y": "[0-9]{4}", "y": "[0-9]{2}", "m": "0?[1-9]|1[0-2]", "d": "0?[1-9]|[12][0-9]|3[01]",
          "H": "[01]?[0-9]|2[0-3]", "I": "0?[1-9]|1[0-2]", "M": "[0-5]?[0-9]", "S": "[0-5]?[0-9]", "f": "[0-9]{1,9}",
          "p": r"[ap]\.?m\.?", "b": MONTH, "a": WEEKDAY, "z": ZONE, "Z": "Z|UTC|GMT"}
"""Directive -> regular expression, in any case. Months and days of the week are English, short or long."""
_TWO_DIGITS = {"m": "0[1-9]|1[0-2]", "d": "0[1-9]|[12][0-9]|3[01]", "H": "[01][0-9]|2[0-3]", "I": "0[1-9]|1[0-2]",
               "M": "[0-5][0-9]", "S": "[0-5][0-9]"}
"""Numbers next to other numbers (%Y%m%d) must have two digits."""
_SAME_AS = {"e": "%d", "B": "%b", "h": "%b", "A": "%a", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y", "F": "%Y-%m-%d"}
_TOKEN = re.compile(r"%-?([A-Za-z%])|\s+|.", re.DOTALL)
_SPECIAL = r".^$*+?{}[]\|()"


def format_problems(pattern: str) -> Iterator[str]:
    """Yield the problems of a pattern: unknown directives, or an incomplete date."""
    expanded = _expanded(pattern)
    used = [match[1] for match in _TOKEN.finditer(expanded) if match[1]]
    unknown = [name for name in used if name not in _PARTS and name != "%"]
    if unknown or (expanded.endswith("%") and not expanded.endswith("%%")):
        yield (f"timestamp_format={pattern}: '%{unknown[0] if unknown else ''}' is not supported; use "
               f"{', '.join('%' + name for name in (*_PARTS, *_SAME_AS))}")
        return
    twice = [name for name in used if name != "%" and used.count(name) > 1]
    if twice:
        yield f"timestamp_format={pattern}: '%{twice[0]}' occurs twice; write it once"
    if zone := re.search(ZONE_NAME, re.sub("%-?[A-Za-z]", "%%", expanded)):
        yield (f"timestamp_format={pattern}: '{zone[0]}' would be read as literal text, and the times as UTC; write "
               f"times with their offset (+02:00, %z) or in UTC")
    missing = [words for names, words in (("Yy", "year (%Y)"), ("mb", "month (%m or %b)"), ("d", "day (%d)"))
               if not any(name in used for name in names)]
    if missing:
        yield f"timestamp_format={pattern}: has no {' and no '.join(missing)}; write each part of the date"
    if ("I" in used) != ("p" in used):
        yield f"timestamp_format={pattern}: %I (hours 1 to 12) and %p (AM or PM) need each other; %H is hours 0 to 23"


def _expanded(pattern: str) -> str:
    """Return the pattern with composite directives (%T, %F) written out."""
    def expand(match: re.Match[str]) -> str:
        name = match[1]
        return _SAME_AS.get(name, f"%{name}") if name else match[0]

    return _TOKEN.sub(expand, pattern)


def expression_of(pattern: str) -> tuple[str, list[str]]:
    """Return the regular expression of a valid pattern, and the directive of each of its capture groups."""
    tokens = [(match[1] or "", match[0]) for match in _TOKEN.finditer(_expanded(pattern))]
    names: list[str] = []
    expression = r"(?i)^\s*"
    for place, (name, text) in enumerate(tokens):
        if name == "%" or not name:
            literal = "%" if name else text
            expression += r"\s+" if text.isspace() else f"\\{literal}" if literal in _SPECIAL else literal
            continue
        neighbours = [tokens[n][0] for n in (place - 1, place + 1) if 0 <= n < len(tokens)]
        is_adjacent = any(other in (*_TWO_DIGITS, "Y", "y") for other in neighbours)
        expression += f"({_TWO_DIGITS[name] if is_adjacent and name in _TWO_DIGITS else _PARTS[name]})"
        names.append(name)
    return expression + r"\s*$", names
