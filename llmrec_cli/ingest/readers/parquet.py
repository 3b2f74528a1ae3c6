"""Reader of Parquet files as text columns, and checks for files that an engine reads directly."""

import json
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.decompression_limits import BROKEN, bytes_per_row, damage_error
from llmrec_cli.ingest.readers.nested import Nested, Records, as_text, refuse_value
from llmrec_cli.ingest.readers.sources import EACH, Source, steps_of

_BATCH = 1 << 17
_BATCH_BYTES = 1 << 26
_OURS = ("line", "file_row_number", "filename")
"""Names of columns that the engines add; a file with one of these columns is copied."""


def open_parquet(source: Source) -> pq.ParquetFile:
    """Open the file. Raises DataError if it is not Parquet or is damaged."""
    if source.compression:
        raise DataError(f"{source.path}: Parquet is compressed inside; unpack the file")
    try:
        file = pq.ParquetFile(source.path)
        file.schema_arrow  # noqa: B018  Computed on access, which may fail.
    except BROKEN as error:
        raise damage_error(source, error) from error
    return file


def parquet_batches(source: Source, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the columns as strings with nulls. Raises DataError for damage and for types without a text form."""
    for batch in _read(source, file, columns):
        try:
            yield pa.RecordBatch.from_arrays([_text(batch.column(name)) for name in columns], names=columns)
        except pa.ArrowNotImplementedError as error:
            kinds = ", ".join(f"'{field.name}' ({field.type})" for field in batch.schema)
            raise DataError(f"{source.path}: one of the columns {kinds} has a type that cannot be read "
                            f"({error}); export it as text or as a number") from error
        except pa.ArrowException as error:
            raise damage_error(source, error) from error


def parquet_records(source: Source, file: pq.ParquetFile, columns: list[str]) -> Records:
    """Yield (row number from 1, column -> text, or the value itself if it is an array or object)."""
    number = 0
    for batch in _read(source, file, columns):
        parts = [column.to_pylist() if pa.types.is_nested(column.type) else _text(column).to_pylist()
                 for column in batch.columns]
        for row in zip(*parts, strict=True) if columns else [()] * len(batch):
            number += 1
            yield number, dict(zip(columns, row, strict=True))


def refuse_nested_columns(source: Source, file: pq.ParquetFile, flat: Mapping[str, str]) -> None:
    """Raise DataError for a column of arrays or objects that needs one value per row, naming the first such row.

    `flat` is our name -> the file's column.
    """
    nested = {ours: column for ours, column in flat.items()
              if pa.types.is_nested(file.schema_arrow.field(column).type)}
    for ours, column in nested.items():
        for number, record in parquet_records(source, file, list(dict.fromkeys(nested.values()))):
            if isinstance(record, dict) and isinstance(record[column], (list, dict)):
                refuse_value(source, number, ours, record[column],
                             [name for name, theirs in nested.items() if isinstance(record[theirs], list)])
        raise DataError(f"{source.path}: column '{column}', mapped to {ours}, has the type "
                        f"{file.schema_arrow.field(column).type} and no value; name another column")


def refuse_float_paths(source: Source, file: pq.ParquetFile, nested: Nested, ids: Mapping[str, str]) -> None:
    """Raise DataError for floating-point ids inside arrays and objects.

    `ids` maps llmrec's name of a column to the path of the id in the file.
    """
    for ours, text in ids.items():
        steps = (*steps_of(text), *((EACH,) if ours in nested.explode else ()))
        kind = file.schema_arrow.field(steps[0]).type
        for step in steps[1:]:
            if step == EACH:
                kind = kind.value_type if pa.types.is_nested(kind) and not pa.types.is_struct(kind) else kind
            elif pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
                kind = kind.field(step).type
        if pa.types.is_floating(kind):
            raise _floating(source, text)


def check_parquet(source: Source, columns: Iterable[str]) -> None:
    """Read these columns of a file completely. Raises DataError if they are damaged."""
    for _ in _read(source, open_parquet(source), list(columns)):
        pass


def refuse_float_ids(source: Source, file: pq.ParquetFile, ids: Iterable[str]) -> None:
    """Raise DataError for ids stored as floating point, which may have lost digits."""
    for name in ids:
        if pa.types.is_floating(file.schema_arrow.field(name).type):
            raise _floating(source, name)


def _floating(source: Source, name: str) -> DataError:
    return DataError(f"{source.path}: the id column '{name}' holds floating point numbers, in which long ids lose "
                     f"digits; export it as integers or as text")


def is_readable_by_engines(file: pq.ParquetFile, columns: Iterable[str]) -> bool:
    """Return True if DuckDB and Spark read these columns like pyarrow, under the same names."""
    names = [name.lower() for name in file.schema_arrow.names]
    return (len(set(names)) == len(names) and not any(name in names for name in _OURS)
            and all(_is_flat(file.schema_arrow.field(name).type) for name in columns))


def _is_flat(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    if types.is_timestamp(kind):
        return kind.unit != "ns"  # Spark does not read nanoseconds.
    if types.is_decimal(kind):
        return kind.precision <= 38
    return any(test(kind) for test in (types.is_integer, types.is_float32, types.is_float64, types.is_string,
                                       types.is_large_string, types.is_boolean, types.is_date32))


def _read(source: Source, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        rows = max(1, min(_BATCH, _BATCH_BYTES // max(bytes_per_row(source, columns), 1)))
        for batch in file.iter_batches(rows, columns=columns):
            for column in batch.columns:
                column.validate(full=True)  # Text that is not UTF-8, for one.
            yield batch
    except BROKEN as error:
        raise damage_error(source, error) from error


def _text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.dictionary_decode())
    if pa.types.is_nested(kind):
        rows = (None if v is None else json.loads(json.dumps(v, default=str)) for v in column.to_pylist())
        return pa.array([as_text(row) for row in rows], pa.string())
    if pa.types.is_floating(kind):
        # 4.0 as "4", like the same column in a CSV file.
        whole = pc.fill_null(pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53)), False)
        return pc.if_else(whole, pc.if_else(whole, column, None).cast(pa.int64()).cast(pa.string()),
                          column.cast(pa.string()))
    return column.cast(pa.string())
