"""Reader of delimited files such as CSV and TSV: every field is text, and rows that do not fit the header are rejected.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import csv_blocks
from llmrec_cli.ingest.readers.csv_blocks import Block, Dialect
from llmrec_cli.ingest.readers.lines import LONGEST, blocks
from llmrec_cli.ingest.readers.nested import Records
from llmrec_cli.ingest.readers.sniffing import DELIMITERS, with_format
from llmrec_cli.ingest.readers.sources import Record, Source

csv.field_size_limit(LONGEST)
_ESCAPED = reasons.ESCAPED_QUOTE.removeprefix("{reason}")
_MOST_LINES = 100_000
"""Most lines of one row; more means that a quote was never closed."""
LARGE, SMALL = 1 << 22, 1 << 16
"""Bytes parsed at once by the fast parser, and bytes read by the exact reader around unusual syntax."""


@dataclass
class DelimitedFile:
    """An opened delimited file: the names of its columns, and its unread rows."""

    names: list[str]
    rest: "_Rest"
    dialect: Dialect
    source: Source

    def rows(self, places: list[int]) -> Iterator[Block | Record]:
        """Yield blocks of rows with the fields at `places`, and single rows with all fields or the reason to reject it.

        The result is the same as reading row by row, several times as fast. A repeated header is a bad row. Raises
        DataError for a repeated header with its columns in another order, since the rows after it are too.
        """
        size, rest = LARGE, self.rest
        while block := rest.block(size):
            first = rest.next_line
            parsed = csv_blocks.parse(block, self.dialect, len(self.names), places)
            if parsed is not None:
                yield from self._without_headers(Block(pa.array(parsed.lines + first, pa.int64()), parsed.columns),
                                                 places)
                apart = _Rest(iter([parsed.apart]))
                for line, fields in _records(apart, self.dialect, len(self.names)):
                    yield self._checked(first + parsed.apart_lines[line - 1], fields)
                rest.skip(parsed.num_bytes, parsed.num_lines)
                size = min(LARGE, 2 * size)
            elif size > SMALL:
                size = SMALL
            else:
                num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
                for line, fields in _records(rest, self.dialect, len(self.names), first + num_lines):
                    yield self._checked(line, fields)

    def records(self) -> Records:
        """Yield the rows one by one, as column name -> field, or the reason why a row is bad."""
        for row in self.rows(list(range(len(self.names)))):
            if not isinstance(row, Block):
                yield row[0], row[1] if isinstance(row[1], str) else dict(zip(self.names, row[1], strict=True))
                continue
            for line, *fields in zip(row.lines.to_pylist(), *(c.to_pylist() for c in row.columns), strict=True):
                yield line, dict(zip(self.names, fields, strict=True))

    def _without_headers(self, block: Block, places: list[int]) -> Iterator[Block | Record]:
        """Yield the block without repeated headers, and each repeated header as a bad row."""
        names = pa.array([written for name in map(_plain, self.names)
                          for written in (name, f"\ufeff{name}", f" {name}")], pa.string())
        # Hardly any block has a column name in its first column, so only that column is checked first; ASCII lowering
        # takes an eighth of the time.
        lower = pc.ascii_lower if all(name.isascii() for name in self.names) else pc.utf8_lower
        suspicious = pc.is_in(lower(block.columns[0]), names) if block.columns else \
            pa.array([False] * len(block.lines))
        if not pc.any(suspicious).as_py():
            yield block
            return
        for column in block.columns[1:]:
            suspicious = pc.and_(suspicious, pc.is_in(pc.utf8_lower(pc.utf8_trim(column, " \ufeff")), names))
        wanted = [self.names[place] for place in places]
        left_out = []
        for row in pc.indices_nonzero(suspicious).to_pylist():
            line = block.lines[row].as_py()
            if reason := self._header([column[row].as_py() for column in block.columns], wanted, line):
                left_out.append(row)
                yield line, reason
        is_row = pc.invert(pc.is_in(pa.array(range(len(block.lines))), pa.array(left_out, pa.int64())))
        yield Block(block.lines.filter(is_row), [column.filter(is_row) for column in block.columns])

    def _checked(self, line: int, fields: list[str] | str) -> Record:
        """Return a row, or the reason why it is bad."""
        if isinstance(fields, list):
            return line, self._header(fields, self.names, line) or fields
        if self.source.format_key and not self.dialect.escape and fields.endswith(_ESCAPED):
            fields = reasons.ESCAPED_QUOTE_ADVICE.format(reason=fields, key=self.source.format_key, escape="\\")
        return line, fields

    def _header(self, fields: list[str], names: list[str], line: int) -> str:
        """Return HEADER_AGAIN if `fields` are `names` in any case, "" if they are a row.

        Raises DataError if `fields` are distinct column names in another order than `names`.
        """
        names_ = [_plain(field.strip("\ufeff " + self.dialect.quote)) for field in fields]
        everything = list(map(_plain, self.names))
        if names_[0] not in everything:
            return ""
        if names_ == list(map(_plain, names)):
            return reasons.HEADER_AGAIN
        if len(names_) > 1 and len(set(names_)) == len(names_) and set(names_) <= set(everything):
            raise DataError(f"{self.source.path}: line {line}: repeats the header with the columns in another order, "
                            f"which the rows after it have too; split the file there, and name both files")
        return ""


def _plain(name: str) -> str:
    """Return a column name for comparison, since a repeated header may be in another case."""
    return name.lower()


def open_delimited(source: Source) -> DelimitedFile:
    """Read the header. Raises DataError if the file is empty, or if it has a header although settings name columns."""
    source = with_format(source)
    detected = source.text_format
    assert detected is not None
    rest = _Rest(blocks(source))
    for _ in range(detected.skip_rows):
        next(rest, None)
    rest.consumed.clear()
    dialect = Dialect(detected.delimiter, detected.quote, detected.escape)
    first = next(rest, None)
    while first is not None and (not first.strip() or dialect.is_empty_row(first)):
        first = next(rest, None)
    if first is None:
        raise DataError(f"{source.path}: is empty; it needs a header and rows")
    rest.back([first])
    if source.names is not None:
        if [name.strip().strip(detected.quote) for name in first.split(dialect.delimiter)] == list(source.names):
            raise DataError(f"{source.path}: line 1 is a header with the column names of the settings; remove "
                            f"dataset.header (or item_header, user_header), which is for files without a header")
        return DelimitedFile(list(source.names), rest, dialect, source)
    line, header = next(_records(rest, dialect, None))
    if isinstance(header, str):
        raise DataError(f"{source.path}: line {line}: the header has {header.removesuffix(_ESCAPED)}; "
                        f"{_header_remedy(source, dialect, first)}")
    while len(header) > 1 and not header[-1]:
        header.pop()
    names = [name.strip() or f"column{n}" for n, name in enumerate(header, start=1)]
    return DelimitedFile(names, rest, dialect, source)


def _header_remedy(source: Source, dialect: Dialect, header: str) -> str:
    """Return the remedy for an unreadable header, which most often uses another delimiter."""
    if not source.format_key:
        return "repair it"
    for delimiter in DELIMITERS:
        quoted = header.strip().split(f"{dialect.quote}{delimiter}{dialect.quote}") if dialect.quote else []
        if delimiter != dialect.delimiter and len(quoted) > 1:
            written = delimiter.replace("\t", "\\t")
            return f"its delimiter is '{written}', so set {source.format_key}.delimiter='{written}'"
    return f"repair it or set {source.format_key}.quote"


class _Rest:
    """The unread rest of a file, read by blocks or by lines, which can be put back; counts line numbers."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block, self._place = b"", 0
        self._back: list[str] = []
        """Lines before the block, the next one last."""
        self.consumed: list[str] = []
        self.next_line = 1

    def __iter__(self) -> "_Rest":
        return self

    def __next__(self) -> str:
        if not self._back:
            some = self.block(SMALL)
            self._place += len(some)
            *whole, last = some.decode().split("\n")
            self._back = ([line + "\n" for line in whole] + [last] * bool(last))[::-1]
        if not self._back:
            raise StopIteration
        self.next_line += 1
        self.consumed.append(self._back.pop())
        if len(self.consumed) > _MOST_LINES:
            raise _Unclosed
        return self.consumed[-1]

    def back(self, lines_: list[str]) -> None:
        """Put lines back, to be read again in the same order."""
        self._back += reversed(lines_)
        self.next_line -= len(lines_)
        self.consumed.clear()

    def block(self, size: int) -> bytes:
        """Return whole lines of about `size` bytes, at least one, without consuming them; b"" at the end."""
        if self._back:
            self._block = "".join(reversed(self._back)).encode() + self._block[self._place:]
            self._back, self._place = [], 0
        while self._place == len(self._block):
            self._block, self._place = next(self._blocks, None) or b"", 0
            if not self._block:
                return b""
        end = self._place + size
        cut = self._block.rfind(b"\n", self._place, end) + 1 or self._block.find(b"\n", end) + 1
        return self._block[self._place:cut if end < len(self._block) and cut else len(self._block)]

    def skip(self, num_bytes: int, num_lines: int) -> None:
        """Consume the beginning of the result of `block`."""
        self._place += num_bytes
        self.next_line += num_lines


class _Unclosed(Exception):
    """Raised for a quoted field with too many lines."""


def _records(rest: _Rest, dialect: Dialect, width: int | None,
             until: int | None = None) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the rows that begin before line `until`.

    Blank lines and empty rows are skipped. One extra empty field is dropped, since many tools end their lines with a
    delimiter. If a row of several lines is
    bad, its first line has a stray or unclosed quote: only that line is rejected, and reading continues with the next.
    """
    lines: Iterator[str] = rest
    if dialect.escape:
        # A field \\N is MySQL's null, not the letter N.
        escape, edge = re.escape(dialect.escape), re.escape(dialect.delimiter)
        null = re.compile(rf"(?:(?<=^)|(?<={edge})){escape}N(?={edge}|\r?\n?$)")
        lines = (null.sub("", line) for line in rest)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE

    def reader() -> "Iterator[list[str]]":
        return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote or None, quoting=quoting,
                          escapechar=dialect.escape or None, strict=True)

    rows = reader()
    while until is None or rest.next_line < until:
        rest.consumed.clear()
        first = rest.next_line
        try:
            fields: list[str] | str = next(rows)
        except StopIteration:
            return
        except (csv.Error, _Unclosed) as error:
            fields = reasons.RETURN_IN_FIELD if "new-line" in str(error) else reasons.BAD_QUOTE
        if isinstance(fields, list):
            if not fields or (not any(fields) and dialect.is_empty_row(rest.consumed[0])):
                continue
            if width is None or len(fields) == width:
                yield first, fields
                continue
            if len(fields) == width + 1 and not fields[-1]:
                fields.pop()
                yield first, fields
                continue
            fields = reasons.FIELDS.format(num=len(fields), width=width)
        hint = _ESCAPED if not dialect.escape and dialect.quote and f"\\{dialect.quote}" in rest.consumed[0] else ""
        if len(rest.consumed) > 1:
            rest.back(rest.consumed[1:])
            rows = reader()
        yield first, fields + hint
