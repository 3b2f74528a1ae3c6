"""Opening raw files of any format: the places of our columns, and the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pyarrow.parquet as pq

from llmrec_cli.ingest.readers.columns import locate, mapped_columns, plain_names
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.delimited import DelimitedFile, open_delimited
from llmrec_cli.ingest.readers.jsonl import first_keys, jsonl_keys, jsonl_objects, jsonl_rows
from llmrec_cli.ingest.readers.nested import Nested, flat_columns, nested_columns
from llmrec_cli.ingest.readers.parquet import (
    open_parquet,
    parquet_records,
    refuse_float_ids,
    refuse_float_paths,
    refuse_nested_columns,
)
from llmrec_cli.ingest.readers.sniffing import with_format
from llmrec_cli.ingest.readers.sources import IDS, Record, Source, steps_of
from llmrec_cli.language.phrases import Phrase

Rows = Callable[[list[int]], Iterator[Block | Record]]
"""Function that yields the rows of a file; blocks have the columns at the given places, records have all columns."""


@dataclass
class RawFile:
    """An opened file; `places` maps our name of a column, else the file's name, to its place."""

    source: Source
    places: dict[str, int]
    rows: Rows | None = None
    parquet: pq.ParquetFile | None = None
    absent: frozenset[str] = frozenset()
    mapped_columns: frozenset[str] = frozenset()
    nested: Nested | None = None
    notes: list[Phrase] = field(default_factory=list)
    file_names: dict[str, str] = field(default_factory=dict)
    """Present column, by our name -> its name in the file."""
    columns: tuple[str, ...] = ()
    """Names of all columns in the file; of JSON lines read hastily, those of the first objects."""


def open_raw(source: Source, required: tuple[str, ...], optional: tuple[str, ...], rest: bool, hasty: bool) -> RawFile:
    """Open a file and find our columns in it. `hasty` reads the keys of the first JSON objects only."""
    source = with_format(source)
    if source.read is not None:
        names, records = source.read(source)
        places = locate(source, names, required, optional)
        return RawFile(source, _with_rest(source, names, places, rest), _only(records),
                       mapped_columns=frozenset(mapped_columns(source, names)), columns=tuple(names))
    ours = (*required, *optional)
    absent: frozenset[str] = frozenset()
    file = open_parquet(source) if source.format == "parquet" else None
    delimited = open_delimited(source) if source.format == "delimited" else None
    if file is not None:
        names = file.schema_arrow.names
    elif delimited is not None:
        names = delimited.names
    else:
        names = first_keys(source) if hasty else []
        needed = [source.columns.get(one, one) for one in ours if one in required or one in source.columns]
        in_other_case = {name.lower() for name in names} & set(ours) - set(names)
        if not names or in_other_case or not set(needed) <= set(names):
            names = jsonl_keys(source)
        else:
            absent = frozenset(optional) - set(names)
    nested = nested_columns(source, names, ours)
    notes: list[Phrase] = []
    places = locate(source, nested.all_names, required, optional, notes)
    file_names = {one: nested.all_names[place] for one, place in places.items()}
    flat = flat_columns(places)
    if file is not None:
        _check_types(source, file, nested, places)
    places = _with_rest(source, nested.all_names, places, rest)
    rows: Rows | None = None
    if nested:
        rows = _of_nested(nested, flat, file, delimited)
    elif delimited is not None:
        rows = delimited.rows
    elif file is None:
        rows = _of_json(source, names, absent, flat)
    return RawFile(source, places, rows, None if nested else file, absent,
                   frozenset(mapped_columns(source, nested.all_names)), nested, notes, file_names,
                   tuple(plain_names(source, names)))


def _with_rest(source: Source, names: list[str], places: dict[str, int], rest: bool) -> dict[str, int]:
    """Return the places of our columns and, with `rest`, of all other columns."""
    if not rest:
        return places
    ours = set(places.values())
    return places | {name: n for n, name in enumerate(plain_names(source, names)) if n not in ours
                     and name not in places}


def _check_types(source: Source, file: pq.ParquetFile, nested: Nested, places: dict[str, int]) -> None:
    """Raise DataError for columns of a Parquet file with a type that does not fit an id or a single value."""
    own = {ours: nested.names[place] for ours, place in places.items() if place < len(nested.names)}
    inside = {ours: nested.all_names[place] for ours, place in places.items() if place >= len(nested.names)}
    refuse_nested_columns(source, file, {ours: own[ours] for ours in flat_columns(places).values()
                                         if ours in own and ours not in nested.explode})
    refuse_float_ids(source, file, [name for ours, name in own.items() if ours in IDS])
    refuse_float_paths(source, file, nested, {ours: text for ours, text in (inside | nested.explode).items()
                                              if ours in IDS})


def _only(records: Iterator[Record]) -> Rows:
    return lambda places: records


def _of_json(source: Source, names: list[str], absent: frozenset[str], flat: dict[int, str]) -> Rows:
    return lambda places: jsonl_rows(source, names, places, absent, flat)


def _of_nested(nested: Nested, flat: dict[int, str], file: pq.ParquetFile | None,
               delimited: DelimitedFile | None) -> Rows:
    def rows(places: list[int]) -> Iterator[Block | Record]:
        if file is not None:
            return nested.rows(parquet_records(nested.source, file, nested.needed(places)), flat)
        return nested.rows(delimited.records() if delimited else jsonl_objects(nested.source), flat)

    return rows


def has_column(source: Source, name: str) -> bool:
    """Return True if a file has one of our columns, under its name in the settings."""
    theirs = steps_of(source.columns.get(name, name))[0]
    return theirs in open_raw(replace(source, columns={}), (), (), rest=True, hasty=False).places
