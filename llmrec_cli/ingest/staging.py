"""Raw files of any format to one Parquet file of text columns, each row with the file and line it came from.

Here ends what depends on formats: everything after reads the staged file, on any engine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.columns import check_names, locate
from llmrec_cli.ingest.delimited import open_delimited
from llmrec_cli.ingest.jsonl import jsonl_keys, jsonl_records
from llmrec_cli.ingest.parquet import open_parquet, parquet_batches
from llmrec_cli.ingest.rejects import Reject, Rejects
from llmrec_cli.ingest.sources import Record, Source

MOST_ROWS, MOST_CHARACTERS = 1 << 16, 1 << 23


@dataclass(frozen=True)
class Direct:
    """A Parquet file that is not staged, since an engine can read what is needed of it as it is.

    Attributes
    ----------
    number : its place in `Staged.sources`
    columns : our name -> the file's
    types : our name -> the type it has there
    """

    number: int
    path: Path
    columns: dict[str, str]
    types: dict[str, pa.DataType]


@dataclass
class Staged:
    """A staged file with columns file (int32, place in `sources`), line (int64), then c0, c1, ... (string).

    Attributes
    ----------
    names : what c0, c1, ... are called: ours where we have a name for them, else the file's own
    num_read : rows of each source, bad ones too
    aliases : what a file calls one of our columns -> our name
    direct : the sources that are not in the staged file
    """

    path: Path
    sources: list[Source]
    names: list[str]
    num_read: list[int] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    direct: list[Direct] = field(default_factory=list)
    rejects: Rejects = field(init=False)

    def __post_init__(self) -> None:
        self.rejects = Rejects(self.path.with_name(f"{self.path.name}.rejects"))


def stage(sources: list[Source], path: Path, required: tuple[str, ...], optional: tuple[str, ...],
          rest: bool = False) -> Staged:
    """Read `sources` into the Parquet file `path`: our columns first, then, with `rest`, all others by their names.

    Raises DataError for files that cannot be read, that lack a required column, or that have no rows.
    """
    opened = [_open(source, required, optional, rest) for source in sources]
    names = [name for name in (*required, *optional) if any(name in file.places for file in opened)]
    if rest:
        names += dict.fromkeys(name for file in opened for name in file.places if name not in names)
    aliases = {theirs: ours for source in sources for ours, theirs in source.columns.items() if ours in names}
    staged = Staged(path, sources, names, aliases=aliases)
    columns = [pa.field(f"c{n}", pa.string()) for n in range(len(names))]
    schema = pa.schema([("file", pa.int32()), ("line", pa.int64()), *columns])
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for number, file in enumerate(opened):
            for name in names:
                if name in optional and name not in file.places:
                    raise DataError(f"{file.source.path}: no column '{name}', which other files of this data set have; "
                                    f"add it, or prepare the files apart")
            writer_rows = _Rows(staged, number, file, names, schema)
            for batch in writer_rows.batches():
                writer.write_batch(batch)
            staged.num_read.append(writer_rows.num_read)
            if writer_rows.num_read == 0:
                raise DataError(f"{file.source.path}: has a header but no rows")
    return staged


def stage_entities(sources: list[Source], kind: str, folder: Path) -> Staged | None:
    """Stage the files of items or users (`kind`: item | user) with all their columns; None without files."""
    if not sources:
        return None
    return stage(sources, folder / f"{kind}s.staged", (f"{kind}_id",), ("title",), rest=True)


@dataclass
class _Opened:
    source: Source
    places: dict[str, int]
    rows: Iterator[Record] | None = None
    parquet: pq.ParquetFile | None = None


def _open(source: Source, required: tuple[str, ...], optional: tuple[str, ...], rest: bool) -> _Opened:
    """Open a file and find our columns in it: name -> place of the file's column."""
    rows: Iterator[Record] | None = None
    file: pq.ParquetFile | None = None
    if source.read is not None:
        names, rows = source.read(source)
    elif source.format == "parquet":
        file = open_parquet(source)
        names = file.schema_arrow.names
    elif source.format == "jsonl":
        names = jsonl_keys(source)
        rows = _json_rows(source, names)
    else:
        delimited = open_delimited(source)
        names, rows = delimited.names, iter(delimited.records)
    check_names(source, names)
    places = locate(source, names, required, optional)
    if rest:
        ours = set(places.values())
        places |= {name: n for n, name in enumerate(names) if n not in ours and name not in places}
    return _Opened(source, places, rows, file)


def _json_rows(source: Source, names: list[str]) -> Iterator[Record]:
    for line, fields in jsonl_records(source):
        yield line, fields if isinstance(fields, str) else [fields.get(name) for name in names]


class _Rows:
    """The rows of one opened file as batches of the staged schema; bad ones go to the rejects."""

    def __init__(self, staged: Staged, number: int, file: _Opened, names: list[str], schema: pa.Schema) -> None:
        self.staged, self.number, self.file, self.schema = staged, number, file, schema
        self.places = [file.places.get(name) for name in names]
        self.ids = [name for name in names if name.endswith("_id") and name in file.places]
        self.num_read = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the good rows."""
        return self._parquet() if self.file.parquet is not None else self._text()

    def _text(self) -> Iterator[pa.RecordBatch]:
        assert self.file.rows is not None
        lines: list[int] = []
        rows: list[Sequence[str | None]] = []
        size = 0
        for line, fields in self.file.rows:
            self.num_read += 1
            if isinstance(fields, str):
                self.staged.rejects.append(Reject(str(self.file.source.path), line, "", fields))
                continue
            lines.append(line)
            rows.append(fields)
            size += sum(map(len, filter(None, fields)))
            if len(rows) == MOST_ROWS or size > MOST_CHARACTERS:
                yield self._batch(lines, [[row[p] for row in rows] if p is not None else None for p in self.places])
                lines, rows, size = [], [], 0
        if rows:
            yield self._batch(lines, [[row[p] for row in rows] if p is not None else None for p in self.places])

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        assert self.file.parquet is not None
        names = self.file.parquet.schema_arrow.names
        chosen = [names[p] for p in self.places if p is not None]
        ids = tuple(names[self.file.places[name]] for name in self.ids if name in ("user_id", "item_id"))
        for batch in parquet_batches(self.file.source, self.file.parquet, chosen, ids):
            lines = range(self.num_read + 1, self.num_read + 1 + len(batch))
            self.num_read += len(batch)
            yield self._batch(lines, [batch.column(names[p]) if p is not None else None for p in self.places])

    def _batch(self, lines: list[int] | range, columns: list[pa.Array | list[str | None] | None]) -> pa.RecordBatch:
        size = len(lines)
        arrays = [pa.nulls(size, pa.string()) if c is None else pa.array(c, pa.string()) if isinstance(c, list) else c
                  for c in columns]
        numbers = [pa.repeat(pa.scalar(self.number, pa.int32()), size), pa.array(lines, pa.int64())]
        return pa.RecordBatch.from_arrays([*numbers, *arrays], schema=self.schema)
