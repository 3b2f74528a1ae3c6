"""Reading of single fields by the format of their file: decimal commas and texts that mean a missing value."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.ingest.readers.raw_files import RawFile
from llmrec_cli.ingest.readers.sources import IDS, OWN
from llmrec_cli.ingest.readers.units import BLANK, BLANK_GROUPED, COMMA_NUMBER

_NUMBER = rf"^ *[+-]?([0-9]+|[0-9]{{1,3}}([.][0-9]{{3}})+|{BLANK_GROUPED})(,[0-9]+)? *$"


@dataclass(frozen=True)
class FieldRule:
    """Changes to the fields of a column: `nulls` become empty, and with `has_commas` 1.234,5 and 1 234,5 become 1234.5.

    With `has_units` also 1.234,50 € becomes 1234.50 €; blanks between thousands stay, to be counted as the units are.
    """

    nulls: tuple[str, ...] = ()
    has_commas: bool = False
    has_units: bool = False

    def applied(self, column: pa.Array) -> pa.Array:
        """Return the column of texts with the changes."""
        if self.nulls:
            is_null = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(self.nulls, pa.string()))
            column = pc.if_else(is_null, "", column)
        if self.has_commas:
            points = pc.replace_substring(pc.replace_substring(column, ".", ""), ",", ".")
            if not self.has_units:
                points = pc.replace_substring_regex(points, BLANK, "")
            is_number = pc.match_substring_regex(column, f"{_NUMBER}|{COMMA_NUMBER}" if self.has_units else _NUMBER)
            column = pc.if_else(is_number, points, column)
        return column


def rule_of(file: RawFile, name: str) -> FieldRule:
    """Return the rule of a column of an opened file, by our name. Ids stay as they are, except for given nulls."""
    form = file.source.text_format
    if form is None:
        return FieldRule()
    theirs = file.file_names.get(name, name)
    nulls = (*form.nulls.get("", ()), *(form.nulls.get(theirs, ()) if name not in OWN else ()))
    has_commas = theirs in form.decimal_commas and name not in (*IDS, "event")
    return FieldRule(nulls, has_commas, has_units=has_commas and name not in OWN)
