"""CSV, TSV and their relatives: every field is text, and a row that does not fit the header is named, not bent."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import csv_blocks
from llmrec_cli.ingest.readers.csv_blocks import Block, Dialect
from llmrec_cli.ingest.readers.lines import LONGEST, blocks
from llmrec_cli.ingest.readers.nested import Records
from llmrec_cli.ingest.readers.sources import Record, Source

csv.field_size_limit(LONGEST)
_BAD_QUOTE = "a quote that is misplaced or never closed"
HEADER_AGAIN = "is the header again"
"""Reason for leaving out a header that is repeated in a file, as joined files have it; no fault of the data."""
_ESCAPED = " (it has a \\ before a quote)"
_DIVIDERS = (",", "\t", ";", "|")
_MOST_LINES = 100_000
"""Lines one row may span; more means that a quote was never closed."""
LARGE, SMALL = 1 << 22, 1 << 16
"""Bytes that are parsed at once, and those around something odd that are read exactly."""


@dataclass
class DelimitedFile:
    """A file whose header has been read: the names of its columns, and its rows still to come."""

    names: list[str]
    rest: "_Rest"
    dialect: Dialect
    source: Source

    def rows(self, places: list[int]) -> Iterator[Block | Record]:
        """Yield the rows: many at once with the fields at `places`, or one with all fields, or why it is bad.

        Several times as fast as row by row, and the same. A row that is the header again is bad. Raises DataError for
        a header whose columns are in another order, since all rows after it are.
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
        """Yield the rows one by one, as name of the column -> field, or why one is bad."""
        for row in self.rows(list(range(len(self.names)))):
            if not isinstance(row, Block):
                yield row[0], row[1] if isinstance(row[1], str) else dict(zip(self.names, row[1], strict=True))
                continue
            for line, *fields in zip(row.lines.to_pylist(), *(c.to_pylist() for c in row.columns), strict=True):
                yield line, dict(zip(self.names, fields, strict=True))

    def _without_headers(self, block: Block, places: list[int]) -> Iterator[Block | Record]:
        """Yield a block without the rows whose fields are all names of columns, and those one by one."""
        names = pa.array([written for name in map(_plain, self.names)
                          for written in (name, f"\ufeff{name}", f" {name}")], pa.string())
        # Hardly any block has such a field in its first column, so that no more than that is looked at, and in the way
        # that costs an eighth where it is enough.
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
        kept = pc.invert(pc.is_in(pa.array(range(len(block.lines))), pa.array(left_out, pa.int64())))
        yield Block(block.lines.filter(kept), [column.filter(kept) for column in block.columns])

    def _checked(self, line: int, fields: list[str] | str) -> Record:
        """Return a row as it is, or why it is bad."""
        if isinstance(fields, list):
            return line, self._header(fields, self.names, line) or fields
        if self.source.columns_key and not self.dialect.escape and fields.endswith(_ESCAPED):
            fields += "; if \\\" is a quote inside quotes, set dataset.escape='\\'"
        return line, fields

    def _header(self, fields: list[str], names: list[str], line: int) -> str:
        """Return HEADER_AGAIN when `fields` are `names` in any case, "" when they are a row.

        Raises DataError for other columns of the file, all different, where `names` should be: another order.
        """
        found = [_plain(field.strip("\ufeff " + self.dialect.quote)) for field in fields]
        everything = list(map(_plain, self.names))
        if found[0] not in everything:
            return ""
        if found == list(map(_plain, names)):
            return HEADER_AGAIN
        if len(found) > 1 and len(set(found)) == len(found) and set(found) <= set(everything):
            raise DataError(f"{self.source.path}: line {line}: has the header again with its columns in another order, "
                            f"so the rows after it are not of this header; split the file there, and name both files")
        return ""


def _plain(name: str) -> str:
    """Return a name of a column as it is compared, for the same header may come in another case."""
    return name.lower()


def open_delimited(source: Source) -> DelimitedFile:
    """Read the header. Raises DataError when the file is empty, or has a header and is said to have none."""
    found = _Rest(blocks(source))
    first = next(found, None)
    while first is not None and not first.strip():
        first = next(found, None)
    if first is None:
        raise DataError(f"{source.path}: is empty; it needs a header and rows")
    dialect = Dialect(source.named_delimiter or _sniff(first), source.quote, source.escape)
    found.back([first])
    if source.names is not None:
        if [name.strip().strip(source.quote) for name in first.split(dialect.delimiter)] == list(source.names):
            raise DataError(f"{source.path}: line 1 has the names that its columns are given, so it is a header and no "
                            f"row; leave out the setting that gives them, dataset.header or its like")
        return DelimitedFile(list(source.names), found, dialect, source)
    line, header = next(_records(found, dialect, None))
    if isinstance(header, str):
        raise DataError(f"{source.path}: line {line}: the header has {header.removesuffix(_ESCAPED)}; "
                        f"{_header_remedy(source, dialect, first)}")
    while len(header) > 1 and not header[-1]:
        header.pop()
    names = [name.strip() or f"column{n}" for n, name in enumerate(header, start=1)]
    return DelimitedFile(names, found, dialect, source)


def _header_remedy(source: Source, dialect: Dialect, header: str) -> str:
    """Return what to do about a header that cannot be read: most often its fields are divided by something else."""
    if not source.columns_key:
        return "repair it"
    for delimiter in _DIVIDERS:
        quoted = header.strip().split(f"{dialect.quote}{delimiter}{dialect.quote}") if dialect.quote else []
        if delimiter != dialect.delimiter and len(quoted) > 1:
            shown = delimiter.replace("\t", "\\t")
            return f"'{shown}' divides it, so set dataset.delimiter='{shown}'"
    return "repair it or set dataset.quote"


def _sniff(header: str) -> str:
    counts = {d: header.count(d) for d in _DIVIDERS}
    return max(counts, key=lambda d: counts[d])


class _Rest:
    """The unread rest of a file, by blocks or by lines, which can be put back; and the next line's number."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block, self._place = b"", 0
        self._back: list[str] = []
        """Lines in front of the block, the next one last."""
        self.taken: list[str] = []
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
        self.taken.append(self._back.pop())
        if len(self.taken) > _MOST_LINES:
            raise _Unclosed
        return self.taken[-1]

    def back(self, given: list[str]) -> None:
        """Give lines back, to be read again in the same order."""
        self._back += reversed(given)
        self.next_line -= len(given)
        self.taken.clear()

    def block(self, size: int) -> bytes:
        """Return whole lines of about `size` bytes, at least one, without taking them; b"" at the end."""
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
        """Take the beginning of what `block` returned."""
        self._place += num_bytes
        self.next_line += num_lines


class _Unclosed(Exception):
    """A quoted field went on for too many lines."""


def _records(found: _Rest, dialect: Dialect, width: int | None,
             until: int | None = None) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the rows that begin before line `until`.

    One empty field beyond the width is dropped, for many tools end their lines with a delimiter. When a row that spans
    several lines is bad, a quote in its first line was never meant or never closed: only that line is given up, and
    reading goes on with the next.
    """
    lines: Iterator[str] = found
    if dialect.escape:
        # A field \\N is MySQL's null, and no letter N.
        escape, edge = re.escape(dialect.escape), re.escape(dialect.delimiter)
        null = re.compile(rf"(?:(?<=^)|(?<={edge})){escape}N(?={edge}|\r?\n?$)")
        lines = (null.sub("", line) for line in found)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE

    def reader() -> "Iterator[list[str]]":
        return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote or None, quoting=quoting,
                          escapechar=dialect.escape or None, strict=True)

    rows = reader()
    while until is None or found.next_line < until:
        found.taken.clear()
        first = found.next_line
        try:
            fields: list[str] | str = next(rows)
        except StopIteration:
            return
        except (csv.Error, _Unclosed) as error:
            fields = "a carriage return inside a field" if "new-line" in str(error) else _BAD_QUOTE
        if isinstance(fields, list):
            if not fields:
                continue
            if width is None or len(fields) == width:
                yield first, fields
                continue
            if len(fields) == width + 1 and not fields[-1]:
                fields.pop()
                yield first, fields
                continue
            fields = f"{len(fields)} fields where the header has {width}"
        hint = _ESCAPED if not dialect.escape and dialect.quote and f"\\{dialect.quote}" in found.taken[0] else ""
        if len(found.taken) > 1:
            found.back(found.taken[1:])
            rows = reader()
        yield first, fields + hint
