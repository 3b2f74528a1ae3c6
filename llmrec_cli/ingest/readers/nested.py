"""Values inside arrays and objects as columns: 'user.id' inside an object, 'items[].sku' with a row for each entry."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.readers.absent_paths import Absence, has_path
from llmrec_cli.ingest.readers.array_texts import UnclearArray, parse_nested
from llmrec_cli.ingest.readers.sources import EACH, Record, Source, arrays_of, is_path, path_text, steps_of
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.dataset import EXPLODABLE

_SCALARS = ("user_id", "item_id", "group_id", "entity_id", "head", "relation", "tail", "value", "timestamp", "event",
            "order")
"""Our columns with one value per row, where an array or object is always a mistake."""
_BESIDE_ITEMS = ("value", "timestamp", "event", "order")
"""Our columns whose arrays have one entry per item of the row."""
Records = Iterator[tuple[int, "Mapping[str, Any] | str"]]


class _BadRow(Exception):
    """Raised for a row without the array or object that a path or dataset.explode needs."""


@dataclass
class Nested:
    """Columns extracted from the arrays and objects of a file.

    Attributes
    ----------
    source : the file
    names : the file's own columns
    by_row : paths to which columns are mapped; an array on the path turns each entry into a row
    collected : paths whose values stay together, as a JSON array if there is an array on the path
    explode : our name -> column or path whose arrays turn each entry into a row, in parallel
    """

    source: Source
    names: list[str]
    by_row: list[str]
    collected: list[str]
    explode: dict[str, str]
    arrays: list[tuple[str, ...]] = field(init=False)
    """Arrays whose entries become rows, each inside the one before."""
    absent: dict[str, Absence] = field(init=False)
    """Paths that none of the rows read so far has."""
    num_rows: int = 0
    num_exploded: int = 0
    num_empty: int = 0

    def __post_init__(self) -> None:
        self.arrays = []
        self.absent = {text: Absence() for text in (*self.by_row, *self.collected)}
        for text in self.by_row:
            own = arrays_of(steps_of(text))
            longer, shorter = (own, self.arrays) if len(own) > len(self.arrays) else (self.arrays, own)
            if longer[:len(shorter)] != shorter:
                raise ConfigError(f"{self.source.columns_key}: {' and '.join(self.by_row)} are in different arrays, "
                                  f"whose entries cannot be paired; prepare them separately")
            self.arrays = longer

    def __bool__(self) -> bool:
        return bool(self.by_row or self.collected or self.explode)

    @property
    def all_names(self) -> list[str]:
        """The file's columns, then the extracted columns."""
        return [*self.names, *self.by_row, *self.collected]

    def needed(self, places: Sequence[int]) -> list[str]:
        """Return the file's own columns that the columns at these places of `all_names` need."""
        wanted = [self.all_names[place] for place in places]
        heads = [*wanted, *self.by_row, *self.explode.values()]
        return [name for name in self.names if name in {text if text in self.names else steps_of(text)[0]
                                                        for text in heads}]

    def rows(self, records: Records, flat: Mapping[int, str]) -> Iterator[Record]:
        """Yield rows with `all_names` from records of the file's own columns; `flat` is place -> our name."""
        for line, record in records:
            if isinstance(record, str):
                yield line, record
                continue
            try:
                for text in [text for text, one in self.absent.items() if has_path(record, steps_of(text), one)]:
                    del self.absent[text]
                rows_ = list(self._rows_of(record))
            except (_BadRow, UnclearArray) as error:
                yield line, str(error)
                continue
            self.num_rows += len(rows_)
            self.num_empty += not rows_
            for row in rows_:
                refuse_nested(self.source, line, row, flat)
                yield line, [as_text(value) for value in row]

    def _rows_of(self, record: Mapping[str, Any]) -> Iterator[list[Any]]:
        own = [record.get(name) for name in self.names]
        collected = [_collected(record, steps_of(text)) for text in self.collected]
        for nodes in self._entries([record], 0):
            values = []
            for text in self.by_row:
                steps = steps_of(text)
                level = len(arrays_of(steps))
                values.append(_inside(nodes[level], steps[len(self.arrays[level - 1]):] if level else steps, text))
            yield from self._exploded([*own, *values, *collected])

    def _entries(self, nodes: list[Any], level: int) -> Iterator[list[Any]]:
        """Yield the record and the current entry of each array of `arrays`, for all combinations."""
        if level == len(self.arrays):
            yield nodes
            return
        before = len(self.arrays[level - 1]) if level else 0
        entries = _inside(nodes[-1], self.arrays[level][before:-1], path_text(self.arrays[level]))
        entries = parse_nested(entries) if isinstance(entries, str) else entries
        if entries is None:
            return
        if not isinstance(entries, list):
            raise _BadRow(reasons.NOT_AN_ARRAY.format(path=path_text(self.arrays[level][:-1])))
        self.num_exploded += level == 0
        for entry in entries:
            yield from self._entries([*nodes, entry], level + 1)

    def _exploded(self, row: list[Any]) -> Iterator[list[Any]]:
        places = {ours: self.all_names.index(theirs) for ours, theirs in self.explode.items()}
        lists = {ours: self._list(row[place]) for ours, place in places.items()}
        sizes = {ours: len(entries) for ours, entries in lists.items() if entries is not None}
        if not sizes:
            yield row
            return
        if len(set(sizes.values())) > 1:
            raise _BadRow(reasons.ARRAYS_DIFFER.format(
                lengths=", ".join(f"{ours} has {size}" for ours, size in sizes.items())))
        self.num_exploded += 1
        for n in range(next(iter(sizes.values()))):
            exploded = list(row)
            for ours, entries in lists.items():
                if entries is not None:
                    exploded[places[ours]] = entries[n]
            yield exploded

    def _list(self, value: Any) -> list[Any] | None:
        """Return the entries of an array; None for a single value, which is repeated for each entry of the others."""
        if isinstance(value, str):
            entries = parse_nested(value)
            separator = self.source.separator if self.source.format == "delimited" else ""
            if isinstance(entries, list):
                return entries
            return [part.strip() for part in value.split(separator)] if separator and separator in value else None
        return value if isinstance(value, list) else None

    def notes(self) -> Iterator[Phrase]:
        """Yield notes on the rows made from arrays."""
        if self.num_exploded:
            yield Phrase("{file}: {num:,} arrays turned into one row per entry, {rows:,} rows in all",
                         file=self.source.path, num=self.num_exploded, rows=self.num_rows)
        if self.num_empty:
            yield Phrase("{file}: {num:,} rows dropped: empty or missing array", file=self.source.path,
                         num=self.num_empty)


def nested_columns(source: Source, names: list[str], ours: Sequence[str]) -> Nested:
    """Return the paths and arrays that the settings extract from a file with columns `names`; `ours` are our columns.
    """
    mapped = {name: source.columns.get(name, name) for name in ours}
    by_row = [text for text in dict.fromkeys(mapped.values()) if _is_inside(text, names)]
    collected = [text for text in dict.fromkeys(source.paths) if _is_inside(text, names) and text not in by_row]
    explode = {name: mapped[name] for name in source.explode
               if name in mapped and mapped[name] in (*names, *by_row)}
    return Nested(source, names, by_row, collected, explode)


def _is_inside(text: str, names: Sequence[str]) -> bool:
    return text not in names and is_path(text) and steps_of(text)[0] in names


def _inside(node: Any, keys: Sequence[str], text: str) -> Any:
    """Return the value at the path `keys`, None if a key is missing."""
    for key in keys:
        if isinstance(node, str):
            node = parse_nested(node) or node.strip() or None
        if node is None:
            return None
        if not isinstance(node, Mapping):
            raise _BadRow(reasons.NO_OBJECT_IN_PATH.format(path=text))
        node = node.get(key)
    return node


def _collected(node: Any, steps: Sequence[str]) -> Any:
    """Return the value of a path; a flat list if the path has arrays. A missing key gives no value."""
    if not steps:
        return node
    node = parse_nested(node) if isinstance(node, str) else node
    if steps[0] != EACH:
        value = node.get(steps[0]) if isinstance(node, Mapping) else None
        return _collected(value, steps[1:]) if value is not None else [] if EACH in steps else None
    value = [_collected(entry, steps[1:]) for entry in (node if isinstance(node, list) else [])]
    if EACH in steps[1:]:
        value = [value for values in value for value in values or []]
    return [value for value in value if value is not None]


def as_text(value: Any) -> str | None:
    """Return a value as text: strings as they are, lists and objects as JSON, null as None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # The same text as from a Parquet or CSV file.
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict, int, float)) \
        else str(value)


def refuse_nested(source: Source, line: int, row: Sequence[Any], flat: Mapping[int, str]) -> None:
    """Raise DataError for an array or object in one of the columns `flat` (place -> our name) of a row."""
    for place, ours in flat.items():
        if isinstance(row[place], (list, dict)):
            refuse_value(source, line, ours, row[place],
                         [name for other, name in flat.items() if isinstance(row[other], list)])


def refuse_value(source: Source, line: int, ours: str, value: "list[Any] | dict[str, Any]",
                 arrays: Sequence[str] = ()) -> NoReturn:
    """Raise DataError for an array or object in our column `ours`, which needs a single value.

    `arrays` are our columns with arrays in this row.
    """
    first = next((entry for entry in value if isinstance(entry, dict)), None) if isinstance(value, list) else value
    theirs = source.columns.get(ours, ours)
    text = json.dumps(value, ensure_ascii=False, default=str)
    what = "an array" if isinstance(value, list) else "an object"
    if first is not None:
        what += f"{' of objects' if isinstance(value, list) else ''} with the keys {', '.join(list(first)[:12])}"
    raise DataError(f"{source.path}: line {line}: {ours} is {what} ({text[:60]}{'...' if len(text) > 60 else ''}), "
                    f"but must be a single {'id' if ours.endswith('_id') else 'value'}; "
                    f"{_remedy(source, ours, theirs, isinstance(value, list), first, arrays)}")


def _remedy(source: Source, ours: str, theirs: str, is_array: bool, first: "dict[str, Any] | None",
            arrays: Sequence[str]) -> str:
    if not source.columns_key:
        return f"write one {ours} per row"
    each = "[]" if is_array else ""
    if first:
        alike = [key for key in first if key == ours] or [key for key in first if key.lower().endswith("id")] or \
            list(first)
        rows = ", which turns each entry into a row" if is_array else ""
        return f"use one of its keys with {source.columns_key}.{ours}='{theirs}{each}.{alike[0]}'{rows}"
    if not is_array:
        return "repair the row"
    if source.columns_key != "dataset.columns" or is_path(theirs):
        return f"set {source.columns_key}.{ours}='{theirs}[]' to turn each entry into a row"
    # All arrays of the row are named, so that the next run does not fail on another column.
    together = {ours, *arrays, *source.explode, *(("item_id",) if ours in _BESIDE_ITEMS else ())}
    names = [name for name in EXPLODABLE if name in together]
    explode = f"[{','.join(names)}]" if names[1:] else names[0]
    return f"set dataset.explode={explode} to turn each entry into a row"


def flat_columns(places: Mapping[str, int]) -> dict[int, str]:
    """Return place -> our name of the columns with one value per row."""
    return {place: ours for ours, place in places.items() if ours in _SCALARS}
