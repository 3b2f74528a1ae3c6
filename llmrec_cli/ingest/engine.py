"""The engines, DuckDB and Spark, that run the relational work; all other modules use ibis and fit either engine."""

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
from llmrec_cli.ingest.signals import reraise_signals
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.engine import DuckDbSettings, EngineSettings, SparkSettings

_SCRATCH = "spark.llmrec.scratch"


def engine(settings: EngineSettings, folder: Path) -> AbstractContextManager[BaseBackend]:
    """Return a context manager that yields a connection; data that does not fit into memory goes to `folder`.

    Raises ResourceError when memory or disk run out, ConfigError when the engine cannot be started.
    """
    opened: AbstractContextManager[BaseBackend] = implementation_of(settings)(settings, folder)
    return opened


@contextmanager
def duckdb_engine(settings: DuckDbSettings, folder: Path) -> Iterator[BaseBackend]:
    """Yield a connection to DuckDB inside this process."""
    # Queries that need an order use order_by, so DuckDB need not keep the order of files in memory.
    options: dict[str, Any] = {"memory_limit": settings.memory, "preserve_insertion_order": False}
    connection = ibis.duckdb.connect(temp_directory=str(folder), **options,
                                     **({"threads": settings.threads} if settings.threads else {}))
    try:
        with reraise_signals(connection.con.interrupt):
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
    # Times are UTC. A cast that fails gives null (try_cast), never an exception.
    ours = {"spark.sql.session.timeZone": "UTC", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "8", "spark.log.level": "ERROR",
            "spark.sql.warehouse.dir": str(folder / "warehouse"), _SCRATCH: str(folder)}
    if settings.master.startswith("local"):
        # Both are needed: Spark fetches results above 1 MB by host name, which is another address than the one bound.
        ours |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master(settings.master).appName("llmrec prepare")
    for key, value in (ours | settings.conf).items():
        builder = builder.config(key, value)
    # pyspark warns of new pandas versions again and again; our tables never go through pandas.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    if SparkSession.getActiveSession() is not None:
        raise ConfigError("engine=spark: this process runs a Spark session already; stop it first")
    try:
        session = builder.getOrCreate()
    except (PySparkException, Py4JError, OSError) as error:
        raise ConfigError(f"engine=spark engine.master={settings.master}: Spark did not start ({_first_line(error)}); "
                          f"it needs Java 17 or newer (JAVA_HOME) and a reachable master") from error
    try:
        with reraise_signals(session.sparkContext.cancelAllJobs):
            yield ibis.pyspark.connect(session)
    except (PySparkException, Py4JError) as error:
        raise ResourceError(f"engine=spark: Spark failed ({_first_line(error)}); give it more memory or disk with "
                            f"engine.conf.<key>=<value>") from error
    finally:
        session.stop()


def read_staged(connection: BaseBackend, path: Path) -> Table:
    """Return a staged Parquet file, or a folder of them, as a table; the path is literal, never a pattern."""
    return connection.read_parquet(glob.escape(str(path)) + ("/*.parquet" if path.is_dir() else ""))


def scan(connection: BaseBackend, path: Path) -> Table:
    """Return a user's Parquet file with its own types, and `line`, the number of the row from 1."""
    if connection.name == "duckdb":
        # By default DuckDB would replace the file's own user_id with 7 if its folder is called user_id=7.
        rows = connection.read_parquet(glob.escape(str(path)), file_row_number=True, hive_partitioning=False)
        return rows.mutate(line=rows.file_row_number + 1).drop("file_row_number")
    session = _session(connection)
    view = ibis.util.gen_name("llmrec")
    session.read.parquet(glob.escape(str(path))).selectExpr("*", "_metadata.row_index + 1 AS line") \
        .createOrReplaceTempView(view)
    return connection.table(view)


def materialise(table: Table) -> Table:
    """Compute the rows of `table` once and return them as a table that lasts until the engine ends.

    Not with `.cache()`: its clean-up may run after the connection is closed, and on Spark it ran out of heap. On Spark
    the rows are written to the scratch folder and read back.
    """
    backend = table.get_backend()
    if backend.name == "duckdb":
        return backend.create_table(ibis.util.gen_name("llmrec"), table, temp=True)
    return read_staged(backend, _written(backend, table))


def drop_tables(*tables: Table) -> None:
    """Free the space of tables that `materialise` returned."""
    for table in tables:
        backend = table.get_backend()
        if backend.name == "duckdb":
            backend.drop_table(table.get_name(), force=True)


def collect(table: Table) -> pa.Table:
    """Return a small table as Arrow, rows in order."""
    backend = table.get_backend()
    if backend.name == "duckdb":
        return backend.con.sql(backend.compile(table)).to_arrow_table()
    return _session(backend).sql(backend.compile(table)).toArrow()


def batches(table: Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `table` in order, at most `rows` at a time.

    Not with `.to_pyarrow_batches()`: ibis 12 implements it with a call that DuckDB 2 no longer has.
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
    """Write the rows in order with Spark and return the folder."""
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
