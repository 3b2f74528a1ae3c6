"""Parquet files as text columns, cast deliberately."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.jsonl import as_text
from llmrec_cli.ingest.sources import Source

BATCH = 1 << 17


def open_parquet(source: Source) -> pq.ParquetFile:
    """Return the file. Raises DataError when it is not Parquet or not all there."""
    if source.compression:
        raise DataError(f"{source.path}: Parquet is compressed inside; unpack the file")
    try:
        return pq.ParquetFile(source.path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, error) from error


def parquet_batches(source: Source, file: pq.ParquetFile, columns: list[str],
                    ids: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Yield the chosen columns as strings, nulls kept.

    Raises DataError for damage, and for ids stored as floating point, which have lost digits already.
    """
    schema = file.schema_arrow
    for name in ids:
        if pa.types.is_floating(schema.field(name).type):
            raise DataError(f"{source.path}: the id column '{name}' holds floating point numbers, in which long ids "
                            f"lose digits; export it as integers or as text")
    try:
        for batch in file.iter_batches(BATCH, columns=columns):
            yield pa.RecordBatch.from_arrays([_text(batch.column(name)) for name in columns], names=columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, error) from error


def _text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.dictionary_decode())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column.cast(pa.string())
    if pa.types.is_nested(kind):
        rows = (None if v is None else json.loads(json.dumps(v, default=str)) for v in column.to_pylist())
        return pa.array([as_text(row) for row in rows], pa.string())
    if pa.types.is_floating(kind):
        # 4.0 as "4": what the same column would be in a CSV file.
        whole = pc.fill_null(pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53)), False)
        return pc.if_else(whole, pc.if_else(whole, column, None).cast(pa.int64()).cast(pa.string()),
                          column.cast(pa.string()))
    return column.cast(pa.string())


def _damaged(source: Source, error: Exception) -> DataError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{source.path}: is not a whole Parquet file ({first}); export or copy it again")
