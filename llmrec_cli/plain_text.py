"""Plain text without control codes, on a terminal, in a pipe and in a file alike: escaping, and tables."""

import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts and emoji need."""
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that can move the cursor, reverse the text direction or break a line."""


def printable(text: str) -> str:
    """Return `text` with control characters escaped: ESC as \\x1b, a line break as \\n."""
    return "".join(c if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE
                   else c.encode("unicode_escape").decode() for c in text)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "l") -> str:
    """Return a table as text; `align` has l (left) or r (right) for the first columns, and the others are
    right-aligned."""
    table = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(display_width(row[n]) for row in table) for n in range(len(header))]
    lines = []
    for row in table:
        cells = [" " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cell + space if align[n:n + 1] == "l" else space + cell
                               for n, (cell, space) in enumerate(zip(row, cells, strict=True))).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Return the width of a text in terminal cells; East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) or c in _JOINERS else
               2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
