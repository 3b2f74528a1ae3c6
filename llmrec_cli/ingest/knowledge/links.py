"""Links from items to entities of a knowledge graph: from a file, or by columns that items and entities share."""

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
from llmrec_cli.ingest.engine import batches, collect, materialise, read_staged, size
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.ingest.texts.catalogue import Descriptions
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
    triples : head, relation, tail, without repeats
    entities : the columns of the entity file, by entity_id
    links : item_id, entity_id, without repeats; None without a link file
    staged : the staged files, with their rejects
    scratch : folder for temporary files
    report : findings about links and contradictions, for audit.json; filled when the knowledge is written
    """

    triples: Table
    entities: Descriptions
    links: Table | None
    staged: list[StagedFiles]
    scratch: Path
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counterpart:
    """A column or relation of entities with the same meaning as a column of items.

    Attributes
    ----------
    column : the item's column
    name : the column of the entities, or the relation whose tails are the values
    of_entities : True for a column of the entities, False for a relation
    by_settings : True if the settings name it, False if it only has the same name
    """

    column: str
    name: str
    of_entities: bool
    by_settings: bool


def find_counterparts(graph: Graph, items: Descriptions, settings: KnowledgeSettings) -> dict[str, Counterpart]:
    """Return item column -> counterpart, for the columns in the settings and for columns of equal names.

    Raises ConfigError if the items, or the entities, lack a column of link_on or relations.
    """
    named = ["entity_id", *graph.entities.names]
    relations = collect(graph.triples.select("relation").distinct().order_by("relation"))["relation"].to_pylist()
    columns = ["item_id", *items.names]
    wanted = [("link_on", column) for column in settings.link_on] + [("relations", c) for c in settings.relations]
    result = {}
    for key, column in wanted:
        ours = items.aliases.get(column, column)
        if ours not in columns:
            raise ConfigError(f"dataset.knowledge.{key}: the items have no column '{column}'"
                              f"{nearest(column, columns)}; there are {_list_names(columns)}")
        theirs = settings.relations.get(column, "entity_id" if ours == "item_id" else ours)
        if theirs not in named and theirs not in relations:
            described = f"the entities have the columns {_list_names(named)}, " if named else ""
            raise ConfigError(f"dataset.knowledge.{key}: the entities have no column or relation '{theirs}'"
                              f"{nearest(theirs, [*named, *relations])}; {described}the relations are "
                              f"{_list_names(relations)}; name the right one with "
                              f"dataset.knowledge.relations={{{column}: <name>}}")
        result[ours] = Counterpart(ours, theirs, theirs in named, True)
    for column in items.names:
        if column not in result and (column in named or column in relations):
            result[column] = Counterpart(column, column, column in named, False)
    return result


def _list_names(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def item_values(items: Descriptions, catalogue: Table, column: str) -> Table:
    """Return item_id and value (text) of the items in the catalogue; items without a description are left out."""
    if column == "item_id":
        return catalogue.select("item_id", value="item_id")
    assert items.rows is not None
    own = f"c{items.names.index(column) + 1}"
    return items.rows.semi_join(catalogue, "item_id").select("item_id", value=own)


def entity_values(graph: Graph, of: Counterpart) -> Table:
    """Return entity_id and value (text), with one row for each value of an entity."""
    if not of.of_entities:
        return graph.triples.filter(graph.triples.relation == of.name).select(entity_id="head", value="tail")
    if of.name == "entity_id":
        return graph.triples.select(entity_id="head").union(graph.triples.select(entity_id="tail"),
                                                            distinct=True).mutate(value=lambda t: t.entity_id)
    assert graph.entities.rows is not None
    return graph.entities.rows.select("entity_id", value=f"c{graph.entities.names.index(of.name) + 1}")


def link_by_columns(graph: Graph, items: Descriptions, catalogue: Table, settings: KnowledgeSettings) -> Table:
    """Return item_id, entity_id of all pairs that are equal in all columns of link_on, including ambiguous pairs."""
    counterpart_of = find_counterparts(graph, items, settings)
    # A year in brackets after a title is ignored if there is a column for the year.
    without_year = len(settings.link_on) > 1 or "year" in items.names
    sides: dict[str, Table] = {}
    columns = [items.aliases.get(column, column) for column in dict.fromkeys(settings.link_on)]
    for n, column in enumerate(columns):
        for key, values in (("item_id", item_values(items, catalogue, column)),
                            ("entity_id", entity_values(graph, counterpart_of[column]))):
            values = (values.rename({f"k{n}": "value"}) if column == "item_id" else  # Ids are opaque: no normalising.
                      _normalise_values(graph, values, key, f"k{n}", without_year))
            sides[key] = sides[key].inner_join(values, key) if key in sides else values
    return materialise(sides["item_id"].inner_join(sides["entity_id"], [f"k{n}" for n in range(len(columns))])
                        .select("item_id", "entity_id").distinct())


def _normalise_values(graph: Graph, values: Table, key: str, name: str, without_year: bool) -> Table:
    """Return `key` and `name`, the values normalised by `normalise`; rows without a value are left out."""
    schema = pa.schema([(key, pa.string()), (name, pa.string())])
    path = graph.scratch / f"{key}.{name}.normal"
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for batch in batches(values.filter(values.value.notnull()), _BATCH):
            rows = [(entity, text) for entity, value in zip(*(c.to_pylist() for c in batch.columns), strict=True)
                    for text in normalised_forms(value, without_year)]
            ids, texts = zip(*rows, strict=True) if rows else ((), ())
            writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), pa.array(texts, pa.string())],
                                               schema=schema))
    return read_staged(graph.triples.get_backend(), path).distinct()


def normalised_forms(value: str, without_year: bool) -> Iterator[str]:
    """Yield the normalised forms of a value, or of each value of a JSON array; nothing for empty values."""
    for text in json_array(value) or [value]:
        if form := normalise(text, without_year):
            yield form


def normalise(text: str, without_year: bool) -> str:
    """Normalise text for comparison: NFKC, casefold, article in front, punctuation and blanks as one blank.

    `without_year` removes (1972) at the end. Text that is only punctuation stays as it is.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
    if whole := _WHOLE.fullmatch(folded):
        return whole[1]
    if without_year:
        folded = _YEAR.sub("", folded) or folded
    if moved := _ARTICLE.match(folded):
        folded = f"{moved[2]} {moved[1]}{moved[3] or ''}"
    # \w has no combining marks; without them many words of Indian and Thai scripts would be equal.
    spaced = _NO_WORD.sub(lambda match: match[0] if unicodedata.category(match[0]).startswith("M") else " ", folded)
    return " ".join(spaced.split()) or folded


def drop_ambiguous(pairs: Table, shared: bool) -> tuple[Table, int]:
    """Return the pairs (item_id, entity_id) whose item has no other entity, and the number of dropped pairs.

    Unless `shared`, pairs whose entity has another item are dropped too. A link file may link two items to one entity
    on purpose (MovieLens lists some films twice), while two items equal in a few columns may be different things.
    """
    unique = pairs
    for key in ("item_id",) if shared else ("item_id", "entity_id"):
        counted = pairs.group_by(key).agg(times=pairs.count())
        unique = unique.semi_join(counted.filter(counted.times == 1), key)
    unique = materialise(unique)
    return unique, size(pairs) - size(unique)
