"""Reading of single fields by the format of their file: decimal commas and texts that mean a missing value."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.ingest.readers.raw_files import RawFile
from llmrec_cli.ingest.readers.sources import IDS, OWN

_NUMBER = r"^ *[+-]?([0-9]+|[0-9]{1,3}([.][0-9]{3})+)(,[0-9]+)? *$"


@dataclass(frozen=True)
class FieldRule:
    """Changes to the fields of a column: `nulls` become empty, and with `has_commas` 1.234,5 becomes 1234.5."""

    nulls: tuple[str, ...] = ()
    has_commas: bool = False

    def applied(self, column: pa.Array) -> pa.Array:
        """Return the column of texts with the changes."""
        if self.nulls:
            is_null = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(self.nulls, pa.string()))
            column = pc.if_else(is_null, "", column)
        if self.has_commas:
            points = pc.replace_substring(pc.replace_substring(column, ".", ""), ",", ".")
            column = pc.if_else(pc.match_substring_regex(column, _NUMBER), points, column)
        return column


def rule_of(file: RawFile, name: str) -> FieldRule:
    """Return the rule of a column of an opened file, by our name. Ids stay as they are, except for given nulls."""
    form = file.source.text_format
    if form is None:
        return FieldRule()
    theirs = file.file_names.get(name, name)
    nulls = (*form.nulls.get("", ()), *(form.nulls.get(theirs, ()) if name not in OWN else ()))
    return FieldRule(nulls, theirs in form.decimal_commas and name not in (*IDS, "event"))
