"""Numbers as attributes: classes of numbers, up to ten, of equal size."""

import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import ibis
import numpy as np
from ibis.expr.types import BooleanValue, StringColumn, Table

from llmrec_cli.ingest.engine import collect
from llmrec_cli.ingest.readers import timestamps, units

_CLASSES = 10
_NUMBER = re.compile(timestamps.NUMBER)
_WITH_UNIT, _NO_DIGIT = re.compile(units.POINT_NUMBER), re.compile(units.NO_DIGIT)
_LARGEST = float(np.finfo(np.float64).max)


def number_text(column: StringColumn) -> StringColumn:
    """Return the text of the number alone where a currency sign or a unit is around it, null where there is no number.

    66.12 € becomes 66.12, ¥ 1,299.00 becomes 1299.00, 12 500 becomes 12500.
    """
    with_unit = column.re_search(units.POINT_NUMBER), column.re_replace(units.NO_DIGIT, "")
    return ibis.cases((column.re_search(timestamps.NUMBER), column), with_unit)


def is_number(column: StringColumn) -> BooleanValue:
    """Return True where a value is a finite number; the same rule as `number_of`, as an expression."""
    value = number_text(column).try_cast("float64")
    return (value.abs() <= _LARGEST).fill_null(False)


def number_of(text: str) -> float | None:
    """Return the finite number that `text` is, without a currency sign or a unit around it, or None."""
    if not _NUMBER.search(text):
        if not _WITH_UNIT.search(text):
            return None
        text = _NO_DIGIT.sub("", text)
    value = float(text)
    return value if math.isfinite(value) else None


def class_of(value: float, edges: Sequence[float]) -> int:
    """Return the class of a number, from 1; class n ends with the n-th edge, inclusive."""
    return bisect_left(edges, value) + 1


def fit_edges(rows: Table, columns: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the edges of each column's classes: name -> ascending numbers, fewer than 10.

    `columns` maps a name to the column of `rows` with the numbers as text. Classes have equal size among `rows`, but
    equal numbers share a class, so there are fewer classes if there are few distinct numbers.
    """
    edges = {}
    for name, column in columns.items():
        values = rows.select(value=ibis.cases((is_number(rows[column]), number_text(rows[column]).try_cast("float64"))))
        values = values.filter(values.value.notnull())
        histogram = collect(values.group_by("value").agg(size=values.count()).order_by("value"))
        # Adding 0.0 turns -0.0 into 0.0; engines group both and return either.
        edges[name] = _edges(histogram["value"].to_numpy() + 0.0, histogram["size"].to_numpy())
    return edges


def _edges(values: np.ndarray, sizes: np.ndarray) -> list[float]:
    """Return the edges for ascending `values` (num_values,); `sizes` counts the rows of each value."""
    if not len(values):
        return []
    up_to = np.cumsum(sizes)
    # The n-th edge is the value at the place ceil(total * n / 10). Edges are values, never between two, so that
    # rounding cannot differ.
    places = -(-int(up_to[-1]) * np.arange(1, _CLASSES) // _CLASSES)
    edges = np.unique(values[np.searchsorted(up_to, places)])
    return [float(edge) for edge in edges[edges < values[-1]]]
