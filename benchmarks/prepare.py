"""prepare at 20 and 60 million rows, compared with DuckDB's sort of the same file; MovieLens-1M; Spark and DuckDB.

    python benchmarks/prepare.py [sort] [csv] [flat] [movielens] [spark] [--rows <rows>] [--repeats 3] [--path <folder>]

Default: sort movielens. `--rows` (20000000) is the number of rows of sort and csv; flat also takes two and three times
as many, spark a 200th and a 20th. `--path` is GroupLens's folder of MovieLens-1M, which is downloaded without it. The
machine is noisy, so sort and prepare run in turns; compare the ratio of their medians.
"""

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

LLMREC = str(Path(sys.executable).with_name("llmrec"))
COMMON = ["dataset.columns.value=rating", "split=temporal", "dataset.min_user_interactions=5",
          "dataset.min_item_interactions=5"]
STEP = 2_000_000


@dataclass(frozen=True)
class Size:
    """Size of a benchmark: rows of the smallest file, number of repeats, and the folder of MovieLens-1M or ""."""

    rows: int
    repeats: int
    path: str

    @property
    def num_items(self) -> int:
        """Number of items: 50,000, fewer with fewer rows."""
        return min(50_000, self.rows // 400)


def generate(path: Path, rows: int, num_users: int, num_items: int = 50_000, strings: bool = False) -> None:
    """Write user_id, item_id, rating and timestamp: uniform users, Zipf-distributed items, unordered."""
    rng = np.random.default_rng(0)
    shares = np.cumsum(1 / np.arange(1, num_items + 1))
    items = rng.permutation(num_items)
    writer = None
    for start in range(0, rows, STEP):
        size = min(STEP, rows - start)
        item_ids = items[np.searchsorted(shares / shares[-1], rng.random(size))]
        columns = {"user_id": rng.integers(0, num_users, size), "item_id": item_ids,
                   "rating": rng.integers(1, 6, size).astype(np.float32),
                   "timestamp": rng.integers(1_500_000_000, 1_600_000_000, size)}
        if strings:
            columns |= {key: np.char.add(key[0], columns[key].astype(str)) for key in ("user_id", "item_id")}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def sort(path: Path, folder: Path) -> float:
    """Return the seconds DuckDB needs to sort the file by user and time and to write it as Parquet."""
    code = (f"import duckdb; duckdb.connect().execute(\"COPY (SELECT * FROM '{path}' ORDER BY user_id, timestamp) "
            f"TO '{folder / 'sorted.parquet'}' (FORMAT parquet)\").fetchall()")
    return timed([sys.executable, "-c", code], folder)[0]


def timed(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak memory in GiB of a command, including its start."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    assert process.returncode == 0, errors
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def prepare(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Run `llmrec prepare` in `folder` without existing prepared data."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    return timed([LLMREC, "prepare", "dataset.name=bench", *arguments], folder)


def millions(rows: int) -> str:
    """Return a number of rows as text: 20M, or 2,000."""
    return f"{rows // 10**6}M" if rows >= 10**6 else f"{rows:,}"


def bench_sort(folder: Path, size: Size) -> None:
    for strings in (False, True):
        path = folder / "rows.parquet"
        generate(path, size.rows, size.rows // 100, size.num_items, strings)
        sorts, runs = [], []
        for _ in range(size.repeats):
            sorts.append(sort(path, folder))
            runs.append(prepare(folder, f"dataset.interactions={path}", *COMMON))
        wall, base = statistics.median(run[0] for run in runs), statistics.median(sorts)
        print(f"{millions(size.rows)} rows of Parquet, {'text' if strings else 'integer'} ids: prepare {wall:.1f} s "
              f"({min(r[0] for r in runs):.1f} to {max(r[0] for r in runs):.1f}), sort {base:.1f} s "
              f"({min(sorts):.1f} to {max(sorts):.1f}): {wall / base:.1f} times; processor "
              f"{statistics.median(r[1] for r in runs):.0f} s, memory {max(r[2] for r in runs):.2f} GiB", flush=True)


def bench_csv(folder: Path, size: Size) -> None:
    path, text = folder / "rows.parquet", folder / "rows.csv.gz"
    generate(path, size.rows, size.rows // 100, size.num_items)
    with gzip.open(text, "wb", compresslevel=1) as stream:
        for number, batch in enumerate(pq.ParquetFile(path).iter_batches(STEP)):
            pa.csv.write_csv(pa.Table.from_batches([batch]), stream,
                             pa.csv.WriteOptions(include_header=number == 0, quoting_style="none"))
    base = sort(path, folder)
    wall, processor, memory = prepare(folder, f"dataset.interactions={text}", *COMMON)
    print(f"{millions(size.rows)} rows of gzipped CSV: prepare {wall:.1f} s, sort of the Parquet file {base:.1f} s: "
          f"{wall / base:.1f} times; processor {processor:.0f} s, memory {memory:.2f} GiB", flush=True)


def bench_flat(folder: Path, size: Size) -> None:
    for rows in (size.rows, 2 * size.rows, 3 * size.rows):
        generate(folder / "rows.parquet", rows, rows // 100, size.num_items)
        wall, _, memory = prepare(folder, f"dataset.interactions={folder / 'rows.parquet'}", *COMMON)
        print(f"{millions(rows)} rows of Parquet, engine.memory=2GB: {wall:.1f} s, {memory:.2f} GiB", flush=True)


def bench_movielens(folder: Path, size: Size) -> None:
    settings = ["dataset=movielens_1m", *([f"dataset.path={Path(size.path).resolve()}"] if size.path else [])]
    if not size.path:
        prepare(folder, *settings)  # Downloads.
    runs = [prepare(folder, *settings) for _ in range(size.repeats)]
    walls = sorted(run[0] for run in runs)
    where = f"from {size.path}" if size.path else "downloaded before"
    print(f"MovieLens-1M, {where}: {statistics.median(walls):.1f} s ({walls[0]:.1f} to {walls[-1]:.1f}), "
          f"processor {statistics.median(r[1] for r in runs):.1f} s, {max(r[2] for r in runs):.2f} GiB", flush=True)


def bench_spark(folder: Path, size: Size) -> None:
    for rows in (size.rows // 200, size.rows // 20):
        path = folder / "rows.parquet"
        generate(path, rows, rows // 100, num_items=rows // 200)
        walls = {}
        for engine in (["engine=duckdb"], ["engine=spark", "engine.master=local[2]"]):
            walls[engine[0]] = prepare(folder, f"dataset.interactions={path}", f"output={engine[0][7:]}", *COMMON,
                                       *engine, "force=true")[0]
        files = [f"'{folder / engine / 'interactions.parquet'}'" for engine in ("duckdb", "spark")]
        query = "SELECT count(*) FROM (FROM {} EXCEPT ALL FROM {})"
        different = [duckdb.connect().execute(query.format(*pair)).fetchall()[0][0] for pair in (files, files[::-1])]
        print(f"{rows:,} rows: DuckDB {walls['engine=duckdb']:.1f} s, Spark local[2] {walls['engine=spark']:.1f} s; "
              f"rows in only one of them: {different}", flush=True)


def main() -> None:
    """Run the requested benchmarks, each in its own folder."""
    benchmarks: dict[str, Callable[[Path, Size], None]] = {
        "sort": bench_sort, "csv": bench_csv, "flat": bench_flat, "movielens": bench_movielens, "spark": bench_spark}
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmarks", nargs="*", default=["sort", "movielens"])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--path", default="")
    arguments = parser.parse_args()
    size = Size(arguments.rows, arguments.repeats, arguments.path)
    for name in arguments.benchmarks:
        with tempfile.TemporaryDirectory(prefix="llmrec.bench.") as folder:
            benchmarks[name](Path(folder), size)


if __name__ == "__main__":
    main()
