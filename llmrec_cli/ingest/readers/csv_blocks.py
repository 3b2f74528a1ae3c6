"""Fast parsing of CSV blocks without unusual syntax; the exact reader parses all other blocks."""

import csv
import io
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from llmrec_cli.ingest.readers.lines import LONGEST, UTF8_BOM

MOST_LINES = 1000
"""Most lines of a quoted field here; the exact reader allows more."""
_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True)
class Block:
    """Many good rows: the first line of each (int64), and the wanted columns as strings."""

    lines: pa.Array
    columns: list[pa.Array]


@dataclass(frozen=True)
class Dialect:
    """Characters of a delimited file: `delimiter`, and `quote` and `escape`, which may be empty."""

    delimiter: str
    quote: str
    escape: str = ""

    @property
    def is_plain(self) -> bool:
        """True if pyarrow can read this dialect."""
        both = self.delimiter + self.quote
        return both.isascii() and not set(both) & {"\r", "\n", "\0"} and self.delimiter != self.quote

    def is_empty_row(self, line: str) -> bool:
        """Return True for a line of nothing but delimiters, as spreadsheets write empty rows: `;;;` and `"";""`."""
        return bool(re.fullmatch(f"{_empty_row(self)}\r?\n?", line))


@cache
def _empty_row(dialect: Dialect) -> str:
    """Return a pattern of two or more empty fields."""
    field = f"(?:{re.escape(2 * dialect.quote)})?" if dialect.quote else ""
    return f"{field}(?:{re.escape(dialect.delimiter)}{field})+"


@dataclass(frozen=True)
class ParsedBlock:
    """Rows of a block.

    Attributes
    ----------
    lines : first line of each row, counted from 0 at the start of the block
    columns : texts of each wanted column
    apart, apart_lines : rows of one line whose number of fields is wrong, and their lines
    num_bytes, num_lines : size of the parsed part of the block; an unfinished last row is left over
    """

    lines: np.ndarray
    columns: list[pa.Array]
    apart: bytes
    apart_lines: list[int]
    num_bytes: int
    num_lines: int


def parse(block: bytes, dialect: Dialect, width: int, places: list[int]) -> ParsedBlock | None:
    """Return the rows of a block of whole lines with the fields at `places`, or None for unusual syntax.

    Unusual are quotes inside a field, carriage returns inside a line, zero bytes, blank lines, empty rows and escapes.
    For such blocks the reader of the standard library is authoritative.
    """
    if dialect.escape and dialect.escape.encode() in block:
        return None
    if not dialect.is_plain or len(block) > LONGEST or block.startswith(UTF8_BOM) or b"\0" in block:
        return None
    returns = block.count(b"\r")
    if returns != (block.count(b"\r\n") if returns else 0):
        return None
    if block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or (returns and b"\n\r\n" in block):
        return None
    if _has_empty_row(block, dialect):
        return None
    rows = _rows(block, dialect)
    return None if rows is None else _fields(block[:rows[0][-1]], rows, dialect, width, places)


def _has_empty_row(block: bytes, dialect: Dialect) -> bool:
    """Return True if a line of the block, which may be inside a quoted field, is an empty row."""
    # Hardly any block has a line with an empty first field, and the search for one takes no time.
    starts = [dialect.delimiter, *([f"{2 * dialect.quote}{dialect.delimiter}"] if dialect.quote else [])]
    return (any(block.startswith(start) or b"\n" + start in block for start in map(str.encode, starts))
            and re.search(rb"(?:\A|\n)" + _empty_row(dialect).encode() + rb"\r?(?:\n|\Z)", block) is not None)


def _rows(block: bytes, dialect: Dialect) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the starts of all rows and the end of the last, in bytes and in lines; None for unusual quotes."""
    codes = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(codes == _NEWLINE)
    inside = np.zeros(len(ends), bool)
    is_whole = block.endswith(b"\n")
    if dialect.quote and dialect.quote.encode() in block:
        quotes = np.flatnonzero(codes == ord(dialect.quote))
        if not _at_edges(codes, quotes, dialect):
            return None
        inside = np.searchsorted(quotes, ends) % 2 == 1
        if bool((codes[ends[inside] - 1] == _RETURN).any()):
            return None
        is_whole = is_whole or len(quotes) % 2 == 1
    lines = np.concatenate([[0], np.flatnonzero(~inside) + 1])
    starts = np.concatenate([[0], ends[~inside] + 1])
    if not is_whole:
        lines, starts = np.append(lines, len(ends) + 1), np.append(starts, len(block))
    return (starts, lines) if len(starts) > 1 and int(np.diff(lines).max()) <= MOST_LINES else None


def _at_edges(codes: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> bool:
    """Return True if quotes alternately open and close a field; a doubled quote counts as closing and opening."""
    edges = [ord(dialect.delimiter), _NEWLINE, ord(dialect.quote)]
    opening, closing = quotes[0::2], quotes[1::2]
    before = codes[opening[opening > 0] - 1]
    after = codes[closing[closing < len(codes) - 1] + 1]
    return bool(np.isin(before, edges).all() and np.isin(after, [*edges, _RETURN]).all())


def _fields(block: bytes, rows: tuple[np.ndarray, np.ndarray], dialect: Dialect, width: int,
            places: list[int]) -> ParsedBlock | None:
    starts, lines = rows
    has_extra = _first_has_extra(block[:starts[1]], dialect, width)
    apart: list[int] = []

    def set_apart(row: pa.csv.InvalidRow) -> str:
        apart.append(row.number - 1)
        return "skip"

    names = [str(n) for n in range(width + has_extra)]
    wanted = [str(place) for place in places] + [str(width)] * has_extra
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(block),
            pa.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            pa.csv.ParseOptions(delimiter=dialect.delimiter, quote_char=dialect.quote or False,
                                newlines_in_values=int(lines[-1]) >= len(lines),
                                invalid_row_handler=set_apart),
            pa.csv.ConvertOptions(check_utf8=False, column_types=dict.fromkeys(names, pa.string()),
                                  include_columns=wanted, null_values=[], strings_can_be_null=False))
    except pa.ArrowInvalid:
        return None
    regular = np.delete(np.arange(len(lines) - 1), apart)
    if len(table) != len(regular):
        return None
    if has_extra:
        is_empty = pc.equal(pc.binary_length(table[str(width)]), 0)
        regular, table = regular[is_empty.to_numpy()], table.filter(is_empty)
    others = np.delete(np.arange(len(lines) - 1), regular)
    if (np.diff(lines)[others] > 1).any():
        return None
    return ParsedBlock(lines[regular], [table[str(place)].combine_chunks() for place in places],
                  b"".join(block[starts[n]:starts[n + 1]] for n in others), lines[others].tolist(),
                  int(starts[-1]), int(lines[-1]))


def _first_has_extra(row: bytes, dialect: Dialect, width: int) -> bool:
    """Return True if the row has one extra empty field, since many tools end every line with a delimiter."""
    fields = next(csv.reader(io.StringIO(row.decode(), newline="\n"), delimiter=dialect.delimiter,
                             quotechar=dialect.quote or None,
                             quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE))
    return len(fields) == width + 1 and not fields[-1]
