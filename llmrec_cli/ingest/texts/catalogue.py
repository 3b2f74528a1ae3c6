"""Items, users and groups described by files, and their tables of titles, texts and attributes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import batches, collect, read_staged, scalar, size
from llmrec_cli.ingest.interactions.histories import Histories
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.cells import count_unread_numbers, refuse_arrays, refuse_objects
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.ingest.texts.attributes import fit_edges
from llmrec_cli.ingest.texts.repeats import merge_repeats
from llmrec_cli.ingest.texts.templates import Template, columns_of
from llmrec_cli.ingest.texts.text_rendering import HISTORY, TextRules, tell
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.dataset import DatasetSettings

_BATCH, _MOST_CHARACTERS = 4096, 1 << 22
_SORTED = 1 << 26
"""Characters that an engine sorts at once: it holds them several times, and cannot put a single long one on disk."""


@dataclass(frozen=True)
class Described:
    """Items, users or groups as described by files: one row per id.

    Attributes
    ----------
    rows : ibis table of the id, then own columns as c1, c2, ...; None without a file
    names : what c1, c2, ... are called
    aliases : what the file calls one of our columns -> our name
    width : characters of a row, on average
    """

    rows: Table | None = None
    names: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    width: int = 0

    def columns(self) -> list[str]:
        """Return c1, c2, ..."""
        return [f"c{n}" for n in range(1, len(self.names) + 1)]


def describe(connection: BaseBackend, staged: Staged | None, kind: str, account: Account,
             attributes: Mapping[str, str] | None = None, dropped: Sequence[str] = ()) -> Described:
    """Return the items, users or groups (`kind`: item | user | group) of a staged file.

    A row without an id joins the rejects. What is no number in a column that `attributes` (column -> type) says is one
    is counted. Several rows with one id become one, column by column (`ingest.repeats`). What dataset.drop_users or
    drop_items names (`dropped`) is not described. Raises DataError for an id that is an array, and for an attribute
    made of objects.
    """
    if staged is None:
        return Described()
    raw = read_staged(connection, staged.path)
    own = [f"c{n}" for n in range(1, len(staged.names))]
    given = {staged.aliases.get(name, name): what for name, what in (attributes or {}).items()}
    key = f"dataset.{'' if kind == 'item' else f'{kind}_'}attributes"
    refuse_arrays(raw.select("file", "line", **{staged.names[0]: "c0"}), staged, staged.names[:1])
    refuse_objects(raw, staged, given, key)
    count_unread_numbers(raw, staged, given, kind, key, account)
    bad = {"c0": raw.c0.fill_null("") == ""}
    staged.rejects.extend_table(collect(_rejected(raw, bad, staged)))
    sound = raw.filter([~wrong for wrong in bad.values()])
    rows, repeats = merge_repeats(sound.filter(~sound.c0.isin(list(dropped))) if dropped else sound, own,
                                  staged.names[1:], staged.present)
    account.counts |= {f"{kind}s_read": sum(staged.num_read), f"{kind}s_rejected": len(staged.rejects),
                       f"{kind}s_repeated": repeats.num_repeated, f"{kind}s_duplicated": repeats.num_duplicated}
    account.notes += repeats.notes(kind)
    characters = sum((rows[column].length().fill_null(0) for column in own), rows.c0.length())
    width = int(scalar(characters.mean().fill_null(0)))
    return Described(rows.select(**{f"{kind}_id": rows.c0}, **{c: rows[c] for c in own}), staged.names[1:],
                     staged.aliases, width)


def _rejected(raw: Table, bad: dict[str, ibis.expr.types.BooleanValue], staged: Staged) -> Table:
    """Return file, line, column and reason of the rows for which one of `bad` (column -> whether it is) holds."""
    files = ibis.cases(*((raw.file == n, str(source.path)) for n, source in enumerate(staged.sources)))
    names = {f"c{n}": name for n, name in enumerate(staged.names)}
    found = raw.select(file=files, line=raw.line, column=ibis.cases(*((wrong, names[c]) for c, wrong in bad.items())),
                       reason=ibis.cases(*((wrong, "is empty") for wrong in bad.values())))
    return found.filter(found.reason.notnull()).order_by("file", "line")


def schema(described: Described, kind: str) -> pa.Schema:
    """Return the schema of items.parquet and its like; own columns that have one of our names get a '_'."""
    ours = [(kind, pa.int64()), (f"{kind}_id", pa.string()), ("title", pa.string()), ("text", pa.string()),
            ("attributes", pa.list_(pa.string()))]
    taken = {name for name, _ in ours}
    own = []
    for name in described.names:
        while name in taken:
            name += "_"
        taken.add(name)
        own.append((name, pa.string()))
    return pa.schema([*ours, *own])


def texts_of(settings: DatasetSettings, kind: str) -> tuple[str, dict[str, str], str]:
    """Return the template of the texts of a kind, its attributes (column -> type), and the setting with these."""
    key = "attributes" if kind == "item" else f"{kind}_attributes"
    return getattr(settings, f"{kind}_text"), getattr(settings, key), key


def text_rules(described: Described, kind: str, settings: DatasetSettings) -> TextRules:
    """Check template and attributes against the columns there are. Raises ConfigError for those that cannot be."""
    columns = {name: name for name in (*described.names, f"{kind}_id")} | described.aliases
    template, attributes, key = texts_of(settings, kind)
    if described.rows is None and attributes:
        raise ConfigError(f"dataset.{key}: there is no file of {kind}s to take them from; set "
                          f"dataset.{kind}s=<file>")
    for name in attributes:
        if columns.get(name) not in described.names:
            raise ConfigError(f"dataset.{key}.{name}: the {kind}s have no such column{nearest(name, described.names)}; "
                              f"there are {', '.join(described.names)}")
    known = {columns[name]: what for name, what in attributes.items()}
    if known.get("title") == "image":
        raise ConfigError(f"dataset.{key}: an image cannot be the title, which is for reading; leave the title out of "
                          f"the attributes")
    for name in columns_of(template):
        if known.get(columns.get(name, name)) == "image":
            raise ConfigError(f"dataset.{kind}_text={template}: '{name}' is an image by dataset.{key}, which cannot be "
                              f"read in a text; leave it out")
    if kind == "user" and HISTORY in columns and HISTORY in columns_of(template):
        raise ConfigError(f"dataset.user_text={template}: {{{HISTORY}}} is the titles of the training history, but the "
                          f"users have a column '{HISTORY}' too; rename that in the file")
    columns |= {HISTORY: HISTORY} if kind == "user" else {}
    parsed = Template(template, columns, f"dataset.{kind}_text") if template else None
    return TextRules(kind, parsed, known, settings.list_separator, settings.max_text_length, settings.strip_html)


def fit_classes(rules: TextRules, catalogue: Table, described: Described) -> TextRules:
    """Return the rules with the classes of numbers, fitted on those that training names (`rank` 0) and no others.

    Groups that only have members are all alike in that, and then all of them count.
    """
    columns = dict(zip(described.names, described.columns(), strict=True))
    numbers = {name: columns[name] for name, what in rules.attributes.items() if what == "number"}
    if not numbers:
        return rules
    assert described.rows is not None
    trained = described.rows.semi_join(catalogue.filter(catalogue["rank"] == scalar(catalogue["rank"].min())),
                                       f"{rules.kind}_id")
    return replace(rules, edges=fit_edges(trained, numbers))


def entity_batches(catalogue: Table, described: Described, rules: TextRules, target: pa.Schema,
                   counts: dict[str, int], histories: Histories | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of items.parquet or its like in order; adds to counts[<kind>s_without_text]."""
    kind = rules.kind
    counts[f"{kind}s_without_text"] = 0
    for batch in _in_order(catalogue, described, kind):
        for part in _bounded(batch):
            numbers, ids, *own = (column.cast(pa.string()) if n else column.cast(pa.int64())
                                  for n, column in enumerate(part.columns))
            titles, texts, attributes = _told(numbers, ids, own, described.names, rules, histories)
            counts[f"{kind}s_without_text"] += pc.sum(pc.equal(texts, "")).as_py()
            yield pa.RecordBatch.from_arrays([numbers, ids, titles, texts, attributes, *own],
                                             schema=target)


def _in_order(catalogue: Table, described: Described, kind: str) -> Iterator[pa.RecordBatch]:
    """Yield number, id and own columns by number."""
    key = f"{kind}_id"
    if described.rows is None:
        yield from batches(catalogue.select(kind, key).order_by(kind), _BATCH)
        return
    num, step = size(catalogue), max(1, _SORTED // (described.width + 1))
    for first in range(0, num, step):
        some, said = catalogue, described.rows
        if step < num:
            some = catalogue.filter(catalogue[kind].between(first, first + step - 1))
            said = said.semi_join(some, key)
        rows = some.left_join(said, key).select(kind, key, *described.columns())
        yield from batches(rows.order_by(kind), max(1, min(_BATCH, _MOST_CHARACTERS // (described.width + 1))))


def _told(numbers: pa.Array, ids: pa.Array, own: list[pa.Array], names: Sequence[str], rules: TextRules,
          histories: Histories | None) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the arrays of titles, texts and attributes of some entities."""
    if rules.template is None and not rules.used(names):
        # Nothing is said of them, which may be millions: no need to look at each.
        nothing = pa.ListArray.from_arrays(pa.array(np.zeros(len(ids) + 1, np.int32)), pa.array([], pa.string()))
        return ids, pa.repeat(pa.scalar(""), len(ids)), nothing
    used = rules.used(names)
    columns = {name: column.to_pylist() for name, column in zip(names, own, strict=True) if name in used}
    read = None
    if rules.needs_history:
        assert histories is not None
        # Numbers go up by one from row to row.
        read = histories.between(numbers[0].as_py(), numbers[-1].as_py() + 1)
    told = tell(ids.to_pylist(), columns, rules, read)
    return (pa.array(told.titles, pa.string()), pa.array(told.texts, pa.string()),
            pa.array(told.attributes, pa.list_(pa.string())))


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts that have few bytes of text: a few long texts must not become thousands in memory."""
    sizes = np.zeros(len(batch), np.int64)
    for column in batch.columns[1:]:
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    parts = np.cumsum(sizes) // _MOST_CHARACTERS
    cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(batch)]
    for start, stop in pairwise(cuts):
        if stop > start:
            yield batch.slice(start, stop - start)
