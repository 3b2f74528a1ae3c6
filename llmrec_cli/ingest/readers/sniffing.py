"""Detection of the format of a text file from its first 256 KiB: what the settings do not give.

Used by every reader of text files. Whatever is detected and unusual is in `TextFormat.detected`, to be printed.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.csv_blocks import Dialect
from llmrec_cli.ingest.readers.encodings import detect_encoding
from llmrec_cli.ingest.readers.lines import UTF8_BOM, read_head
from llmrec_cli.ingest.readers.sources import IDS, OWN, Source, TextFormat
from llmrec_cli.ingest.readers.units import COMMA_NUMBER, bare
from llmrec_cli.settings.formats import FormatSettings

SAMPLE = 1 << 18
"""Bytes of a file that are read to detect its format."""
DELIMITERS = (",", "\t", ";", "|")
_MOST_LINES, _MOST_TITLES, _MOST_BAD = 2000, 20, 50
_SEP = re.compile(r'"?sep=(.)"?[\s,;|]*$', re.IGNORECASE)
"""First line that Excel writes and reads: sep=; names the delimiter."""
_NAMES = {"\t": "tab"}
_COMMA_NUMBER = re.compile(r" *[+-]?([0-9]+|[0-9]{1,3}([.][0-9]{3})+),[0-9]+ *")
_UNIT_NUMBER = re.compile(COMMA_NUMBER)
_THOUSANDS = re.compile(r" *[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+ *")
_INTEGER = re.compile(r" *[+-]?[0-9]+ *")
_NUMERIC = re.compile(r"[+-]?[0-9][0-9.,:/T Z+-]*")
_NULLS, _CLEAR_NULLS = ("\\N", "NULL", "null", "NaN", "nan", "None"), ("\\N", "NULL")
"""Null markers, and those that mean a missing value among texts too."""
_QUOTED_FIELD = re.compile(r'(^|[,;\t|])"[^"\n]*"([,;\t|\r]|$)', re.MULTILINE)
_ESCAPED_QUOTE = '\\"'
Row = tuple[int, list[str]]
"""Line of a row, counted from 0, and its fields."""


@dataclass(frozen=True)
class _Layout:
    """Rows of a sample split by a dialect; the header, if there is one, is the first row."""

    dialect: Dialect
    rows: list[Row]
    skip_rows: int
    num_bad: int
    has_titles: bool = False

    @property
    def width(self) -> int:
        """Number of fields of the first row."""
        return len(self.rows[0][1]) if self.rows else 0

    @property
    def share(self) -> float:
        """Share of rows that have as many fields as the first."""
        fitting = sum(len(fields) == self.width for _, fields in self.rows)
        return fitting / (len(self.rows) + self.num_bad) if self.rows else 0.0


def with_format(source: Source) -> Source:
    """Return the source with its format: that of the settings, and what is missing detected in the file."""
    if source.text_format is not None or source.read is not None or source.format == "parquet":
        return source
    return replace(source, text_format=sniff(source))


def print_detected(source: Source) -> None:
    """Print what was detected in a file, in one line on stderr; nothing if its format is the usual one."""
    if source.text_format is not None and source.text_format.detected:
        line = f"{source.path}: {', '.join(source.text_format.detected)}"
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), file=sys.stderr)


def sniff(source: Source) -> TextFormat:
    """Return the format of a text file. Raises DataError for an uncertain encoding and for files that are not text.

    `source.given` is what the settings give; it is used as it is. Null markers and decimal commas are detected column
    by column; `source.names` are the columns of a file without a header.
    """
    given = source.given
    head = read_head(source, SAMPLE).removeprefix(UTF8_BOM)
    encoding = given.encoding or _encoding(source, head)
    detected = [encoding] if not given.encoding and encoding != "utf-8" else []
    nulls = {"": tuple(given.null)} if given.null is not None else {}
    if source.format == "jsonl":
        return TextFormat(encoding=encoding, nulls=nulls, detected=tuple(detected))
    lines = head.decode(encoding, "replace").split("\n", _MOST_LINES)[:_MOST_LINES]
    layout = _layout(source, [f"{line}\n" for line in (lines if lines[-1] else lines[:-1])])
    dialect = layout.dialect
    names = source.names or (tuple(name.strip() for name in layout.rows[0][1]) if layout.rows else ())
    columns = _columns(layout, names, source.names is None)
    commas = _decimal_commas(given, dialect.delimiter, _without(source, columns, (*IDS, "event")))
    if given.null is None:
        nulls = {name: found for name, values in _without(source, columns, OWN).items() if (found := _nulls_in(values))}
    said = [*_said(source, layout), *detected]
    if commas and not given.decimal:
        said.append(f"decimal comma in {_listed(commas)}")
    if layout.skip_rows and given.skip_rows is None:
        said.append(f"{layout.skip_rows} {'line' if layout.skip_rows == 1 else 'lines'} before the "
                    f"{'header' if source.names is None else 'rows'}")
    said += [f"{'and '.join(f'{text} ' for text in texts)}for a missing value in {name}"
             for name, texts in nulls.items() if name]
    return TextFormat(dialect.delimiter, encoding, dialect.quote, dialect.escape, layout.skip_rows, tuple(commas),
                      nulls, tuple(said))


def _encoding(source: Source, head: bytes) -> str:
    """Return the detected encoding; raises DataError with the candidates if it is uncertain."""
    encoding, candidates = detect_encoding(head)
    if encoding:
        return encoding
    names = ", ".join(candidates)
    remedy = f"set {source.format_key}.encoding={candidates[0]} (or another) if its texts are right then" \
        if source.format_key else f"convert it to UTF-8, for example with `iconv -f {candidates[0]} -t utf-8`"
    place = next((n for n, byte in enumerate(head) if byte > 127), 0)
    raise DataError(f"{source.path}: line {head.count(10, 0, place) + 1}, byte {place} (counted from 0): "
                    f"0x{head[place]:02x} is not utf-8, and the encoding is uncertain; it may be {names}; {remedy}")


def _layout(source: Source, lines: list[str]) -> _Layout:
    """Return the layout of the sample: the given dialect, and the likeliest where it is not given."""
    given = source.given
    excel = next((match[1] for line in lines[:1] if (match := _SEP.match(line.strip()))), "")
    delimiter = given.delimiter.replace("\\t", "\t") or excel
    usual = source.usual_delimiter or ","
    quotes = [given.quote] if given.quote is not None else ['"']
    tried = [_split(source, lines, Dialect(one, quote, given.escape), bool(excel))
             for one in ([delimiter] if delimiter else DELIMITERS) for quote in quotes]
    divided = [layout for layout in tried if layout.width > 1]
    if source.names:
        divided = [layout for layout in divided if layout.width == len(source.names)] or divided
    # A line before the header under one delimiter may be the header under another. The usual delimiter is preferred
    # only without such lines: a decimal comma in each row also gives rows of equal length.
    best = max(divided, key=lambda one: (one.share >= 0.9, not one.has_titles, one.share >= 0.9 and not one.has_titles
                                         and one.dialect.delimiter == source.usual_delimiter, one.width, one.share),
               default=None)
    if best is None:
        best = tried[0] if delimiter else next(one for one in tried if one.dialect.delimiter == usual)
    return _with_quotes(source, lines, best, bool(excel))


def _with_quotes(source: Source, lines: list[str], best: _Layout, excel: bool) -> _Layout:
    """Return the layout with an escape character, or without quotes, if only that makes its rows whole."""
    given, text = source.given, "".join(lines)
    wrong = best.num_bad + sum(len(fields) != best.width for _, fields in best.rows)
    if not wrong or '"' not in text:
        return best
    others = []
    if not given.escape and _ESCAPED_QUOTE in text:
        others.append(replace(best.dialect, escape="\\"))
    if given.quote is None and best.num_bad > 1 and not _QUOTED_FIELD.search(text):
        others.append(replace(best.dialect, quote=""))
    for dialect in others:
        other = _split(source, lines, dialect, excel)
        if other.width >= best.width and other.num_bad + sum(len(row) != other.width for _, row in other.rows) == 0:
            return other
    return best


def _split(source: Source, lines: list[str], dialect: Dialect, excel: bool) -> _Layout:
    """Return the rows of the lines under a dialect, without the lines before the header."""
    rows, num_bad = _rows(lines, dialect)
    if source.given.skip_rows is not None:
        rows = [row for row in rows if row[0] >= source.given.skip_rows]
        return _Layout(dialect, rows, source.given.skip_rows, num_bad)
    start = int(excel)
    rows = [row for row in rows if row[0] >= start]
    num_titles = next((n + 1 for n in reversed(range(min(_MOST_TITLES, len(rows) - 1)))
                       if _is_title(rows[n][1], rows[n + 1:n + 1 + _MOST_TITLES])), 0)
    if any(not _is_title(rows[n][1], rows[num_titles:num_titles + _MOST_TITLES]) for n in range(num_titles)):
        num_titles = 0
    skip = rows[num_titles][0] if num_titles else start
    return _Layout(dialect, rows[num_titles:], skip, num_bad, num_titles > 0)


def _is_title(fields: list[str], after: Sequence[Row]) -> bool:
    """Return True for a line before the header, such as the title of a report: the rows after it have more fields.

    Spreadsheets fill it up with empty fields. The row after it, or a later one, must look like a header.
    """
    width = Counter(len(row) for _, row in after).most_common(1)[0][0] if after else 0
    filled = [field for field in fields if field.strip()]
    if width < 2 or not filled or not fields[0].strip():
        return False
    few = (len(filled) == 1 and (len(fields) == 1 or (len(fields) <= width and width > 2))) \
        or (len(filled) == 2 and len(fields) in (2, width)
            and (width > 3 or (width == 3 and any(_NUMERIC.fullmatch(field) for field in filled))))
    return few and any(len(row) == width and all(name.strip() for name in row[:-1])
                       and not any(_NUMERIC.fullmatch(name) for name in row) for _, row in after)


def _rows(lines: list[str], dialect: Dialect) -> tuple[list[Row], int]:
    """Return the rows of the lines that can be split and are not empty, without an empty last field, and the number of
    bad lines.
    """
    rows: list[Row] = []
    num_bad, start = 0, 0
    while start < len(lines):
        reader = csv.reader(lines[start:], delimiter=dialect.delimiter, quotechar=dialect.quote or None,
                            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
                            escapechar=dialect.escape or None, strict=True)
        before = 0
        try:
            for fields in reader:
                if len(fields) > 1 and not fields[-1] and not (rows and len(rows[0][1]) == len(fields)):
                    fields.pop()
                if fields and not dialect.is_empty_row(lines[start + before]):
                    rows.append((start + before, fields))
                before = reader.line_num
            return rows, num_bad
        except csv.Error:
            num_bad += 1
            if num_bad == _MOST_BAD:  # A quote that is never closed reads to the end each time.
                return rows, num_bad
            start += before + 1
    return rows, num_bad


def _columns(layout: _Layout, names: Sequence[str], has_header: bool) -> dict[str, list[str]]:
    """Return the filled values of each named column in the sample."""
    rows = [fields for _, fields in layout.rows[has_header:] if len(fields) == layout.width]
    return {name: [text for row in rows if (text := row[place].strip())]
            for place, name in enumerate(names) if name and place < layout.width}


def _without(source: Source, columns: dict[str, list[str]], ours: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns without those of our names `ours`."""
    theirs = {source.columns.get(name, name) for name in ours}
    return {name: values for name, values in columns.items() if name not in theirs}


def _decimal_commas(given: FormatSettings, delimiter: str, columns: dict[str, list[str]]) -> list[str]:
    """Return the columns of numbers with a decimal comma.

    Without the setting, 1,234 alone is no evidence, since it may be 1234. A column whose values have a comma and are
    not numbers, such as a list, is not changed.
    """
    if given.decimal == "." or (not given.decimal and delimiter == ","):
        return []
    found = []
    for name, values in columns.items():
        values = [text for text in values if text not in _NULLS]
        values = [bare(text) if _UNIT_NUMBER.match(text) else text for text in values]
        commas = [text for text in values if _COMMA_NUMBER.fullmatch(text)]
        numbers = len(commas) + sum(bool(_INTEGER.fullmatch(text)) for text in values)
        certain = bool(given.decimal) or not all(_THOUSANDS.fullmatch(text) for text in commas)
        is_list = any(text.count(",") > 1 for text in values)
        if (commas or given.decimal) and certain and not is_list and numbers >= 0.8 * len(values):
            found.append(name)
    return found


def _nulls_in(values: list[str]) -> tuple[str, ...]:
    """Return the null markers among a column's values, if the other values are of another kind."""
    markers = [marker for marker in _NULLS if marker in values]
    others = [text for text in values if text not in _NULLS]
    if not markers:
        return ()
    numeric = sum(bool(_NUMERIC.fullmatch(text)) for text in others) > 0.9 * len(others)
    return tuple(marker for marker in markers if (others and numeric) or marker in _CLEAR_NULLS)


def _said(source: Source, layout: _Layout) -> Iterator[str]:
    """Yield the detected characters that the file name does not promise."""
    given, dialect = source.given, layout.dialect
    if not given.delimiter and layout.width > 1 and dialect.delimiter != source.usual_delimiter:
        yield f"{_NAMES.get(dialect.delimiter, repr(dialect.delimiter))} between fields"
    if given.quote is None and not dialect.quote:
        yield "no quotes around fields"
    if not given.escape and dialect.escape:
        yield f"{dialect.escape} before quotes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
