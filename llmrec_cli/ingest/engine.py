"""The engine that runs the relational work; everything else speaks ibis and does not know which one it is."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.expr.types import Table

from llmrec_cli.errors import ResourceError


@contextmanager
def engine(folder: Path) -> Iterator[Backend]:
    """Yield an embedded DuckDB that spills to `folder`; running out of memory or disk becomes a ResourceError."""
    connection = ibis.duckdb.connect(temp_directory=str(folder))
    try:
        yield connection
    except duckdb.OutOfMemoryException as error:
        raise ResourceError(f"the data did not fit into memory ({_first_line(error)}); close other programs or use a "
                            f"machine with more") from error
    except duckdb.IOException as error:
        raise ResourceError(f"{folder}: DuckDB could not read or write there ({_first_line(error)}); free space or "
                            f"choose another place with output=<folder>") from error
    finally:
        connection.disconnect()


def read_staged(connection: Backend, path: Path) -> Table:
    """Return a staged Parquet file as a table; stars and brackets in its path are not a pattern."""
    return connection.read_parquet(glob.escape(str(path)))


def materialised(table: Table) -> Table:
    """Return the rows of `table`, computed once; they go when the engine ends.

    Not `.cache()`, whose clean-up runs at any later time, after the connection is closed too.
    """
    backend = table.get_backend()
    return backend.create_table(ibis.util.gen_name("llmrec"), table, temp=True)


def batches(table: Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield `table` in order, `rows` at a time.

    Not `.to_pyarrow_batches()`, which ibis 12 makes with a call that DuckDB 2 no longer has.
    """
    backend = table.get_backend()
    yield from backend.con.sql(backend.compile(table)).to_arrow_reader(rows)


def size(table: Table) -> int:
    """Return the number of rows."""
    return int(table.count().to_pyarrow().as_py())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
