"""Raw files of any format to one Parquet file of text columns, each row with the file and line it came from.

Here ends what depends on formats: everything after reads the staged file, on any engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.decompression_limits import bytes_per_row
from llmrec_cli.ingest.readers.delimited import HEADER_AGAIN
from llmrec_cli.ingest.readers.jsonl import LateKey
from llmrec_cli.ingest.readers.parquet import is_readable_by_engines, parquet_batches
from llmrec_cli.ingest.readers.raw_files import RawFile, open_raw
from llmrec_cli.ingest.readers.rejects import Reject, Rejects
from llmrec_cli.ingest.readers.sources import Source

_MOST_ROWS, _MOST_CHARACTERS = 1 << 17, 1 << 23
"""What is gathered before it is written, as one row group."""


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
    wanted : our name -> the setting that gives a required column another one
    used : those of our columns that a file has under the name that the settings give
    headers : path -> how many of its rejects are the header again
    notes : what a person should know of how the files were read
    num_exploded : arrays whose entries became rows
    present : of each source, those of `names` that it has
    order_is_time : dataset.columns.order stands for the timestamps, which the files do not have
    """

    path: Path
    sources: list[Source]
    names: list[str]
    num_read: list[int] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    direct: list[Direct] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    headers: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    num_exploded: int = 0
    present: list[set[str]] = field(default_factory=list)
    order_is_time: bool = False
    rejects: Rejects = field(init=False)

    def __post_init__(self) -> None:
        self.rejects = Rejects(self.path.with_name(f"{self.path.name}.rejects"))


def stage(sources: list[Source], path: Path, required: tuple[str, ...], optional: tuple[str, ...],
          rest: bool = False, direct: bool = False) -> Staged:
    """Read `sources` into the Parquet file `path`: our columns first, then, with `rest`, all others by their names.

    With `direct`, Parquet files that an engine can read as they are, are not copied but listed. Raises DataError for
    files that cannot be read, that lack a required column, or that have no rows.
    """
    try:
        return _stage(sources, path, required, optional, rest, direct, hasty=not rest)
    except LateKey:
        return _stage(sources, path, required, optional, rest, direct, hasty=False)


def _stage(sources: list[Source], path: Path, required: tuple[str, ...], optional: tuple[str, ...], rest: bool,
           direct: bool, hasty: bool) -> Staged:
    """Do that. `hasty` takes the keys of the first JSON objects of a file for all; LateKey says that they were not."""
    opened = [open_raw(source, required, optional, rest, hasty) for source in sources]
    names = [name for name in (*required, *optional) if any(name in file.places for file in opened)]
    if rest:
        names += dict.fromkeys(name for file in opened for name in file.places if name not in names)
    for file in opened:
        for name in names:
            if name in optional and name not in file.places:
                if file.absent:
                    raise LateKey
                apart = "prepare the files apart" if file.source.columns_key else "give the files one by one"
                raise DataError(f"{file.source.path}: no column '{name}', which other files of this data set have; "
                                f"add it, or {apart}")
    aliases = {theirs: ours for source in sources for ours, theirs in source.columns.items() if ours in names}
    aliases |= {file.written[ours]: ours for file in opened for ours in file.written if file.written[ours] != ours}
    wanted = {ours: f"{source.columns_key}.{ours}={source.columns[ours]}" for source in sources for ours in required
              if source.columns.get(ours, ours) != ours and source.columns_key}
    staged = Staged(path, sources, names, aliases=aliases, wanted=wanted,
                    used={ours for file in opened for ours in file.mapped}, present=[set(f.places) for f in opened])
    with _Writer(path, len(names)) as writer:
        for number, file in enumerate(opened):
            listed = _listed(number, file) if direct else None
            if listed is not None and file.parquet is not None:
                staged.direct.append(listed)
                num_read = file.parquet.metadata.num_rows
            elif file.parquet is not None:
                num_read = _copy_parquet(number, file, file.parquet, names, writer)
            else:
                num_read = _copy_text(number, file, names, writer, staged)
            if num_read == 0:
                raise DataError(f"{file.source.path}: has a header but no rows")
            staged.num_read.append(num_read)
            staged.notes += file.notes
            if file.nested is not None:
                staged.notes += file.nested.notes()
                staged.num_exploded += file.nested.num_exploded
    return staged


def stage_entities(sources: list[Source], kind: str, folder: Path) -> Staged | None:
    """Stage the files of items or users (`kind`: item | user) with all their columns; None without files."""
    if not sources:
        return None
    # When items were described is looked for only where it is said which column that is.
    dated = ("timestamp",) if any("timestamp" in source.columns for source in sources) else ()
    return stage(sources, folder / f"{kind}s.staged", (f"{kind}_id",), ("title", *dated), rest=True)


def _listed(number: int, file: RawFile) -> Direct | None:
    """Return the file as one that is read where it is, or None when it has to be copied."""
    if file.parquet is None:
        return None
    schema = file.parquet.schema_arrow
    columns = {ours: schema.names[place] for ours, place in file.places.items()}
    if not is_readable_by_engines(file.parquet, columns.values()):
        return None
    bytes_per_row(file.source, list(columns.values()))  # Raises for a bomb.
    return Direct(number, file.source.path, columns, {ours: schema.field(theirs).type
                                                      for ours, theirs in columns.items()})


class _Writer:
    """Writes batches as row groups of a good size, whatever size they come in."""

    def __init__(self, path: Path, num_columns: int) -> None:
        texts = [f"c{n}" for n in range(num_columns)]
        self.schema = pa.schema([("file", pa.int32()), ("line", pa.int64()), *((name, pa.string()) for name in texts)])
        # Line numbers hardly ever repeat, so that a dictionary of them costs more than all the rest.
        self._writer = pq.ParquetWriter(path, self.schema, compression="lz4",
                                        use_dictionary=["file", *texts], write_statistics=False,
                                        column_encoding={"line": "DELTA_BINARY_PACKED"})
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, number: int, lines: pa.Array, columns: Sequence[pa.Array | None]) -> None:
        """Write rows of the file `number`; a column that is None is all null."""
        size = len(lines)
        arrays = [pa.nulls(size, pa.string()) if column is None else column for column in columns]
        file = pa.repeat(pa.scalar(number, pa.int32()), size)
        self._waiting.append(pa.RecordBatch.from_arrays([file, lines, *arrays], schema=self.schema))
        if sum(map(len, self._waiting)) >= _MOST_ROWS or sum(b.nbytes for b in self._waiting) >= _MOST_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting = []


def _copy_text(number: int, file: RawFile, names: list[str], writer: _Writer, staged: Staged) -> int:
    """Write the good rows of a text file, put the others to the rejects, and return how many there are of both."""
    assert file.rows is not None
    places = [file.places[name] for name in names if name in file.places]
    path, num_read = str(file.source.path), 0
    gathered = _Gathered(number, places, [name in file.places for name in names], writer)
    for row in file.rows(places):
        if isinstance(row, Block):
            num_read += len(row.lines)
            gathered.flush()
            gathered.write(row.lines, row.columns)
            continue
        num_read += 1
        line, fields = row
        if isinstance(fields, str):
            staged.rejects.append(Reject(path, line, "", fields))
            if fields == HEADER_AGAIN:
                staged.headers[path] = staged.headers.get(path, 0) + 1
        else:
            gathered.append(line, fields)
    gathered.flush()
    return num_read


class _Gathered:
    """Rows that come one by one, until they are enough to be written."""

    def __init__(self, number: int, places: list[int], there: list[bool], writer: _Writer) -> None:
        self.number, self.places, self.there, self.writer = number, places, there, writer
        self.lines: list[int] = []
        self.rows: list[Sequence[str | None]] = []
        self.size = 0

    def append(self, line: int, fields: Sequence[str | None]) -> None:
        """Add a row."""
        self.lines.append(line)
        self.rows.append(fields)
        self.size += sum(map(len, filter(None, fields)))
        if len(self.rows) == _MOST_ROWS or self.size > _MOST_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        if self.rows:
            columns = [pa.array([row[place] for row in self.rows], pa.string()) for place in self.places]
            self.write(pa.array(self.lines, pa.int64()), columns)
        self.lines, self.rows, self.size = [], [], 0

    def write(self, lines: pa.Array, columns: list[pa.Array]) -> None:
        """Write columns as they are."""
        found = iter(columns)
        self.writer.write(self.number, lines, [next(found) if is_there else None for is_there in self.there])


def _copy_parquet(number: int, file: RawFile, parquet: pq.ParquetFile, names: list[str], writer: _Writer) -> int:
    """Write the rows of a Parquet file as text and return how many there are."""
    theirs = {name: parquet.schema_arrow.names[place] for name, place in file.places.items()}
    num_read = 0
    for batch in parquet_batches(file.source, parquet, list(theirs.values())):
        lines = pa.array(range(num_read + 1, num_read + 1 + len(batch)), pa.int64())
        writer.write(number, lines, [batch.column(theirs[name]) if name in theirs else None for name in names])
        num_read += len(batch)
    return num_read
