"""Parquet tables of prepared data and models, checked column by column before they are used.

Each reader declares the columns that it reads, and anything else in them is refused by name:

    table = read_columns(files, name, {"user": Column("integer", low=0, high=num_users - 1), "title": Column("text")})
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder

_MOST_BYTES, _MOST_TIMES = 1 << 30, 200
"""A table may have this size in memory, or be so many times as large as its file, whichever is more."""
LATEST = 2**53
"""Timestamps beyond it, either way, are not exact numbers everywhere; it is the year 287,396 in milliseconds."""
AT_ONCE = 2**22
"""Rows looked at at a time, so that a check needs no memory of its own."""
LARGEST = 2**31 - 1
"""Number of users, items, groups or entities that nothing goes beyond."""
_TESTS = {"text": (pa.types.is_string, pa.types.is_large_string), "integer": (pa.types.is_int64,),
          "number": (pa.types.is_float64, pa.types.is_float32), "truth": (pa.types.is_boolean,)}
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, ValueError)
"""Errors that a damaged Parquet file raises."""


@dataclass(frozen=True)
class Column:
    """A column as its reader needs it, without nulls unless `has_nulls`.

    Attributes
    ----------
    kind : text | integer | number (finite) | truth | texts (lists of text)
    low, high : range of an integer, both included
    unique : whether no value comes twice
    among : values that a text may have, any where empty
    """

    kind: str
    low: int = -LATEST
    high: int = LATEST
    unique: bool = False
    among: Sequence[str] = ()
    has_nulls: bool = False


def read_columns(files: PinnedFolder, name: str, columns: Mapping[str, Column], num_rows: int | None = None,
                 **options: Any) -> pa.Table:
    """Return the columns of a Parquet file; raises ArtifactError unless each is what it must be."""
    place, content = str(files.path / name), files.read(name)
    try:
        _refuse_bomb(content, place, len(columns), files.remedy)
        table = pq.read_table(pa.BufferReader(content), columns=list(columns), **options)
    except _BROKEN as error:
        raise ArtifactError(f"{place}: not readable as Parquet ({' '.join(str(error).split())[:200]}); "
                            f"{files.remedy}") from error
    return check_columns(table, place, columns, files.remedy, num_rows)


def check_columns(table: pa.Table, place: str, columns: Mapping[str, Column], remedy: str,
                  num_rows: int | None = None) -> pa.Table:
    """Return the table; raises ArtifactError unless it has these columns, each as it must be, and so many rows."""
    if num_rows is not None and len(table) != num_rows:
        raise ArtifactError(f"{place}: has {len(table)} rows instead of {num_rows}; {remedy}")
    for name, column in columns.items():
        # Names need not be unique in Parquet, and nobody could say which one was meant.
        problem = (_problem(table[name], column) if table.column_names.count(name) == 1 else
                   "is missing" if name not in table.column_names else "is there twice")
        if problem:
            raise ArtifactError(f"{place}: column '{name}' {problem}; {remedy}")
    return table


def require_order(columns: Mapping[str, np.ndarray], place: str, remedy: str) -> None:
    """Raise ArtifactError unless rows are in order of these columns of integers, the first one first."""
    num_rows = len(next(iter(columns.values())))
    for start in range(0, num_rows, AT_ONCE):
        # One row further, so that none is compared with nothing.
        falls, equal = np.zeros(1, bool), np.ones(1, bool)
        for values in (column[start:start + AT_ONCE + 1] for column in columns.values()):
            falls = falls | equal & (values[1:] < values[:-1])
            equal = equal & (values[1:] == values[:-1])
        if falls.any():
            row = start + int(np.flatnonzero(falls)[0]) + 1
            raise ArtifactError(f"{place}: row {row} is not in order of {', '.join(columns)}; {remedy}")


def _refuse_bomb(content: bytes, place: str, num_columns: int, remedy: str) -> None:
    rows = pq.read_metadata(pa.BufferReader(content)).num_rows
    if rows * num_columns * 8 > max(_MOST_BYTES, _MOST_TIMES * len(content)):
        raise ArtifactError(f"{place}: says that its {len(content):,} bytes hold {rows:,} rows, which no table does; "
                            f"{remedy}")


def _problem(values: pa.ChunkedArray, column: Column) -> str:
    """Return what is wrong with a column, "" if nothing is."""
    kind, inner = values.type, column.kind
    if column.kind == "texts":
        if not pa.types.is_list(kind):
            return f"has the type {kind} instead of lists of text"
        kind, inner = kind.value_type, "text"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(test(kind) for test in _TESTS[inner]):
        return f"has the type {values.type} instead of {column.kind}"
    if values.null_count and not column.has_nulls:
        return f"has {values.null_count} empty cells"
    try:
        values.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        return f"is damaged ({' '.join(str(error).split())[:200]})"
    if column.kind == "texts" and any(chunk.flatten().null_count for chunk in values.chunks):
        return "has empty cells in its lists"
    return _value_problem(values, column) if len(values) else ""


def _value_problem(values: pa.ChunkedArray, column: Column) -> str:
    if column.kind == "integer":
        least, most = (pc.min_max(values)[key].as_py() for key in ("min", "max"))
        if least is not None and (least < column.low or most > column.high):
            return f"has {least if least < column.low else most}, which is not within {column.low} to {column.high}"
    if column.kind == "number" and not all(np.isfinite(chunk.to_numpy(zero_copy_only=False)).all()
                                           for chunk in values.chunks):
        return "has numbers that are not finite"
    if column.among:
        others = set(pc.unique(values).to_pylist()) - set(column.among)
        if others:
            return f"has '{str(min(map(str, others)))[:60]}', which is none of {', '.join(column.among)}"
    if column.unique and pc.count_distinct(values).as_py() != len(values):
        return "has a value twice"
    return ""


def read_table(files: PinnedFolder, name: str, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    """Return columns of a Parquet file, all of them by default."""
    return pq.read_table(pa.BufferReader(files.read(name)), columns=None if columns is None else list(columns),
                         **options)


def column_names(files: PinnedFolder, name: str) -> list[str]:
    """Return the names of the columns of a Parquet file."""
    names: list[str] = pq.read_schema(pa.BufferReader(files.read(name))).names
    return names
