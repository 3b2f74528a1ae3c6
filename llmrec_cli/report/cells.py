"""What a table of a page is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A value and what stands below it; `kind` is better, worse or empty."""

    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Names of the columns after the first, and the rows."""

    columns: list[str]
    rows: list[Row]
