"""Paths into arrays and objects: 'user.id' is a value inside an object, 'items[].sku' one inside each entry."""

import re
from collections.abc import Sequence

_STEP = re.compile(r"([^\[\]]+)((?:\[\])*)")
EACH = ""
"""The step into each entry of an array; all others are keys, which are never empty."""


def steps_of(text: str) -> tuple[str, ...]:
    """Return the steps of a path, 'items[].sku' as ('items', '', 'sku'); of a plain name, and of no path, itself."""
    steps: list[str] = []
    for part in text.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            return (text,)
        steps += [found[1], *[EACH] * (len(found[2]) // 2)]
    return tuple(steps)


def is_path(text: str) -> bool:
    """Return whether a name may be a path."""
    return len(steps_of(text)) > 1


def arrays_of(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the beginnings of a path that end in the entry of an array."""
    return [steps[:n + 1] for n, step in enumerate(steps) if step == EACH]


def written(steps: Sequence[str]) -> str:
    """Return steps as a path is written."""
    text = ""
    for step in steps:
        text += "[]" if step == EACH else f".{step}" if text else step
    return text
