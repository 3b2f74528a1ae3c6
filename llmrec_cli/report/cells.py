"""What a table of a page is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A value and what stands below it; `kind` is better, worse, letters, a shade of heat or empty."""

    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table; `note` stands below the name, `ours` is the line that the page is about."""

    name: str
    cells: list[Cell]
    note: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """Names of the columns after the first, and the rows."""

    columns: list[str]
    rows: list[Row]
