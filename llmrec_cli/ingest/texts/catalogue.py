"""Descriptions of items, users and groups from files, and their tables of titles, texts and attributes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.reject_reasons import EMPTY, LAST_TOTAL
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import batches, collect, read_staged, scalar, size
from llmrec_cli.ingest.interactions.histories import Histories
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.cells import count_unread_numbers, refuse_arrays, refuse_objects
from llmrec_cli.ingest.readers.checks import are_totals
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.ingest.texts.attributes import fit_edges
from llmrec_cli.ingest.texts.repeats import merge_repeats
from llmrec_cli.ingest.texts.templates import Template, columns_of
from llmrec_cli.ingest.texts.text_rendering import HISTORY, TextRules, render_texts
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.dataset import DatasetSettings

_BATCH, _MOST_CHARACTERS = 4096, 1 << 22
_SORTED = 1 << 26
"""Characters sorted at once: engines hold them in memory several times and cannot spill a single long text."""


@dataclass(frozen=True)
class Descriptions:
    """Descriptions of items, users or groups from files, one row per id.

    Attributes
    ----------
    rows : ibis table of the id, then the files' columns as c1, c2, ...; None without a file
    names : the names of c1, c2, ...
    aliases : column name in the file -> our name, for columns that we name differently
    width : average characters of a row
    """

    rows: Table | None = None
    names: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    width: int = 0

    def columns(self) -> list[str]:
        """Return c1, c2, ..."""
        return [f"c{n}" for n in range(1, len(self.names) + 1)]


def describe(connection: BaseBackend, staged: StagedFiles | None, kind: str, account: Account,
             attributes: Mapping[str, str] | None = None, dropped: Sequence[str] = ()) -> Descriptions:
    """Return the descriptions of items, users or groups (`kind`: item | user | group | entity) in a staged file.

    Rows without an id are rejected. `attributes` maps a column to its type; values of number columns that are not
    numbers are counted. Rows with the same id are merged column by column (`texts.repeats`). Ids in `dropped`
    (dataset.drop_users or drop_items) are left out. Raises DataError for an id that is an array, and for an attribute
    made of objects.
    """
    if staged is None:
        return Descriptions()
    raw = read_staged(connection, staged.path)
    own = [f"c{n}" for n in range(1, len(staged.names))]
    types = {staged.aliases.get(name, name): what for name, what in (attributes or {}).items()}
    key = f"dataset.{'' if kind == 'item' else f'{kind}_'}attributes"
    refuse_arrays(raw.select("file", "line", **{staged.names[0]: "c0"}), staged, staged.names[:1])
    refuse_objects(raw, staged, types, key)
    bad = {"c0": raw.c0.fill_null("") == ""}
    staged.rejects.extend_table(collect(_rejected(raw, bad, staged)))
    sound = raw.filter([~wrong for wrong in bad.values()])
    rows, repeats = merge_repeats(sound.filter(~sound.c0.isin(list(dropped))) if dropped else sound, own,
                                  staged.names[1:], staged.present)
    count_unread_numbers(rows, sound, staged, types, kind, key, account)
    account.counts |= {f"{kind}s_read": sum(staged.num_read), f"{kind}s_rejected": len(staged.rejects),
                       f"{kind}s_repeated": repeats.num_repeated, f"{kind}s_duplicated": repeats.num_duplicated}
    account.notes += repeats.notes(kind)
    characters = sum((rows[column].length().fill_null(0) for column in own), rows.c0.length())
    width = int(scalar(characters.mean().fill_null(0)))
    return Descriptions(rows.select(**{f"{kind}_id": rows.c0}, **{c: rows[c] for c in own}), staged.names[1:],
                     staged.aliases, width)


def _rejected(raw: Table, bad: dict[str, ibis.expr.types.BooleanValue], staged: StagedFiles) -> Table:
    """Return file, line, column and reason of the rows for which a condition of `bad` (column -> condition) holds.

    Of a row of totals the reason is that it is one.
    """
    is_total = are_totals(raw, staged, list(bad))
    files = ibis.cases(*((raw.file == n, str(source.path)) for n, source in enumerate(staged.sources)))
    names = {f"c{n}": name for n, name in enumerate(staged.names)}
    rows = raw.select(file=files, line=raw.line,
                      column=ibis.cases((is_total, ""), *((wrong, names[c]) for c, wrong in bad.items())),
                      reason=ibis.cases((is_total, LAST_TOTAL), *((wrong, EMPTY) for wrong in bad.values())))
    return rows.filter(rows.reason.notnull()).order_by("file", "line")


def schema(described: Descriptions, kind: str) -> pa.Schema:
    """Return the schema of items.parquet, users.parquet or group_texts.parquet.

    A file's column with one of our names gets a '_'.
    """
    ours = [(kind, pa.int64()), (f"{kind}_id", pa.string()), ("title", pa.string()), ("text", pa.string()),
            ("attributes", pa.list_(pa.string()))]
    used = {name for name, _ in ours}
    own = []
    for name in described.names:
        while name in used:
            name += "_"
        used.add(name)
        own.append((name, pa.string()))
    return pa.schema([*ours, *own])


def texts_of(settings: DatasetSettings, kind: str) -> tuple[str, dict[str, str], str]:
    """Return the text template of a kind, its attributes (column -> type), and the key of the attributes setting."""
    key = "attributes" if kind == "item" else f"{kind}_attributes"
    return getattr(settings, f"{kind}_text"), getattr(settings, key), key


def text_rules(described: Descriptions, kind: str, settings: DatasetSettings) -> TextRules:
    """Return the rules of texts and attributes. Raises ConfigError for columns that do not exist or do not fit."""
    columns = {name: name for name in (*described.names, f"{kind}_id")} | described.aliases
    template, attributes, key = texts_of(settings, kind)
    if described.rows is None and attributes:
        raise ConfigError(f"dataset.{key}: no file describes {kind}s; set dataset.{kind}s=<file>")
    for name in attributes:
        if columns.get(name) not in described.names:
            raise ConfigError(f"dataset.{key}.{name}: the {kind}s have no such column{nearest(name, described.names)}; "
                              f"there are {', '.join(described.names)}")
    types = {columns[name]: what for name, what in attributes.items()}
    if types.get("title") == "image":
        raise ConfigError(f"dataset.{key}: the title must be text, not an image; remove title from the attributes")
    for name in columns_of(template):
        if types.get(columns.get(name, name)) == "image":
            raise ConfigError(f"dataset.{kind}_text={template}: '{name}' is an image by dataset.{key} and cannot be "
                              f"part of a text; remove it")
    if kind == "user" and HISTORY in columns and HISTORY in columns_of(template):
        raise ConfigError(f"dataset.user_text={template}: {{{HISTORY}}} stands for the titles of the training history, "
                          f"but the users also have a column '{HISTORY}'; rename the column in the file")
    columns |= {HISTORY: HISTORY} if kind == "user" else {}
    parse_nested = Template(template, columns, f"dataset.{kind}_text") if template else None
    return TextRules(kind, parse_nested, types, settings.list_separator, settings.max_text_length, settings.strip_html)


def fit_classes(rules: TextRules, catalogue: Table, described: Descriptions) -> TextRules:
    """Return the rules with number classes fitted on the entities in training (`rank` 0).

    If no entity is in training, as with groups without interactions, all entities of the lowest rank are used.
    """
    columns = dict(zip(described.names, described.columns(), strict=True))
    numbers = {name: columns[name] for name, what in rules.attributes.items() if what == "number"}
    if not numbers:
        return rules
    assert described.rows is not None
    trained = described.rows.semi_join(catalogue.filter(catalogue["rank"] == scalar(catalogue["rank"].min())),
                                       f"{rules.kind}_id")
    return replace(rules, edges=fit_edges(trained, numbers))


def entity_batches(catalogue: Table, described: Descriptions, rules: TextRules, target: pa.Schema,
                   counts: dict[str, int], histories: Histories | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of items.parquet, users.parquet or group_texts.parquet in order; set counts[<kind>s_without_text].
    """
    kind = rules.kind
    counts[f"{kind}s_without_text"] = 0
    for batch in _in_order(catalogue, described, kind):
        for part in _limit_bytes(batch):
            numbers, ids, *own = (column.cast(pa.string()) if n else column.cast(pa.int64())
                                  for n, column in enumerate(part.columns))
            titles, texts, attributes = _render(numbers, ids, own, described.names, rules, histories)
            counts[f"{kind}s_without_text"] += pc.sum(pc.equal(texts, "")).as_py()
            yield pa.RecordBatch.from_arrays([numbers, ids, titles, texts, attributes, *own],
                                             schema=target)


def _in_order(catalogue: Table, described: Descriptions, kind: str) -> Iterator[pa.RecordBatch]:
    """Yield integer id, id and the files' columns, ordered by integer id."""
    key = f"{kind}_id"
    if described.rows is None:
        yield from batches(catalogue.select(kind, key).order_by(kind), _BATCH)
        return
    num, step = size(catalogue), max(1, _SORTED // (described.width + 1))
    for first in range(0, num, step):
        some, described_rows = catalogue, described.rows
        if step < num:
            some = catalogue.filter(catalogue[kind].between(first, first + step - 1))
            described_rows = described_rows.semi_join(some, key)
        rows = some.left_join(described_rows, key).select(kind, key, *described.columns())
        yield from batches(rows.order_by(kind), max(1, min(_BATCH, _MOST_CHARACTERS // (described.width + 1))))


def _render(numbers: pa.Array, ids: pa.Array, own: list[pa.Array], names: Sequence[str], rules: TextRules,
          histories: Histories | None) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the arrays of titles, texts and attributes of some entities."""
    if rules.template is None and not rules.used(names):
        # There is nothing to render, so millions of entities need not be looped over.
        nothing = pa.ListArray.from_arrays(pa.array(np.zeros(len(ids) + 1, np.int32)), pa.array([], pa.string()))
        return ids, pa.repeat(pa.scalar(""), len(ids)), nothing
    used = rules.used(names)
    columns = {name: column.to_pylist() for name, column in zip(names, own, strict=True) if name in used}
    read = None
    if rules.needs_history:
        assert histories is not None
        # Integer ids increase by one from row to row.
        read = histories.between(numbers[0].as_py(), numbers[-1].as_py() + 1)
    rendered = render_texts(ids.to_pylist(), columns, rules, read)
    return (pa.array(rendered.titles, pa.string()), pa.array(rendered.texts, pa.string()),
            pa.array(rendered.attributes, pa.list_(pa.string())))


def _limit_bytes(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts with limited bytes of text, so that long texts do not fill the memory."""
    sizes = np.zeros(len(batch), np.int64)
    for column in batch.columns[1:]:
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    parts = np.cumsum(sizes) // _MOST_CHARACTERS
    cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(batch)]
    for start, stop in pairwise(cuts):
        if stop > start:
            yield batch.slice(start, stop - start)
