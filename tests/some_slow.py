"""Tests in part: `make test` runs the first parameters and 100 generated examples, `make test-slow` all of them."""

import os
from collections.abc import Iterable
from typing import Any

import pytest


def some_slow(values: Iterable[Any], num_fast: int = 1) -> list[Any]:
    """Return parameters for `parametrize`; all but the first `num_fast` are marked slow."""
    values = list(values)
    return values[:num_fast] + [_slow(value) for value in values[num_fast:]]


def _slow(value: Any) -> Any:
    """Return the parameter with the mark; a tuple has the values of several arguments."""
    if hasattr(value, "marks"):  # a pytest.param already
        return pytest.param(*value.values, id=value.id, marks=[*value.marks, pytest.mark.slow])
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)


def num_examples(most: int) -> int:
    """Return `most` where ALL_EXAMPLES is set, as in `make test-slow`, else at most 100."""
    return most if "ALL_EXAMPLES" in os.environ else min(most, 100)
