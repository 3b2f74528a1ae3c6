"""First rows of a file of any format, as columns of text.

Values inside objects and arrays are columns under their path.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from llmrec_cli.data.reject_reasons import HEADER_AGAIN
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import units
from llmrec_cli.ingest.readers.delimited import open_delimited
from llmrec_cli.ingest.readers.jsonl import jsonl_objects
from llmrec_cli.ingest.readers.nested import Records, as_text
from llmrec_cli.ingest.readers.parquet import open_parquet, parquet_records
from llmrec_cli.ingest.readers.sniffing import with_format
from llmrec_cli.ingest.readers.sources import Source

MOST_ROWS = 20_000
_SHOWN = 3
_DEEPEST = 4
_NUMBER = re.compile(r" *[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)? *")
_COMMA_NUMBER = re.compile(rf" *[+-]?([0-9]+([.][0-9]{{3}})*|{units.BLANK_GROUPED})(,[0-9]+)? *")
_POINT_UNIT, _COMMA_UNIT = re.compile(units.POINT_NUMBER), re.compile(units.COMMA_NUMBER)
_URL = re.compile(r"(https?://|www\.)\S+|\S+\.(jpe?g|png|gif|webp)", re.IGNORECASE)
_SEPARATORS = ("|", ";", ",", "、", "/")


@dataclass
class Column:
    """Values of a column in the sample.

    Attributes
    ----------
    name : name in the file, or a path such as user.id and items[].sku
    values : filled values as text; of an array the entries of all rows
    places : row of each value, counted from 0, if it is no array
    num_rows : rows of the sample
    is_array : True for an array of single values
    decimal_comma : True if the numbers have a decimal comma
    """

    name: str
    values: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    num_rows: int = 0
    is_array: bool = False
    decimal_comma: bool = False

    @property
    def in_array(self) -> bool:
        """True for a path into the objects of an array, whose entries become rows."""
        return "[]" in self.name

    @cached_property
    def distinct(self) -> set[str]:
        """The distinct values."""
        return set(self.values)

    @cached_property
    def is_unique(self) -> bool:
        """True if hardly any value repeats, as in a file with one row for each item."""
        return len(self.values) > 1 and len(self.distinct) >= 0.98 * len(self.values)

    @cached_property
    def numbers(self) -> list[float]:
        """The values as numbers; [] if one of twenty or more is not a number."""
        pattern = _COMMA_NUMBER if self.decimal_comma else _NUMBER
        texts = [text for text in self.values if pattern.fullmatch(text)]
        if not texts or len(texts) < 0.95 * len(self.values):
            return []
        return [float(units.bare(text).replace(".", "").replace(",", ".") if self.decimal_comma else text)
                for text in texts]

    def bad_places(self, are_numbers: bool) -> set[int]:
        """Return the rows without a value, and with `are_numbers` those whose value is not a number."""
        is_number = _COMMA_NUMBER.fullmatch if self.decimal_comma else _NUMBER.fullmatch
        sound = {place for place, text in zip(self.places, self.values, strict=True)
                 if not are_numbers or is_number(text)}
        return set(range(self.num_rows)) - sound

    @cached_property
    def has_units(self) -> bool:
        """True for numbers with one currency sign or unit, as in 66,12 €, or with separators of thousands."""
        plain = _COMMA_NUMBER if self.decimal_comma else _NUMBER
        forms = [_POINT_UNIT, _COMMA_UNIT] if self.decimal_comma else [_POINT_UNIT]
        num = sum(bool(plain.fullmatch(text)) or any(form.match(text) for form in forms) for text in self.values)
        # Numbers of several units cannot be compared.
        found = {units.name_of(unit) for text in self.distinct if any(form.match(text) for form in forms)
                 and (unit := re.sub(units.NO_UNIT, "", text))}
        return 0 < 0.95 * len(self.values) <= num and not self.numbers and len(found) <= 1

    @cached_property
    def has_decimal_commas(self) -> bool:
        """True if the values are numbers and a comma can only be a decimal one: 39,67 and 9,8, but not 1,299 alone."""
        bare = [units.bare(text) if _COMMA_UNIT.match(text) else text for text in self.values]
        num = sum(bool(_COMMA_NUMBER.fullmatch(text)) for text in bare)
        return (0 < 0.95 * len(bare) <= num and any(re.search(",[0-9]{1,2}$", text) for text in bare)
                and not any(text.count(",") > 1 for text in bare))

    @cached_property
    def separator(self) -> str:
        """The separator of a list of short values; "" for other columns."""
        if self.numbers or self.has_decimal_commas or self.has_units:
            return ""  # The comma of 39,67 separates nothing.
        for separator in _SEPARATORS:
            parts = [part.strip() for text in self.values if separator in text for part in text.split(separator)]
            with_one = sum(separator in text for text in self.values)
            if with_one >= 0.2 * len(self.values) and max(map(len, parts), default=99) <= 30 \
                    and len(set(parts)) <= 0.5 * len(parts):
                return separator
        return ""

    @cached_property
    def kind(self) -> str:
        """Kind of the values: list | url | number | category | text."""
        if self.values and sum(bool(_URL.fullmatch(text)) for text in self.values) > 0.5 * len(self.values):
            return "url"
        if self.is_array or self.separator:
            return "list"
        if not self.values:
            return "category"
        if self.numbers or self.has_units:
            return "number"
        length = sum(map(len, self.values)) / len(self.values)
        few = len(self.distinct) <= max(20, 0.2 * len(self.values))
        return "category" if few and length <= 40 else "text"


@dataclass
class Sample:
    """The first rows of a file.

    Attributes
    ----------
    num_rows : rows that can be read
    num_unread : rows that cannot, such as those with a wrong number of fields
    last : filled values of the last row, if the sample reaches the end of the file, else {}
    """

    source: Source
    columns: dict[str, Column]
    num_rows: int
    num_unread: int = 0
    last: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """True if the sample has all rows of the file."""
        return self.num_rows + self.num_unread < MOST_ROWS

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.source.path

    @property
    def assumed_commas(self) -> list[str]:
        """Columns with decimal commas that `prepare` reads only with the setting, since commas separate the fields."""
        form = self.source.text_format
        return [column.name for column in self.columns.values()
                if column.decimal_comma and form is not None and column.name not in form.decimal_commas]

    def repeats(self, first: str, second: str) -> bool:
        """Return True if many pairs of two columns repeat."""
        pairs = list(zip(self.columns[first].values, self.columns[second].values, strict=False))
        return len(set(pairs)) < 0.95 * len(pairs)


def read_sample(path: Path) -> Sample:
    """Return the first rows of a file. Raises DataError if it cannot be read or has no rows."""
    source = with_format(Source(path))
    columns: dict[str, Column] = {}
    arrays: Counter[str] = Counter()
    num_rows, num_unread = 0, 0
    last: dict[str, str] = {}
    unread: list[str] = []
    for line, record in islice(_records(source), MOST_ROWS):
        if isinstance(record, str):
            num_unread += record != HEADER_AGAIN
            unread += [f"line {line}: {record}"] * (len(unread) < _SHOWN)
            continue
        num_rows, last = num_rows + 1, {}
        for name, value in _flat(record):
            column = columns.setdefault(name, Column(name))
            text = (as_text(value) or "").strip()
            if isinstance(value, list):
                arrays[name] += 1
                column.values += [as_text(entry) or "" for entry in value]
            elif text:
                column.values.append(text)
                column.places.append(num_rows - 1)
                last[name] = text
    if not num_rows:
        raise DataError(f"{path}: has no rows that can be read; {_no_rows(source, unread)}")
    commas = source.text_format.decimal_commas if source.text_format else ()
    for name, column in columns.items():
        column.num_rows, column.is_array, column.decimal_comma = num_rows, arrays[name] > 0, name in commas
        if source.text_format is not None and source.format == "delimited" and source.text_format.delimiter == ",":
            column.decimal_comma = column.has_decimal_commas
    sample = Sample(source, columns, num_rows, num_unread)
    return replace(sample, last=last) if sample.is_whole else sample


def _no_rows(source: Source, unread: list[str]) -> str:
    """Return the lines of a file without rows that were looked at, and the remedy; `unread` has the first bad lines."""
    if source.format == "parquet":
        return "write some rows to it"
    bad = f"the first lines that cannot be read are {'; '.join(unread)}" if unread else ""
    if source.format == "jsonl":
        return bad or "it needs JSON lines"
    file = open_delimited(source)
    names = ", ".join(f"'{name}'" for name in file.names[:_SHOWN]) + (", ..." if len(file.names) > _SHOWN else "")
    return (f"line {file.rest.next_line - 1} was read as the header ({names}), and "
            f"{bad or 'no line after it is filled'}; if the header is another line, run `prepare` with "
            f"dataset.formats.<files>.skip_rows=<number of lines before it>, where <files> is interactions, items or "
            f"users")


def _records(source: Source) -> Records:
    if source.format == "parquet":
        file = open_parquet(source)
        return parquet_records(source, file, file.schema_arrow.names)
    return jsonl_objects(source) if source.format == "jsonl" else open_delimited(source).records()


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each value inside a record; arrays of single values stay whole."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, str) and value[:2] in ("[{", '{"') and depth == 0:
            with suppress(ValueError):
                value = json.loads(value)
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _flat(value, f"{name}.", depth + 1)
        elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value) \
                and depth < _DEEPEST:
            for entry in value:
                yield from _flat(entry, f"{name}[].", depth + 1)
        else:
            yield name, value
