"""The file that lists of recommendations are written to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import Settings

SUFFIXES = (".parquet", ".jsonl", ".csv")


@dataclass
class ListOutput(Settings):
    """A file of lists."""

    shorthand: ClassVar[str] = "path"
    """output=<file> means output.path=<file>."""
    path: str = ""
    """File that the lists are written to (.parquet, .jsonl, .csv); empty to print them."""
    escape_formulas: bool = False
    """CSV only: put ' before ids that a spreadsheet would run as a formula (first character = + - @, a tab or a line
    end), as is done with titles in any case. To undo it remove one ' from values that begin with such a character
    behind one or more '."""

    def all_problems(self) -> Iterator[str]:
        """Yield problems under the keys that a person types, `output=` for `output.path=`."""
        if self.path and not self.path.endswith(SUFFIXES):
            yield f"output={self.path}: the name must end in .parquet, .jsonl or .csv"
        elif self.escape_formulas and not self.path.endswith(".csv"):
            where = f"on {self.path}" if self.path else "without output="
            yield (f"output.escape_formulas=true: has no effect {where}, since only CSV files are opened in a "
                   f"spreadsheet as they are; leave it out, or set output=<file>.csv")
