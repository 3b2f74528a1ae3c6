"""Parquet tables of prepared data and models, checked column by column before use.

Each reader declares its columns with their requirements; a column that violates them raises an error:

    table = read_columns(files, name, {"user": Column("integer", low=0, high=num_users - 1), "title": Column("text")})
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder

_MOST_BYTES, _MOST_TIMES = 1 << 30, 200
"""Largest size of a table in memory: this many bytes, or this many times its file, whichever is more."""
LATEST = 2**53
"""Largest timestamp, positive or negative, that is exact in float64; the year 287,396 in milliseconds."""
AT_ONCE = 2**22
"""Rows checked at a time, so that a check needs little memory."""
LARGEST = 2**31 - 1
"""Largest number of users, items, groups or entities."""
_TESTS = {"text": (pa.types.is_string, pa.types.is_large_string), "integer": (pa.types.is_int64,),
          "number": (pa.types.is_float64, pa.types.is_float32), "truth": (pa.types.is_boolean,)}
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, ValueError)
"""Exceptions raised for a damaged Parquet file."""


@dataclass(frozen=True)
class Column:
    """Requirements on a column; nulls are refused unless `has_nulls`.

    Attributes
    ----------
    kind : text | integer | number (finite) | truth | texts (lists of text)
    low, high : range of an integer, inclusive
    unique : True if no value may repeat
    among : allowed texts; empty for any text
    """

    kind: str
    low: int = -LATEST
    high: int = LATEST
    unique: bool = False
    among: Sequence[str] = ()
    has_nulls: bool = False


def read_columns(files: PinnedFolder, name: str, columns: Mapping[str, Column], num_rows: int | None = None,
                 **options: Any) -> pa.Table:
    """Return the columns of a Parquet file; raises ArtifactError if one violates its requirements."""
    place, content = str(files.path / name), files.read(name)
    try:
        _refuse_bomb(content, place, len(columns), files.remedy)
        table = _read_parquet(content, columns, **options)
    except _BROKEN as error:
        raise ArtifactError(f"{place}: not readable as Parquet ({' '.join(str(error).split())[:200]}); "
                            f"{files.remedy}") from error
    return check_columns(table, place, columns, files.remedy, num_rows)


def check_columns(table: pa.Table, place: str, columns: Mapping[str, Column], remedy: str,
                  num_rows: int | None = None) -> pa.Table:
    """Return the table; raises ArtifactError unless it has `num_rows` rows and valid `columns`."""
    if num_rows is not None and len(table) != num_rows:
        raise ArtifactError(f"{place}: has {len(table)} rows instead of {num_rows}; {remedy}")
    for name, column in columns.items():
        # Parquet allows repeated names, which would be ambiguous here.
        problem = (_problem(table[name], column) if table.column_names.count(name) == 1 else
                   "is missing" if name not in table.column_names else "is there twice")
        if problem:
            raise ArtifactError(f"{place}: column '{name}' {problem}; {remedy}")
    return table


def require_order(columns: Mapping[str, np.ndarray], place: str, remedy: str) -> None:
    """Raise ArtifactError unless rows are sorted by these columns of integers."""
    num_rows = len(next(iter(columns.values())))
    for start in range(0, num_rows, AT_ONCE):
        # One row further, to compare across blocks.
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
        raise ArtifactError(f"{place}: claims {rows:,} rows in {len(content):,} bytes, which is not plausible; "
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
    if column.kind == "number" and pc.all(pc.is_finite(values), skip_nulls=False).as_py() is not True:
        return "has numbers that are not finite"
    if column.among:
        others = set(pc.unique(values).to_pylist()) - set(column.among)
        if others:
            return f"has '{str(min(map(str, others)))[:60]}', which is not one of {', '.join(column.among)}"
    if column.unique and pc.count_distinct(values).as_py() != len(values):
        return "has a value twice"
    return ""


def read_table(files: PinnedFolder, name: str, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    """Return columns of a Parquet file without checks, by default all columns."""
    return _read_parquet(files.read(name), columns, **options)


def _read_parquet(content: bytes, columns: Iterable[str] | None, **options: Any) -> pa.Table:
    """Return columns of a Parquet file, in the order of the file; unknown names are left out.

    Not `pq.read_table`: it loads pyarrow.dataset, and with it pandas, which takes longer than reading a small model.
    """
    file = pq.ParquetFile(pa.BufferReader(content), **options)
    return file.read(None if columns is None else list(columns))


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return integers or numbers without nulls as an array; Arrow's own method would load pandas."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    parts = [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]
    empty = np.zeros(0, values.type.to_pandas_dtype())
    return np.concatenate(parts) if parts else empty


def column_names(files: PinnedFolder, name: str) -> list[str]:
    """Return the names of the columns of a Parquet file."""
    names: list[str] = pq.read_schema(pa.BufferReader(files.read(name))).names
    return names
