"""Rejected rows with their place and reason, spooled to disk so that millions do not fill the memory."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SHOWN = 3
"""Number of first rejects of a file kept for error messages."""
SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("column", pa.string()), ("reason", pa.string())])
MOST = 1 << 14
"""Most rejects in memory; more go to disk."""
_ORDER = [(name, "ascending") for name in SCHEMA.names]
_MEMORY = "256MB"


@dataclass(frozen=True, order=True)
class Reject:
    """A rejected row with its place and reason. `line` counts from 1 (rows, in Parquet)."""

    file: str
    line: int
    column: str
    reason: str


class Rejects:
    """Collection of rejects of any size; beyond some thousands they go to Parquet files in `folder`, created on demand.

    Iterates in order of file, line, column and reason.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[Reject] = []
        self._tables: list[pa.Table] = []
        self._waiting = 0
        self._num_parts = 0
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[Reject]] = {}

    def append(self, reject: Reject) -> None:
        """Add a reject."""
        self._rows.append(reject)
        self._count(reject.file, 1, [reject])
        self._spool(1)

    def extend(self, rejects: Iterable[Reject]) -> None:
        """Add rejects, or all rejects of another collection."""
        if isinstance(rejects, Rejects):
            for table in rejects._pieces():
                self.extend_table(table)
            return
        for reject in rejects:
            self.append(reject)

    def __iadd__(self, rejects: Iterable[Reject]) -> "Rejects":
        self.extend(rejects)
        return self

    def extend_table(self, table: pa.Table) -> None:
        """Add the rows of a table with file, line, column and reason."""
        table = table.select(SCHEMA.names).cast(SCHEMA)
        for file in table["file"].unique().to_pylist():
            of_file = table.filter(pc.equal(table["file"], file))
            first = of_file.take(pc.select_k_unstable(of_file, SHOWN, _ORDER[1:]))
            self._count(file, len(of_file), _rejects(first))
        self._tables.append(table)
        self._spool(len(table))

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, file: str) -> int:
        """Return the number of rejects of a file."""
        return self._counts.get(file, 0)

    def first(self, file: str) -> list[Reject]:
        """Return the first rejects of a file, at most three."""
        return list(self._first.get(file, []))

    def causes(self, file: str) -> list[tuple[str, str, int]]:
        """Return column, reason without the quoted value, and number of the rejects of a file, the most frequent first.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for table in self._pieces():
            rows = table.filter(pc.equal(table["file"], file))
            reasons = pc.replace_substring_regex(rows["reason"], "(?s)^'.*' (is|has)", r"\1")
            pairs = pa.table({"column": rows["column"], "reason": reasons}).group_by(["column", "reason"])
            for row in pairs.aggregate([([], "count_all")]).to_pylist():
                counts[row["column"], row["reason"]] += row["count_all"]
        return [(column, reason, number) for (column, reason), number in counts.most_common()]

    def __iter__(self) -> Iterator[Reject]:
        for batch in in_order([self], MOST):
            yield from _rejects(batch)

    def _count(self, file: str, number: int, some: list[Reject]) -> None:
        self._counts[file] = self._counts.get(file, 0) + number
        first = self._first.get(file, [])
        if len(first) < SHOWN or min(some) < first[-1]:
            self._first[file] = sorted([*first, *some])[:SHOWN]

    def _spool(self, more: int) -> None:
        self._waiting += more
        if self._waiting <= MOST:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self._in_memory(), self._folder / f"{self._num_parts:06}.parquet", compression="zstd")
        self._num_parts += 1
        self._rows, self._tables, self._waiting = [], [], 0

    def _in_memory(self) -> pa.Table:
        """Return the rejects in memory."""
        columns = list(zip(*map(astuple, self._rows), strict=True)) or [()] * len(SCHEMA)
        rows = pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)
        return pa.concat_tables([rows, *self._tables])

    def _parts(self) -> list[Path]:
        return [self._folder / f"{n:06}.parquet" for n in range(self._num_parts)]

    def _pieces(self) -> Iterator[pa.Table]:
        for part in self._parts():
            yield pq.read_table(part)
        yield self._in_memory()


def in_order(parts: list[Rejects], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield all rejects of `parts` ordered by file, line, column and reason, at most `rows` at a time."""
    if not any(part._num_parts for part in parts):
        yield from pa.concat_tables([part._in_memory() for part in parts] or [SCHEMA.empty_table()]) \
            .sort_by(_ORDER).to_batches(rows)
        return
    import duckdb  # Not at the top, so that `recommend`, which reads small files, starts faster.

    in_memory = pa.concat_tables([part._in_memory() for part in parts])
    files = [glob.escape(str(path)) for part in parts for path in part._parts()]
    scratch = str(next(part._folder for part in parts if part._num_parts) / "sort")
    with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": scratch, "threads": 1}) as connection:
        connection.register("kept", in_memory)
        ordered = connection.sql("SELECT * FROM kept UNION ALL SELECT * FROM read_parquet($1) ORDER BY ALL",
                                 params=[files])
        yield from ordered.to_arrow_reader(rows)


def _rejects(rows: pa.Table | pa.RecordBatch) -> list[Reject]:
    return [Reject(**row) for row in rows.to_pylist()]
