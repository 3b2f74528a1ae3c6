"""Links from items to entities of a knowledge graph: by a file, or by the columns that both have."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr.types import Table

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import batches, collect, materialised, read_staged, size
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.ingest.texts.catalogue import Described
from llmrec_cli.ingest.texts.templates import json_array
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.dataset import KnowledgeSettings

_BATCH = 1 << 14
_NO_WORD = re.compile(r"[^\w]|_")
_YEAR = re.compile(r"\s*[(（\[]\d{4}[)）\]]\s*$")
_WHOLE = re.compile(r"(\d+)\.0+")
_ARTICLE = re.compile(r"^([^()]*), (the|a|an|la|le|les|l['’]|il|lo|gli|el|los|las|der|die|das|den|dem|een|het|os|as"
                      r"|um|uma|un|una|une|ein|eine|en|ett|det)( \(.*\))?$")


@dataclass
class Graph:
    """The knowledge graph as read from files.

    Attributes
    ----------
    triples : head, relation, tail, each triple once
    entities : what the file of entities says, by entity_id
    links : item_id, entity_id, each pair once; None without a file of links
    staged : the files, whose rejects are to be looked at
    scratch : a folder for what does not outlive the run
    report : what was found of links and contradictions, for audit.json, once the knowledge is written
    """

    triples: Table
    entities: Described
    links: Table | None
    staged: list[Staged]
    scratch: Path
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counterpart:
    """A relation of entities that means the same as a column of items.

    Attributes
    ----------
    column : the item's column
    name : the column of the entities, or the relation whose tails are the values
    of_entities : whether it is a column
    by_settings : whether the settings say so, else it has the same name
    """

    column: str
    name: str
    of_entities: bool
    by_settings: bool


def counterparts(graph: Graph, items: Described, settings: KnowledgeSettings) -> dict[str, Counterpart]:
    """Return item column -> its counterpart, for all that settings name and all columns whose names are the same.

    Raises ConfigError for a column of link_on or relations that the items do not have, or nothing says of entities.
    """
    named = ["entity_id", *graph.entities.names]
    relations = collect(graph.triples.select("relation").distinct().order_by("relation"))["relation"].to_pylist()
    columns = ["item_id", *items.names]
    wanted = [("link_on", column) for column in settings.link_on] + [("relations", c) for c in settings.relations]
    found = {}
    for key, column in wanted:
        ours = items.aliases.get(column, column)
        if ours not in columns:
            raise ConfigError(f"dataset.knowledge.{key}: the items have no column '{column}'"
                              f"{nearest(column, columns)}; there are {_shown(columns)}")
        theirs = settings.relations.get(column, "entity_id" if ours == "item_id" else ours)
        if theirs not in named and theirs not in relations:
            described = f"the entities have {_shown(named)}, " if named else ""
            raise ConfigError(f"dataset.knowledge.{key}: nothing says '{theirs}' of the entities"
                              f"{nearest(theirs, [*named, *relations])}; {described}the relations are "
                              f"{_shown(relations)}; name the one that does with "
                              f"dataset.knowledge.relations={{{column}: <name>}}")
        found[ours] = Counterpart(ours, theirs, theirs in named, True)
    for column in items.names:
        if column not in found and (column in named or column in relations):
            found[column] = Counterpart(column, column, column in named, False)
    return found


def _shown(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def item_values(items: Described, catalogue: Table, column: str) -> Table:
    """Return item_id and value (text) of the items of the catalogue; items without a row are left out."""
    if column == "item_id":
        return catalogue.select("item_id", value="item_id")
    assert items.rows is not None
    own = f"c{items.names.index(column) + 1}"
    return items.rows.semi_join(catalogue, "item_id").select("item_id", value=own)


def entity_values(graph: Graph, of: Counterpart) -> Table:
    """Return entity_id and value (text), several rows for an entity with several."""
    if not of.of_entities:
        return graph.triples.filter(graph.triples.relation == of.name).select(entity_id="head", value="tail")
    if of.name == "entity_id":
        return graph.triples.select(entity_id="head").union(graph.triples.select(entity_id="tail"),
                                                            distinct=True).mutate(value=lambda t: t.entity_id)
    assert graph.entities.rows is not None
    return graph.entities.rows.select("entity_id", value=f"c{graph.entities.names.index(of.name) + 1}")


def link_by_columns(graph: Graph, items: Described, catalogue: Table, settings: KnowledgeSettings) -> Table:
    """Return item_id, entity_id of all pairs whose columns link_on are all equal, the ambiguous ones too."""
    found = counterparts(graph, items, settings)
    # A year in brackets after a title is left out where it is compared by itself, or at least could be.
    without_year = len(settings.link_on) > 1 or "year" in items.names
    sides: dict[str, Table] = {}
    columns = [items.aliases.get(column, column) for column in dict.fromkeys(settings.link_on)]
    for n, column in enumerate(columns):
        for key, values in (("item_id", item_values(items, catalogue, column)),
                            ("entity_id", entity_values(graph, found[column]))):
            values = (values.rename({f"k{n}": "value"}) if column == "item_id" else  # Ids are opaque: equal or not.
                      _normalised(graph, values, key, f"k{n}", without_year))
            sides[key] = sides[key].inner_join(values, key) if key in sides else values
    return materialised(sides["item_id"].inner_join(sides["entity_id"], [f"k{n}" for n in range(len(columns))])
                        .select("item_id", "entity_id").distinct())


def _normalised(graph: Graph, values: Table, key: str, name: str, without_year: bool) -> Table:
    """Return `key` and `name`, the values as `normal` writes them; what has none is left out."""
    schema = pa.schema([(key, pa.string()), (name, pa.string())])
    path = graph.scratch / f"{key}.{name}.normal"
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for batch in batches(values.filter(values.value.notnull()), _BATCH):
            rows = [(entity, text) for entity, value in zip(*(c.to_pylist() for c in batch.columns), strict=True)
                    for text in alike(value, without_year)]
            ids, texts = zip(*rows, strict=True) if rows else ((), ())
            writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), pa.array(texts, pa.string())],
                                               schema=schema))
    return read_staged(graph.triples.get_backend(), path).distinct()


def alike(value: str, without_year: bool) -> Iterator[str]:
    """Yield a value, or each of a JSON array's, as `normal` writes it; nothing for what is empty."""
    for text in json_array(value) or [value]:
        if found := normal(text, without_year):
            yield found


def normal(text: str, without_year: bool) -> str:
    """Return text as it is compared: NFKC, in one case, its article in front, punctuation and blanks as one blank.

    `without_year` leaves out (1972) at the end. What is punctuation only stays as it is.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
    if whole := _WHOLE.fullmatch(folded):
        return whole[1]
    if without_year:
        folded = _YEAR.sub("", folded) or folded
    if moved := _ARTICLE.match(folded):
        folded = f"{moved[2]} {moved[1]}{moved[3] or ''}"
    # \w has no combining marks, without which many words of Indian and Thai scripts would be the same.
    spaced = _NO_WORD.sub(lambda found: found[0] if unicodedata.category(found[0]).startswith("M") else " ", folded)
    return " ".join(spaced.split()) or folded


def unambiguous(pairs: Table, shared: bool) -> tuple[Table, int]:
    """Return the pairs (item_id, entity_id) whose item has no other entity, and how many the others are.

    Unless `shared`, an entity has no other item either: a link file may say on purpose that two items are one thing
    (MovieLens lists some films twice), while what is equal in a few columns may be two things.
    """
    kept = pairs
    for key in ("item_id",) if shared else ("item_id", "entity_id"):
        counted = pairs.group_by(key).agg(times=pairs.count())
        kept = kept.semi_join(counted.filter(counted.times == 1), key)
    kept = materialised(kept)
    return kept, size(pairs) - size(kept)
