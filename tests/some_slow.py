"""Tests in part: `make test` runs the first parameters and 100 generated examples, the other targets the rest."""

import os
from collections.abc import Iterable
from typing import Any

import pytest


def some_slow(values: Iterable[Any], num_fast: int = 1, num_slow: int | None = None) -> list[Any]:
    """Return parameters for `parametrize`: first fast ones, then slow ones (None: the rest), then those of `faults`."""
    values = list(values)
    last = len(values) if num_slow is None else num_fast + num_slow
    return [*values[:num_fast], *(_marked(value, pytest.mark.slow) for value in values[num_fast:last]),
            *(_marked(value, pytest.mark.faults) for value in values[last:])]


def _marked(value: Any, mark: pytest.MarkDecorator) -> Any:
    """Return the parameter with the mark; a tuple has the values of several arguments."""
    if hasattr(value, "marks"):  # a pytest.param already
        return pytest.param(*value.values, id=value.id, marks=[*value.marks, mark])
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=mark)


def num_examples(most: int) -> int:
    """Return `most` where ALL_EXAMPLES is set, as in `make test-slow`, else at most 100."""
    return most if "ALL_EXAMPLES" in os.environ else min(most, 100)
