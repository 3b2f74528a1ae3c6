"""Times in settings: a number with s, m or h."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as 90s, 20m or 1.5h; None for a text that is no time above 0."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text)
    return (float(match[1]) * _SECONDS[match[2]] if match else 0.0) or None


def duration_problem(key: str, text: str) -> str:
    """Return the sentence about a text that is no time."""
    return f"{key}={text}: write a number above 0 with s, m or h, for example 90s, 20m or 1.5h"
