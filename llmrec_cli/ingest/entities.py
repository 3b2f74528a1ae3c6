"""Items and users: numbered by who is trained on, with titles, texts and attributes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.engine import batches, materialised, read_staged, size
from llmrec_cli.ingest.rejects import Reject
from llmrec_cli.ingest.staging import Staged
from llmrec_cli.ingest.templates import Template, join_all, json_array, values_of
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.dataset import DatasetSettings

NAMED_BY = ("train", "valid", "test")
_BATCH = 4096


@dataclass(frozen=True)
class Described:
    """What a file says of items or users: one row per id.

    Attributes
    ----------
    rows : ibis table of the id, then own columns as c1, c2, ...; None without a file
    names : what c1, c2, ... are called
    aliases : what the file calls one of our columns -> our name
    """

    rows: Table | None = None
    names: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextRules:
    """How titles, texts and attributes are made from a row's columns."""

    template: Template | None
    join_columns: bool
    attributes: Mapping[str, str]
    list_separator: str
    max_length: int


def describe(connection: Backend, staged: Staged | None, kind: str, account: Account) -> Described:
    """Return the items or users (`kind`: item | user) of a staged file.

    A row without an id joins the rejects. Of several rows with one id the one whose columns sort first is kept.
    """
    if staged is None:
        return Described()
    raw = read_staged(connection, staged.path)
    empty = raw.filter(raw.c0.fill_null("") == "").select("file", "line").order_by("file", "line")
    staged.rejects += [Reject(str(staged.sources[row["file"]].path), row["line"], f"{kind}_id", "is empty")
                       for row in empty.to_pyarrow().to_pylist()]
    own = [f"c{n}" for n in range(1, len(staged.names))]
    sound = raw.filter(raw.c0.fill_null("") != "")
    place = ibis.row_number().over(group_by="c0", order_by=[ibis.asc(sound[c], nulls_first=False) for c in own] or "c0")
    first = sound.mutate(place=place).filter(lambda t: t.place == 0).drop("place", "file", "line")
    rows = materialised(first.rename({f"{kind}_id": "c0"}))
    account.counts |= {f"{kind}s_read": sum(staged.num_read), f"{kind}s_rejected": len(staged.rejects),
                       f"{kind}s_repeated": size(sound) - size(rows)}
    return Described(rows, staged.names[1:], staged.aliases)


def number(interactions: Table, described: Described, kind: str, only_named: bool) -> Table:
    """Return the catalogue: <kind> (int64 number), <kind>_id, rank (0 to 2: named by train, valid, test; 3: none).

    Numbers go by rank, then id, so that what is held out never moves a number that is trained on.
    """
    key = f"{kind}_id"
    rank = ibis.cases(*((interactions.split == s, n) for n, s in enumerate(NAMED_BY)))
    ranked = interactions.select(key, rank=rank.cast("int64"))
    if described.rows is not None:
        known = described.rows.select(key, rank=ibis.literal(len(NAMED_BY), "int64"))
        ranked = ranked.union(known.semi_join(interactions, key) if only_named else known)
    best = ranked.group_by(key).agg(rank=ranked["rank"].min())
    place = ibis.row_number().over(order_by=[best["rank"], best[key]])
    return materialised(best.mutate(**{kind: place.cast("int32").cast("int64")}))


def schema(described: Described, kind: str) -> pa.Schema:
    """Return the schema of items.parquet or users.parquet; own columns that have one of our names get a '_'."""
    ours = [(kind, pa.int64()), (f"{kind}_id", pa.string()), ("title", pa.string()), ("text", pa.string()),
            ("attributes", pa.list_(pa.string()))]
    taken = {name for name, _ in ours}
    own = []
    for name in described.names[_num_ours(described):]:
        while name in taken:
            name += "_"
        taken.add(name)
        own.append((name, pa.string()))
    return pa.schema([*ours, *own])


def _num_ours(described: Described) -> int:
    """Return 1 when the first column is the title, which is written as a column of ours."""
    return int(described.names[:1] == ["title"])


def text_rules(described: Described, kind: str, settings: DatasetSettings) -> TextRules:
    """Check template and attributes against the columns there are. Raises ConfigError for unknown ones."""
    columns = {name: name for name in (*described.names, f"{kind}_id")} | described.aliases
    template, attributes = ((settings.item_text, settings.attributes) if kind == "item" else
                            (settings.user_text, settings.user_attributes))
    key = "attributes" if kind == "item" else "user_attributes"
    if described.rows is None and attributes:
        raise ConfigError(f"dataset.{key}: there is no file of {kind}s to take them from; set dataset.{kind}s=<file>")
    for name in attributes:
        if name not in columns:
            raise ConfigError(f"dataset.{key}.{name}: the {kind}s have no such column{nearest(name, described.names)}; "
                              f"there are {', '.join(described.names)}")
    parsed = Template(template, columns, f"dataset.{kind}_text") if template else None
    known = {columns[name]: what for name, what in attributes.items()}
    return TextRules(parsed, kind == "item", known, settings.list_separator, settings.max_text_length)


def entity_batches(catalogue: Table, described: Described, kind: str, rules: TextRules,
                   target: pa.Schema, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of items.parquet or users.parquet in order; adds to counts[<kind>s_without_text]."""
    key = f"{kind}_id"
    rows = catalogue if described.rows is None else catalogue.left_join(described.rows, key).drop(f"{key}_right")
    own = [f"c{n}" for n in range(1, len(described.names) + 1)]
    counts[f"{kind}s_without_text"] = 0
    for batch in batches(rows.order_by(kind).select(kind, key, *own), _BATCH):
        ids = batch.column(1).to_pylist()
        columns = [batch.column(2 + n).to_pylist() for n in range(len(own))]
        titles, texts, lists = [], [], []
        for n, name in enumerate(ids):
            values = {c: v for c, v in zip(described.names, (c[n] for c in columns), strict=True) if v}
            title, text, attributes = told(values, name, kind, rules)
            titles.append(title)
            texts.append(text)
            lists.append(attributes)
        counts[f"{kind}s_without_text"] += texts.count("")
        kept = [batch.column(2 + n).cast(pa.string()) for n in range(_num_ours(described), len(own))]
        ours = [batch.column(0).cast(pa.int64()), pa.array(ids, pa.string()), pa.array(titles, pa.string()),
                pa.array(texts, pa.string()), pa.array(lists, pa.list_(pa.string()))]
        yield pa.RecordBatch.from_arrays([*ours, *kept], schema=target)


def told(values: dict[str, str], name: str, kind: str, rules: TextRules) -> tuple[str, str, list[str]]:
    """Return the title, text and attributes of one entity."""
    attributes = []
    shown = dict(values)
    for column, value in values.items():
        listed = rules.attributes.get(column) == "list"
        if listed or json_array(value) is not None:
            parts = values_of(value, rules.list_separator)
            shown[column] = ", ".join(parts)
            attributes += [f"{column}={part}" for part in parts] if listed else []
        elif column in rules.attributes and value.strip():
            attributes.append(f"{column}={value.strip()}")
    title = shown.get("title", "").strip() or name
    if rules.template is not None:
        text = rules.template.render({**shown, f"{kind}_id": name})
    else:
        text = join_all(shown) if rules.join_columns else ""
    return title, text[:rules.max_length], sorted(attributes)
