"""Files for `recommend`: queries, new items and users, candidates. They are read whole; any bad row is an error.

The readers are those of `prepare`: CSV, TSV, JSONL and Parquet, plain, .gz or .zst. Ids are always text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmrec_cli.atomic_files import temporary_folder
from llmrec_cli.data.file_rules import FileRules
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.settings.base import nearest

_OTHERWISE = {"queries": "name a file, or write queries=all for all users or groups"}
"""Advice for a setting whose file does not exist."""


@dataclass(frozen=True)
class Rows:
    """The rows of one or more files of the same kind.

    Attributes
    ----------
    paths : the files; `file` (index into paths) and `line` locate each row
    columns : name -> its values, None where a row has none
    prepared_names : our name of a column -> the name that it had in the prepared files
    """

    paths: list[Path]
    file: list[int]
    line: list[int]
    columns: dict[str, list[str | None]]
    prepared_names: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.line)

    def take(self, places: Sequence[int]) -> "Rows":
        """Return the rows at these places."""
        return replace(self, file=[self.file[n] for n in places], line=[self.line[n] for n in places],
                       columns={name: [values[n] for n in places] for name, values in self.columns.items()})

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.paths[self.file[row]]}: line {self.line[row]}"

    def refuse_unused(self, key: str, used: Sequence[str], remedy: str) -> None:
        """Raise DataError with the first column that is not in `used` and so has no effect."""
        for name in self.columns:
            if name not in used:
                raise DataError(f"{self.paths[0]}: the column '{name}' has no effect in {key}="
                                f"{nearest(name, used)}; {remedy}")

    def texts(self, column: str) -> list[str]:
        """Return a column with "" for missing values, also if the whole column is missing."""
        return [value or "" for value in self.columns.get(column, [None] * len(self))]

    def ids(self, column: str) -> list[str]:
        """Return a column of unique, non-empty ids, or raise DataError with the row."""
        values = self.filled(column)
        self.refuse_repeated(values, column, "name it once")
        return values

    def filled(self, column: str) -> list[str]:
        """Return a column in which every row has a value, or raise DataError with the first empty row."""
        if column not in self.columns:
            before = self.prepared_names.get(column)
            prepared = f", nor '{before}' as in the prepared files" if before else ""
            raise DataError(f"{self.paths[0]}: no column '{column}'{prepared}; there are {', '.join(self.columns)}; "
                            f"rename the "
                            f"column that holds it{nearest(column, self.columns)}")
        values = self.texts(column)
        for row, value in enumerate(values):
            if not value:
                raise DataError(f"{self.where(row)}: {column} is empty; every row needs one")
        return values

    def refuse_repeated(self, values: list[str], column: str, remedy: str) -> None:
        """Raise DataError for the first of `values`, one per row, that repeats an earlier row."""
        if len(set(values)) == len(values):
            return
        first: dict[str, int] = {}
        for row, value in enumerate(values):
            if first.setdefault(value, row) != row:
                raise DataError(f"{self.where(row)}: {column} '{value}' is also in line {self.line[first[value]]}; "
                                f"{remedy}")


def read_rows(pattern: str, key: str, ours: tuple[str, ...], inside: tuple[str, ...] = (),
              rules: Sequence[FileRules] = (), mapped: Sequence[str] | None = None) -> Rows:
    """Read the rows of the file, or the files of a pattern, in the setting `key`.

    Columns in `ours` come first, then all others, then the paths `inside` arrays and objects. `rules` say how `prepare`
    read its files, and `mapped` which columns may have the names of these files (`prepared_format`).
    """
    # Only here: DuckDB and ibis take half a second to load, and a query on the command line needs no file.
    import pyarrow.parquet as pq

    from llmrec_cli.ingest.output.row_accounting import print_sentence
    from llmrec_cli.ingest.readers.rejects import SHOWN
    from llmrec_cli.ingest.readers.staging import stage
    from llmrec_cli.requests.prepared_format import prepared_format

    paths = find(pattern, key, otherwise=_OTHERWISE.get(key, ""))
    formats = [prepared_format(path, rules, ours, mapped, inside) for path in paths]
    for note in dict.fromkeys(note for one in formats for note in one.notes):
        print_sentence(note)
    with temporary_folder() as folder:
        staged = stage([one.source for one in formats], folder / "rows.parquet", (), ours, rest=True)
        if staged.rejects:
            first = [reject for path in paths for reject in staged.rejects.first(str(path))][:SHOWN]
            examples = "\n".join(f"  {r.file}: line {r.line}: {r.reason}" for r in first)
            size = sum(staged.num_read)
            raise DataError(f"{key}={pattern}: {len(staged.rejects):,} of {size:,} rows cannot be read; repair them. "
                            f"The first:\n{examples}")
        for note in staged.notes:
            print_sentence(note)
        table = pq.read_table(staged.path).sort_by([("file", "ascending"), ("line", "ascending")])
    columns = {name: table[f"c{n}"].to_pylist() for n, name in enumerate(staged.names)}
    names = {ours: theirs for one in rules for ours, theirs in one.columns.items()}
    return Rows(paths, table["file"].to_pylist(), table["line"].to_pylist(), columns, names)


def line_of(pattern: str, key: str, columns: tuple[str, ...], value: str, rules: Sequence[FileRules] = ()) -> str:
    """Return file and line, for an error message, of the first row that has the id `value` in one of `columns`.

    The field may be the id alone or a list that contains it. In a .txt file, the first line with the id is returned.
    """
    from llmrec_cli.ingest.readers.lines import lines

    paths = find(pattern, key)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        for path in paths:
            for number, line in enumerate(lines(Source(path, columns_key="")), 1):
                if value == line.rstrip("\r\n") or value in line.split():
                    return f"{path}: line {number}"
    rows = read_rows(pattern, key, columns, rules=rules)
    for row in range(len(rows)):
        for column in columns:
            text = rows.texts(column)[row]
            if text == value or value in text.split() or f'"{value}"' in text:
                return rows.where(row)
    return pattern


def read_ids(pattern: str, key: str, column: str) -> list[str]:
    """Return the ids in a file: its column `column`, or one id a line in a .txt file."""
    from llmrec_cli.ingest.readers.lines import lines

    paths = find(pattern, key)
    if not all(".txt" in path.suffixes[-2:] for path in paths):
        return read_rows(pattern, key, (column,)).ids(column)
    ids = [text for path in paths for line in lines(Source(path, columns_key="")) if (text := line.rstrip("\r\n"))]
    if not ids:
        raise DataError(f"{key}={pattern}: is empty; it needs one {column} a line")
    return ids
