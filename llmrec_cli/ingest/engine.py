"""The engine that runs the relational work; everything else speaks ibis and does not know which one it is."""

import glob
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.ingest.signals import heeding_signals
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.engine import DuckDbSettings, EngineSettings, SparkSettings

_SCRATCH = "spark.llmrec.scratch"


def engine(settings: EngineSettings, folder: Path) -> AbstractContextManager[BaseBackend]:
    """Return a context that yields a connection, which puts what does not fit into memory into `folder`.

    Running out of memory or disk becomes a ResourceError, an engine that cannot be started a ConfigError.
    """
    opened: AbstractContextManager[BaseBackend] = implementation_of(settings)(settings, folder)
    return opened


@contextmanager
def duckdb_engine(settings: DuckDbSettings, folder: Path) -> Iterator[BaseBackend]:
    """Yield a connection to DuckDB inside this process."""
    # Whatever must be in order says so with order_by, so the order of files need not be kept in memory.
    options: dict[str, Any] = {"memory_limit": settings.memory, "preserve_insertion_order": False}
    connection = ibis.duckdb.connect(temp_directory=str(folder), **options,
                                     **({"threads": settings.threads} if settings.threads else {}))
    try:
        with heeding_signals(connection.con.interrupt):
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise ResourceError(f"the data did not fit into engine.memory={settings.memory} and the disk of "
                            f"{folder.parent} ({_first_line(error)}); free disk or raise engine.memory") from error
    except duckdb.IOException as error:
        raise ResourceError(f"{folder}: DuckDB could not read or write there ({_first_line(error)}); free space or "
                            f"choose another place with output=<folder>") from error
    finally:
        connection.disconnect()


@contextmanager
def spark_engine(settings: SparkSettings, folder: Path) -> Iterator[BaseBackend]:
    """Yield a connection to a Spark session of its own."""
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError("engine=spark: pyspark is not installed; run `pip install 'llmrec-cli[spark]'`") from error
    # Times are UTC, text is what it is, and a cast that fails says so by null (try_cast), never by an exception.
    ours = {"spark.sql.session.timeZone": "UTC", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "8", "spark.log.level": "ERROR",
            "spark.sql.warehouse.dir": str(folder / "warehouse"), _SCRATCH: str(folder)}
    if settings.master.startswith("local"):
        # Both: results above 1 MB are fetched from the host's name, which is another address than the one bound.
        ours |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master(settings.master).appName("llmrec prepare")
    for key, value in (ours | settings.conf).items():
        builder = builder.config(key, value)
    # No table of ours goes through pandas, whose newest version pyspark warns of at every turn.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    if SparkSession.getActiveSession() is not None:
        raise ConfigError("engine=spark: this process runs a Spark session already; stop it first")
    try:
        session = builder.getOrCreate()
    except (PySparkException, Py4JError, OSError) as error:
        raise ConfigError(f"engine=spark engine.master={settings.master}: Spark did not start ({_first_line(error)}); "
                          f"it needs Java 17 or newer (JAVA_HOME) and a master that answers") from error
    try:
        with heeding_signals(session.sparkContext.cancelAllJobs):
            yield ibis.pyspark.connect(session)
    except (PySparkException, Py4JError) as error:
        raise ResourceError(f"engine=spark: Spark gave up ({_first_line(error)}); give it more memory or disk with "
                            f"engine.conf.<key>=<value>") from error
    finally:
        session.stop()


def read_staged(connection: BaseBackend, path: Path) -> Table:
    """Return a staged Parquet file, or a folder of them, as a table; stars and brackets in its path are no pattern."""
    return connection.read_parquet(glob.escape(str(path)) + ("/*.parquet" if path.is_dir() else ""))


def scan(connection: BaseBackend, path: Path) -> Table:
    """Return anyone's Parquet file with its own types, and `line`, the number of the row from 1."""
    if connection.name == "duckdb":
        # A folder called user_id=7 says nothing: left to itself, DuckDB would put 7 in place of the file's own column.
        rows = connection.read_parquet(glob.escape(str(path)), file_row_number=True, hive_partitioning=False)
        return rows.mutate(line=rows.file_row_number + 1).drop("file_row_number")
    session = _session(connection)
    view = ibis.util.gen_name("llmrec")
    session.read.parquet(glob.escape(str(path))).selectExpr("*", "_metadata.row_index + 1 AS line") \
        .createOrReplaceTempView(view)
    return connection.table(view)


def materialised(table: Table) -> Table:
    """Return the rows of `table`, computed once; they go when the engine ends.

    Not `.cache()`, whose clean-up runs at any later time, after the connection is closed too, and which on Spark ran
    out of heap: there the rows are written to the scratch folder and read back.
    """
    backend = table.get_backend()
    if backend.name == "duckdb":
        return backend.create_table(ibis.util.gen_name("llmrec"), table, temp=True)
    return read_staged(backend, _written(backend, table))


def dropped(*tables: Table) -> None:
    """Give back the space of tables that `materialised` returned and nothing needs any more."""
    for table in tables:
        backend = table.get_backend()
        if backend.name == "duckdb":
            backend.drop_table(table.get_name(), force=True)


def collect(table: Table) -> pa.Table:
    """Return a small table as Arrow, in order."""
    backend = table.get_backend()
    if backend.name == "duckdb":
        return backend.con.sql(backend.compile(table)).to_arrow_table()
    return _session(backend).sql(backend.compile(table)).toArrow()


def batches(table: Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield `table` in order, at most `rows` at a time.

    Not `.to_pyarrow_batches()`, which ibis 12 makes with a call that DuckDB 2 no longer has.
    """
    backend = table.get_backend()
    if backend.name == "duckdb":
        yield from backend.con.sql(backend.compile(table)).to_arrow_reader(rows)
        return
    folder = _written(backend, table)
    for part in sorted(folder.glob("*.parquet")):
        yield from pq.ParquetFile(part).iter_batches(rows)
    shutil.rmtree(folder)


def size(table: Table) -> int:
    """Return the number of rows."""
    return int(scalar(table.count()))


def scalar(value: ibis.expr.types.Scalar) -> Any:
    """Return the value of an aggregate."""
    return collect(value.as_table()).column(0)[0].as_py()


def _written(backend: BaseBackend, table: Table) -> Path:
    """Write the rows in order, through Spark, and return the folder."""
    session = _session(backend)
    folder = Path(tempfile.mkdtemp(dir=session.conf.get(_SCRATCH), prefix="table."))
    session.sql(backend.compile(table)).write.mode("overwrite").parquet(str(folder))
    if not any(folder.glob("*.parquet")):
        session.sql(backend.compile(table)).coalesce(1).write.mode("overwrite").parquet(str(folder))
    return folder


def _session(backend: BaseBackend) -> Any:
    return backend._session


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
