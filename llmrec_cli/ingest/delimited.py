"""CSV, TSV and their relatives: every field is text, and a row that does not fit the header is named, not bent."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.lines import LONGEST, lines
from llmrec_cli.ingest.sources import Record, Source

csv.field_size_limit(LONGEST)
_BAD_QUOTE = "a quote that is misplaced or never closed"
MOST_LINES = 100_000
"""Lines one row may span; more means that a quote was never closed."""


@dataclass
class DelimitedFile:
    """A file whose header has been read: the names of its columns, and its rows still to come."""

    names: list[str]
    records: Iterator[Record]


def open_delimited(source: Source) -> DelimitedFile:
    """Read the header. Raises DataError when the file is empty."""
    found = _Pushback(lines(source))
    first = next(found, None)
    while first is not None and not first.strip():
        first = next(found, None)
    if first is None:
        raise DataError(f"{source.path}: is empty; it needs a header and rows")
    delimiter = source.named_delimiter or _sniff(first)
    found.back([first])
    if source.names is not None:
        return DelimitedFile(list(source.names), _records(found, delimiter, source.quote, len(source.names)))
    line, header = next(_records(found, delimiter, source.quote, None))
    if isinstance(header, str):
        raise DataError(f"{source.path}: line {line}: the header has {header}; repair it or set dataset.quote")
    while len(header) > 1 and not header[-1]:
        header.pop()
    names = [name.strip() or f"column{n}" for n, name in enumerate(header, start=1)]
    return DelimitedFile(names, _records(found, delimiter, source.quote, len(names)))


def _sniff(header: str) -> str:
    counts = {d: header.count(d) for d in (",", "\t", ";", "|")}
    return max(counts, key=lambda d: counts[d])


class _Pushback:
    """Lines that can be given back, and the number of the next one."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._back: list[str] = []
        self.taken: list[str] = []
        self.next_line = 1

    def __iter__(self) -> "_Pushback":
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._source)
        self.next_line += 1
        self.taken.append(line)
        if len(self.taken) > MOST_LINES:
            raise _Unclosed
        return line

    def back(self, given: list[str]) -> None:
        """Give lines back, to be read again in the same order."""
        self._back += reversed(given)
        self.next_line -= len(given)
        self.taken.clear()


class _Unclosed(Exception):
    """A quoted field went on for too many lines."""


def _records(found: _Pushback, delimiter: str, quote: str,
             width: int | None) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the rows. One empty field beyond the width is dropped, for many tools end their lines with a delimiter.

    When a row that spans several lines is bad, a quote in its first line was never meant or never closed: only that
    line is given up, and reading goes on with the next.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    reader = csv.reader(found, delimiter=delimiter, quotechar=quote or None, quoting=quoting, strict=True)
    while True:
        found.taken.clear()
        first = found.next_line
        try:
            fields: list[str] | str = next(reader)
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
        if len(found.taken) > 1:
            found.back(found.taken[1:])
            reader = csv.reader(found, delimiter=delimiter, quotechar=quote or None, quoting=quoting, strict=True)
        yield first, fields
