"""Staging: raw files of any format become one Parquet file of text columns, with file and line of each row.

All later steps read the staged file, on any engine, and do not depend on file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.data.reject_reasons import HEADER_AGAIN
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.absent_paths import refuse_absent_paths
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.decompression_limits import bytes_per_row
from llmrec_cli.ingest.readers.field_rules import FieldRule, rule_of
from llmrec_cli.ingest.readers.jsonl import LateKey
from llmrec_cli.ingest.readers.parquet import is_readable_by_engines, parquet_batches
from llmrec_cli.ingest.readers.raw_files import RawFile, open_raw
from llmrec_cli.ingest.readers.rejects import Reject, Rejects
from llmrec_cli.ingest.readers.sniffing import print_detected, with_format
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.pace import still_working

_MOST_ROWS, _MOST_CHARACTERS = 1 << 17, 1 << 23
"""Most rows and characters of a row group."""


@dataclass(frozen=True)
class Direct:
    """A Parquet file that is not staged because an engine can read its columns directly.

    Attributes
    ----------
    number : its place in `StagedFiles.sources`
    columns : our name -> the file's name
    types : our name -> its type in the file
    """

    number: int
    path: Path
    columns: dict[str, str]
    types: dict[str, pa.DataType]


@dataclass
class StagedFiles:
    """A staged file with columns file (int32, place in `sources`), line (int64), then c0, c1, ... (string).

    Attributes
    ----------
    names : names of c0, c1, ...: our name if there is one, else the file's name
    num_read : number of rows of each source, including bad rows
    aliases : column name in a file -> our name
    direct : the sources that are read directly and are not in the staged file
    wanted : our name of a required column -> the setting that maps it
    used : our columns that a file has under the name in the settings
    last_lines : line of the last row of each source
    headers : path -> number of its rejects that are repeated headers
    totals : path of each file whose last row was rejected as a row of totals
    notes : notes on how the files were read
    num_exploded : number of arrays whose entries became rows
    present : the names of `names` that each source has
    columns : names of all columns that each source has in the file
    order_is_time : True if dataset.columns.order replaces missing timestamps
    """

    path: Path
    sources: list[Source]
    names: list[str]
    num_read: list[int] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    direct: list[Direct] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    last_lines: list[int] = field(default_factory=list)
    headers: dict[str, int] = field(default_factory=dict)
    totals: list[str] = field(default_factory=list)
    notes: list[Phrase] = field(default_factory=list)
    num_exploded: int = 0
    present: list[set[str]] = field(default_factory=list)
    columns: list[tuple[str, ...]] = field(default_factory=list)
    order_is_time: bool = False
    rejects: Rejects = field(init=False)

    def __post_init__(self) -> None:
        self.rejects = Rejects(self.path.with_name(f"{self.path.name}.rejects"))


@still_working("reading files")
def stage(sources: list[Source], path: Path, required: tuple[str, ...], optional: tuple[str, ...],
          rest: bool = False, direct: bool = False) -> StagedFiles:
    """Read `sources` into the Parquet file `path`: our columns first, then, with `rest`, all other columns.

    With `direct`, Parquet files that an engine can read directly are listed instead of copied. Raises DataError for
    files that cannot be read, lack a required column, or have no rows.
    """
    sources = [with_format(source) for source in sources]
    for source in sources:
        print_detected(source)
    try:
        return _stage(sources, path, required, optional, rest, direct, hasty=not rest)
    except LateKey:
        return _stage(sources, path, required, optional, rest, direct, hasty=False)


def _stage(sources: list[Source], path: Path, required: tuple[str, ...], optional: tuple[str, ...], rest: bool,
           direct: bool, hasty: bool) -> StagedFiles:
    """Stage the sources. With `hasty` only the first JSON objects of a file give its keys; raises LateKey for others.
    """
    opened = [open_raw(source, required, optional, rest, hasty) for source in sources]
    names = [name for name in (*required, *optional) if any(name in file.places for file in opened)]
    if rest:
        names += dict.fromkeys(name for file in opened for name in file.places if name not in names)
    for file in opened:
        for name in names:
            if name in optional and name not in file.places:
                if file.absent:
                    raise LateKey
                apart = "prepare the files separately" if file.source.columns_key else "pass the files one by one"
                raise DataError(f"{file.source.path}: no column '{name}', which other files of this data set have; "
                                f"add it, or {apart}")
    aliases = {theirs: ours for source in sources for ours, theirs in source.columns.items() if ours in names}
    aliases |= {name: ours for file in opened for ours, name in file.file_names.items() if name != ours}
    wanted = {ours: f"{source.columns_key}.{ours}={source.columns[ours]}" for source in sources for ours in required
              if source.columns.get(ours, ours) != ours and source.columns_key}
    staged = StagedFiles(path, sources, names, aliases=aliases, wanted=wanted,
                    used={ours for file in opened for ours in file.mapped_columns},
                    present=[set(file.places) for file in opened], columns=[file.columns for file in opened])
    with _Writer(path, len(names)) as writer:
        for number, file in enumerate(opened):
            listed = _as_direct(number, file) if direct else None
            if listed is not None and file.parquet is not None:
                staged.direct.append(listed)
                num_read = last_line = file.parquet.metadata.num_rows
            elif file.parquet is not None:
                num_read = last_line = _copy_parquet(number, file, file.parquet, names, writer)
            else:
                num_read, last_line = _copy_text(number, file, names, writer, staged)
            if num_read == 0:
                raise DataError(f"{file.source.path}: has a header but no rows")
            staged.num_read.append(num_read)
            staged.last_lines.append(last_line)
            staged.notes += file.notes
            if file.nested is not None:
                staged.notes += file.nested.notes()
                staged.num_exploded += file.nested.num_exploded
    refuse_absent_paths([(file.source, file.nested.all_names, file.nested.absent) for file in opened
                         if file.nested is not None])
    return staged


def stage_entities(sources: list[Source], kind: str, folder: Path) -> StagedFiles | None:
    """Stage the files of items, users or groups (`kind`: item | user | group) with all columns; None without files."""
    if not sources:
        return None
    # The time of a description is read only if the settings name its column.
    dated = ("timestamp",) if any("timestamp" in source.columns for source in sources) else ()
    return stage(sources, folder / f"{kind}s.staged", (f"{kind}_id",), ("title", *dated), rest=True)


def _as_direct(number: int, file: RawFile) -> Direct | None:
    """Return the file as a `Direct` source, or None if it must be copied."""
    if file.parquet is None:
        return None
    schema = file.parquet.schema_arrow
    columns = {ours: schema.names[place] for ours, place in file.places.items()}
    if not is_readable_by_engines(file.parquet, columns.values()):
        return None
    bytes_per_row(file.source, list(columns.values()))  # Raises for a decompression bomb.
    return Direct(number, file.source.path, columns, {ours: schema.field(theirs).type
                                                      for ours, theirs in columns.items()})


class _Writer:
    """Writes batches of any size as row groups of a good size."""

    def __init__(self, path: Path, num_columns: int) -> None:
        texts = [f"c{n}" for n in range(num_columns)]
        self.schema = pa.schema([("file", pa.int32()), ("line", pa.int64()), *((name, pa.string()) for name in texts)])
        # Line numbers hardly ever repeat; a dictionary of them would cost more than everything else.
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
        """Write rows of the file `number`; a column that is None becomes null."""
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


def _copy_text(number: int, file: RawFile, names: list[str], writer: _Writer, staged: StagedFiles) -> tuple[int, int]:
    """Write the good rows of a text file, reject the others, and return the number of all rows and the last line."""
    assert file.rows is not None
    places = [file.places[name] for name in names if name in file.places]
    path, num_read, last_line = str(file.source.path), 0, 0
    rules = [rule_of(file, name) for name in names if name in file.places]
    gathered = _RowBuffer(number, places, rules, [name in file.places for name in names], writer)
    for row in file.rows(places):
        if isinstance(row, Block):
            num_read += len(row.lines)
            last_line = max([last_line, *row.lines[-1:].to_pylist()])
            gathered.flush()
            gathered.write(row.lines, row.columns)
            continue
        num_read += 1
        line, fields = row
        last_line = max(last_line, line)
        if isinstance(fields, str):
            staged.rejects.append(Reject(path, line, "", fields))
            if fields == HEADER_AGAIN:
                staged.headers[path] = staged.headers.get(path, 0) + 1
        else:
            gathered.append(line, fields)
    gathered.flush()
    return num_read, last_line


class _RowBuffer:
    """Buffer for single rows until there are enough to write."""

    def __init__(self, number: int, places: list[int], rules: list[FieldRule], there: list[bool],
                 writer: _Writer) -> None:
        self.number, self.places, self.rules, self.there, self.writer = number, places, rules, there, writer
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
        """Write the buffered rows."""
        if self.rows:
            columns = [pa.array([row[place] for row in self.rows], pa.string()) for place in self.places]
            self.write(pa.array(self.lines, pa.int64()), columns)
        self.lines, self.rows, self.size = [], [], 0

    def write(self, lines: pa.Array, columns: list[pa.Array]) -> None:
        """Write columns without buffering."""
        present = (rule.applied(column) for rule, column in zip(self.rules, columns, strict=True))
        self.writer.write(self.number, lines, [next(present) if is_there else None for is_there in self.there])


def _copy_parquet(number: int, file: RawFile, parquet: pq.ParquetFile, names: list[str], writer: _Writer) -> int:
    """Write the rows of a Parquet file as text and return their number."""
    theirs = {name: parquet.schema_arrow.names[place] for name, place in file.places.items()}
    num_read = 0
    for batch in parquet_batches(file.source, parquet, list(theirs.values())):
        lines = pa.array(range(num_read + 1, num_read + 1 + len(batch)), pa.int64())
        writer.write(number, lines, [batch.column(theirs[name]) if name in theirs else None for name in names])
        num_read += len(batch)
    return num_read
