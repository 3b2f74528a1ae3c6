"""Formats of text files: characters between and around fields, encoding, decimal sign, lines before the header."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from llmrec_cli.settings.base import Settings, nearest

_ENCODINGS = ("utf-8", "latin-1", "windows-1252", "gb18030", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "koi8-r")
_MOST_SKIPPED = 1000


@dataclass
class FormatSettings(Settings):
    """Format of a text file. What is not set is detected from the first 256 KiB of the file and printed."""

    delimiter: str = ""
    """Separates the fields of a row, one character (`\\t` for a tab), for example ';'. Empty: detected among comma,
    tab, ';' and '|'."""
    encoding: str = ""
    """Encoding of CSV, TSV and JSONL files. It must extend ASCII: utf-8, windows-1252, gb18030, ... Empty: detected; an
    uncertain encoding is an error that names the candidates."""
    quote: str | None = None
    """Quotes fields that contain the delimiter or a line break, one character; empty if nothing is quoted. null:
    detected, usually '"'."""
    escape: str = ""
    """Escape character of delimited files: `\\` for files that write \\" for a quote inside quotes. Empty: detected;
    quotes inside quotes are usually doubled."""
    decimal: str = ""
    """Decimal sign of numbers in delimited files, '.' or ','. Empty: detected; ',' only if the delimiter is not a
    comma."""
    skip_rows: int | None = None
    """Number of lines before the header, such as a title or 'sep=;', at least 0. null: detected."""
    null: list[str] | None = None
    """Texts that mean a missing value, in all columns, for example [NULL,n/a]; [] for none. null: detected among \\N,
    NULL, null, NaN, nan and None, in columns whose other values are of another kind, but never in ids."""

    def problems(self) -> Iterator[str]:
        if len(self.delimiter) > 1 and self.delimiter != "\\t":
            yield f"delimiter={self.delimiter}: must be one character"
        for key in ("quote", "escape"):
            if len(getattr(self, key) or "") > 1:
                yield f"{key}={getattr(self, key)}: must be one character, or empty"
        if self.escape and self.escape in (self.quote or '"', self.delimiter):
            yield f"escape={self.escape}: equals the quote or the delimiter; a doubled quote needs no escape"
        if self.decimal not in ("", ".", ","):
            yield f"decimal={self.decimal}: choose '.' or ','"
        if self.decimal == "," == self.delimiter:
            yield "decimal=,: cannot be combined with delimiter=,; set the delimiter of the file"
        yield from self.check("skip_rows", least=0, most=_MOST_SKIPPED)
        if self.encoding:
            yield from self._encoding_problems()

    def _encoding_problems(self) -> Iterator[str]:
        try:
            ascii_stays = "a,\n".encode(self.encoding) == b"a,\n"
        except (LookupError, UnicodeError):
            yield f"encoding={self.encoding}: no such encoding{nearest(self.encoding, _ENCODINGS)}"
            return
        if not ascii_stays or codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32", "utf-7")):
            yield f"encoding={self.encoding}: only encodings that extend ASCII can be read; convert the file to UTF-8"

    def over(self, other: "FormatSettings") -> "FormatSettings":
        """Return this format, with what it does not set taken from another format."""
        usual = FormatSettings()
        return replace(usual, **{
            f.name: own if (own := getattr(self, f.name)) != getattr(usual, f.name) else getattr(other, f.name)
            for f in fields(FormatSettings)})
