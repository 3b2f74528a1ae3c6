"""Files that are given beside a model: queries, new items and users, candidates. Read whole, any bad row refused.

The readers are those of `prepare`: CSV, TSV, JSONL and Parquet, plain, .gz or .zst; ids are text, whatever they look
like.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from llmrec_cli.atomic_files import temporary_folder
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.output.row_accounting import print_sentence
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.rejects import SHOWN
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.settings.base import nearest


@dataclass(frozen=True)
class Rows:
    """The rows of one or more files of the same kind.

    Attributes
    ----------
    paths : the files; `file` and `line` say of each row which one it is in, and where
    columns : name -> its values, None where a row has none
    """

    paths: list[Path]
    file: list[int]
    line: list[int]
    columns: dict[str, list[str | None]]

    def __len__(self) -> int:
        return len(self.line)

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.paths[self.file[row]]}: line {self.line[row]}"

    def refuse_unused(self, key: str, used: Sequence[str], remedy: str) -> None:
        """Raise DataError naming the first column that has no effect: one that is not among those that are `used`."""
        for name in self.columns:
            if name not in used:
                raise DataError(f"{self.paths[0]}: the column '{name}' has no effect in {key}="
                                f"{nearest(name, used)}; {remedy}")

    def texts(self, column: str) -> list[str]:
        """Return a column with "" for what is missing, also where the whole column is."""
        return [value or "" for value in self.columns.get(column, [None] * len(self))]

    def ids(self, column: str) -> list[str]:
        """Return a column of ids, each there and there once, or raise DataError naming the row."""
        values = self.filled(column)
        self.refuse_repeated(values, column, "name it once")
        return values

    def filled(self, column: str) -> list[str]:
        """Return a column that every row needs, or raise DataError naming the row without it."""
        if column not in self.columns:
            raise DataError(f"{self.paths[0]}: no column '{column}'; there are {', '.join(self.columns)}; rename the "
                            f"column that holds it{nearest(column, self.columns)}")
        values = self.texts(column)
        for row, value in enumerate(values):
            if not value:
                raise DataError(f"{self.where(row)}: {column} is empty; every row needs one")
        return values

    def refuse_repeated(self, values: list[str], column: str, remedy: str) -> None:
        """Raise DataError for the first of `values`, one per row, that an earlier row has too."""
        if len(set(values)) == len(values):
            return
        first: dict[str, int] = {}
        for row, value in enumerate(values):
            if first.setdefault(value, row) != row:
                raise DataError(f"{self.where(row)}: {column} '{value}' is also in line {self.line[first[value]]}; "
                                f"{remedy}")


def read_rows(named: str, key: str, ours: tuple[str, ...], inside: tuple[str, ...] = ()) -> Rows:
    """Return the rows of the file, or the files of the pattern, that the setting `key` names.

    `ours` are the columns that come first where they are there; all others follow, and the paths `inside` arrays and
    objects.
    """
    paths = find(named, key)
    with temporary_folder() as folder:
        staged = stage([_source(path, inside) for path in paths], folder / "rows.parquet", (), ours, rest=True)
        if staged.rejects:
            first = [reject for path in paths for reject in staged.rejects.first(str(path))][:SHOWN]
            shown = "\n".join(f"  {r.file}: line {r.line}: {r.reason}" for r in first)
            size = sum(staged.num_read)
            raise DataError(f"{key}={named}: {len(staged.rejects):,} of {size:,} rows cannot be read; repair them. "
                            f"The first:\n{shown}")
        for note in staged.notes:
            print_sentence(note)
        table = pq.read_table(staged.path).sort_by([("file", "ascending"), ("line", "ascending")])
    columns = {name: table[f"c{n}"].to_pylist() for n, name in enumerate(staged.names)}
    return Rows(paths, table["file"].to_pylist(), table["line"].to_pylist(), columns)


def _source(path: Path, inside: tuple[str, ...] = ()) -> Source:
    return Source(path, columns_key="", paths=inside)  # There is no setting by which a column could be mapped.


def line_of(named: str, key: str, columns: tuple[str, ...], value: str) -> str:
    """Return file and line of the first row that names an id in one of `columns`, for an error; by itself or in a list.

    In a .txt file it is the first line with it.
    """
    paths = find(named, key)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        for path in paths:
            for number, line in enumerate(lines(_source(path)), 1):
                if value == line.rstrip("\r\n") or value in line.split():
                    return f"{path}: line {number}"
    rows = read_rows(named, key, columns)
    for row in range(len(rows)):
        for column in columns:
            text = rows.texts(column)[row]
            if text == value or value in text.split() or f'"{value}"' in text:
                return rows.where(row)
    return named


def read_ids(named: str, key: str, column: str) -> list[str]:
    """Return the ids in a file: its column `column`, or one id a line in a .txt file."""
    paths = find(named, key)
    if not all(".txt" in path.suffixes[-2:] for path in paths):
        return read_rows(named, key, (column,)).ids(column)
    ids = [stripped for path in paths for line in lines(_source(path)) if (stripped := line.rstrip("\r\n"))]
    if not ids:
        raise DataError(f"{key}={named}: is empty; it needs one {column} a line")
    return ids
