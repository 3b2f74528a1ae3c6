"""Knowledge: triples about entities, some of which are items. What links them is looked at before it is believed."""

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, materialised, read_staged, size
from llmrec_cli.ingest.knowledge.link_checks import (
    FEWEST,
    LEAST_Z,
    Association,
    Difference,
    association,
    differences,
    sampled,
)
from llmrec_cli.ingest.knowledge.links import Graph, counterparts, link_by_columns, unambiguous
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.writing import typed, write_table
from llmrec_cli.ingest.readers.cells import refuse_arrays
from llmrec_cli.ingest.readers.checks import reject_empty
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.readers.staging import Staged, stage
from llmrec_cli.ingest.texts.catalogue import Described, describe
from llmrec_cli.settings.dataset import DatasetSettings

TRIPLES = pa.schema([("head", pa.string()), ("relation", pa.string()), ("tail", pa.string())])
ENTITIES = pa.schema([("entity_id", pa.string()), ("title", pa.string())])
_TITLES = ("title", "name", "label")
"""Columns of dataset.knowledge.entities that say what an entity is called; the first there is."""
LINKS = pa.schema([("item", pa.int64()), ("item_id", pa.string()), ("entity_id", pa.string())])
_SHOWN = 5
_WORDS = 40
_LOOK = "look at links.parquet"


def read_knowledge(connection: BaseBackend, sources: Sources, scratch: Path, account: Account) -> Graph | None:
    """Return the knowledge graph, or None without triples. Unsound rows join the rejects of `staged`."""
    if not sources.triples:
        return None
    triples, files = _distinct(connection, sources.triples, scratch, "triples", tuple(TRIPLES.names), account)
    loops = triples["head"] == triples["tail"]
    account.counts["triples_of_itself"] = size(triples.filter(loops))
    triples = triples.filter(~loops)
    staged, entities, links = [files], Described(), None
    if sources.entities:
        described = stage(sources.entities, scratch / "entities.staged", ("entity_id",), (), rest=True)
        counted = Account()
        entities = describe(connection, described, "entity", counted)
        account.counts |= {f"entities_{what}": counted.counts[f"entitys_{what}"]
                           for what in ("read", "rejected", "repeated")}
        staged.append(described)
    if sources.links:
        links, files = _distinct(connection, sources.links, scratch, "links", ("item_id", "entity_id"), account)
        staged.append(files)
    return Graph(triples, entities, links, staged, scratch)


def _distinct(connection: BaseBackend, sources: list[Source], scratch: Path, kind: str, columns: tuple[str, ...],
              account: Account) -> tuple[Table, Staged]:
    """Return each row of `columns` once, and the staged files; a row with an empty field joins their rejects."""
    staged = stage(sources, scratch / f"{kind}.staged", columns, ())
    raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
    reject_empty(raw, staged, columns)
    # Heads and tails may be any words, in brackets too.
    refuse_arrays(raw, staged, [name for name in columns if name.endswith("_id")])
    sound = raw.filter(*(raw[name].fill_null("") != "" for name in columns)).select(*columns)
    rows = materialised(sound.distinct())
    read, rejected = sum(staged.num_read), len(staged.rejects)
    account.counts |= {f"{kind}_read": read, f"{kind}_rejected": rejected,
                       f"{kind}_repeated": read - rejected - size(rows)}
    return rows, staged


def write_knowledge(folder: Path, graph: Graph, items: Described, catalogue: Table, settings: DatasetSettings,
                    account: Account) -> list[str]:
    """Write triples.parquet, links.parquet and, with titles, entities.parquet; return the hashes of their content.

    `catalogue` has item and item_id. Notes, warnings and `graph.report` say what is linked and what contradicts it.
    Raises ConfigError for columns to link on that items or entities do not have.
    """
    compared = counterparts(graph, items, settings.knowledge)
    links = _links(graph, items, catalogue, settings, account)
    ordered = graph.triples.order_by(*TRIPLES.names).select(*TRIPLES.names)
    content = [write_table(folder / "triples.parquet", TRIPLES, typed(TRIPLES, ordered)),
               write_table(folder / "links.parquet", LINKS,
                           typed(LINKS, links.order_by("item").select(*LINKS.names)))]
    content += _write_entities(folder, graph)
    _count(graph, links, catalogue, account)
    sample = sampled(links)
    used = {items.aliases.get(column, column) for column in settings.knowledge.link_on}
    different = differences(graph, items, sample, [of for column, of in compared.items() if column not in used],
                            settings)
    alike = association(graph, items, sample, settings)
    examples = _examples(graph, items, sample)
    account.notes += notes(account.counts, examples, alike)
    account.warnings += warnings(account.counts, settings.knowledge.link_on, different, alike)
    graph.report |= {"counts": {key: account.counts[key] for key in _COUNTS}, "examples": examples,
                     "association": vars(alike) if alike else None,
                     "differences": [{"column": d.of.column, "entities": d.of.name, "pairs": d.num_pairs,
                                      "different": d.num_different, "examples": d.examples} for d in different]}
    return content


def _write_entities(folder: Path, graph: Graph) -> list[str]:
    """Write what entities in triples are called, where a file says so, and return the hash of it."""
    known = [name for name in _TITLES if name in graph.entities.names]
    if graph.entities.rows is None or not known:
        return []
    title = f"c{graph.entities.names.index(known[0]) + 1}"
    called = graph.entities.rows.semi_join(_ends(graph.triples), "entity_id").select("entity_id", title=title)
    called = called.filter(called.title.fill_null("") != "").order_by("entity_id")
    return [write_table(folder / "entities.parquet", ENTITIES, typed(ENTITIES, called))]


def _links(graph: Graph, items: Described, catalogue: Table, settings: DatasetSettings, account: Account) -> Table:
    """Return item, item_id and entity_id of the links that are unambiguous and known on both sides."""
    if graph.links is not None:
        found = graph.links
    elif settings.knowledge.link_on:
        found = link_by_columns(graph, items, catalogue, settings.knowledge)
    else:
        found = catalogue.limit(0).select("item_id", entity_id="item_id")
    pairs, ambiguous = unambiguous(found, shared=graph.links is not None)
    of_items = materialised(pairs.inner_join(catalogue.select("item", "item_id"), "item_id")
                            .select("item", "item_id", "entity_id"))
    links = materialised(of_items.semi_join(_ends(graph.triples), "entity_id"))
    account.counts |= {"links_ambiguous": ambiguous, "links_unknown_item": size(pairs) - size(of_items),
                       "links_unknown_entity": size(of_items) - size(links), "items_linked": size(links)}
    return links


def _ends(triples: Table) -> Table:
    """Return entity_id of all that triples name."""
    return triples.select(entity_id="head").union(triples.select(entity_id="tail"), distinct=True)


_COUNTS = ("triples", "entities", "relations", "items_linked", "items_unlinked", "links_ambiguous",
           "links_unknown_item", "links_unknown_entity", "triples_of_items", "entities_unused")


def _count(graph: Graph, links: Table, catalogue: Table, account: Account) -> None:
    triples, entities = graph.triples, materialised(_ends(graph.triples))
    heads, tails = links.select(head="entity_id"), links.select(tail="entity_id")
    by_head, by_tail = triples.semi_join(heads, "head"), triples.anti_join(heads, "head").semi_join(tails, "tail")
    unused = 0 if graph.entities.rows is None else size(graph.entities.rows.anti_join(entities, "entity_id"))
    account.counts |= {"triples": size(triples), "entities": size(entities),
                       "relations": size(triples.select("relation").distinct()),
                       "items_unlinked": size(catalogue) - account.counts["items_linked"],
                       "triples_of_items": size(by_head) + size(by_tail), "entities_unused": unused}


def _examples(graph: Graph, items: Described, sample: Table) -> list[dict[str, Any]]:
    """Return some links to look at: item_id, title, entity_id, and what is known of the entity."""
    few = sample.order_by(sample.item_id.hexdigest("md5"), sample.item_id).limit(_SHOWN)
    titles: dict[str, str | None] = {}
    if items.rows is not None and "title" in items.names:
        place = f"c{items.names.index('title') + 1}"
        titles = {row["item_id"]: row[place] for row in collect(items.rows.semi_join(few, "item_id")).to_pylist()}
    described: dict[str, dict[str, Any]] = {}
    if graph.entities.rows is not None:
        described = {row["entity_id"]: row for row in
                     collect(graph.entities.rows.semi_join(few, "entity_id")).to_pylist()}
    triples = graph.triples.rename(entity_id="head")
    place = ibis.row_number().over(group_by="entity_id", order_by=[triples.relation, triples.tail])
    first = triples.semi_join(few, "entity_id").mutate(place=place).filter(lambda t: t.place < _SHOWN)
    told: dict[str, list[str]] = {}
    for row in collect(first.order_by("entity_id", "place")).to_pylist():
        told.setdefault(row["entity_id"], []).append(f"{row['relation']} {row['tail']}")
    found = []
    for row in collect(few).to_pylist():
        entity = row["entity_id"]
        own = [f"{name} {described[entity][f'c{n}']}" for n, name in enumerate(graph.entities.names, start=1)
               if entity in described and described[entity][f"c{n}"]]
        found.append({**row, "title": titles.get(row["item_id"]) or "", "known": own or told.get(entity, [])})
    return found


def notes(counts: dict[str, int], examples: list[dict[str, Any]], alike: Association | None) -> list[str]:
    """Return what a person should know of the knowledge, one sentence each."""
    items = counts["items_linked"] + counts["items_unlinked"]
    share = counts["triples_of_items"] / max(counts["triples"], 1)
    found = [f"{counts['items_linked']:,} of {items:,} items ({counts['items_linked'] / max(items, 1):.1%}) are linked "
             f"to an entity, {counts['items_unlinked']:,} are not; {counts['triples_of_items']:,} of "
             f"{counts['triples']:,} triples ({share:.1%}) are about linked items; {counts['entities']:,} entities, "
             f"{counts['relations']:,} relations"]
    found += [f"{counts[key]:,} {why}" for key, why in _NOTES if counts.get(key)]
    for one in examples:
        known = "; ".join(one["known"])
        title = f"'{one['title']}' " if one["title"] else ""
        found.append(f"linked, to look at: item {one['item_id']} {title}is entity {one['entity_id']}"
                     f"{': ' + known[:_WORDS * 4] if known else ''}")
    if alike is not None and alike.z >= LEAST_Z:
        found.append(f"items that are alike are alike as entities too: {alike.z:.0f} standard deviations above "
                     f"shuffled links (over {alike.num_items:,} linked items), so the links are likely to be right")
    elif alike is None and counts["items_linked"]:
        found.append(f"whether the links are right cannot be told from what items and entities share: that takes at "
                     f"least {FEWEST} linked items with attributes and triples; {_LOOK}")
    return found


_NOTES = (("triples_rejected", "rows of dataset.knowledge are bad; rejects.parquet lists them"),
          ("triples_repeated", "rows of dataset.knowledge repeat a triple; each counts once"),
          ("triples_of_itself", "triples join an entity to itself, which says nothing; they are left out"),
          ("entities_rejected", "rows of dataset.knowledge.entities are bad; rejects.parquet lists them"),
          ("entities_repeated", "rows of dataset.knowledge.entities repeat an id; the one whose columns sort first is "
                                "kept"),
          ("entities_unused", "entities of dataset.knowledge.entities are in no triple"),
          ("links_rejected", "rows of dataset.links are bad; rejects.parquet lists them"),
          ("links_repeated", "rows of dataset.links repeat a link; each counts once"),
          ("links_unknown_item", "links are of items that are not among the items; they are left out"),
          ("links_unknown_entity", "links are to entities that no triple names; they are left out"))


def warnings(counts: dict[str, int], link_on: list[str], different: list[Difference],
             alike: Association | None) -> list[str]:
    """Return what is likely to be wrong, and what to do."""
    by_file = "links_read" in counts
    doubt = (f"{_LOOK}; is this the link file of another data set?" if by_file else
             f"{_LOOK}; is dataset.knowledge.link_on=[{','.join(link_on)}] enough to tell items apart?")
    found = []
    if counts["links_ambiguous"]:
        found.append(f"{counts['links_ambiguous']:,} links are left out, since they give an item several entities" +
                     ("; keep one of them in dataset.links" if by_file else
                      " or an entity several items; link on more columns to tell them apart"))
    if not counts["items_linked"]:
        found.append("no item is linked to an entity, so that the knowledge says nothing of items; " +
                     (f"dataset.links has {counts['links_unknown_item']:,} links of unknown items and "
                      f"{counts['links_unknown_entity']:,} to unknown entities; is it of another data set?" if by_file
                      else "is the spelling another? look at both files" if link_on
                      else "set dataset.links=<file>, or dataset.knowledge.link_on=[title,year], or "
                           "link_on=[item_id] where entities have the items' ids"))
    for one in different:
        if one.contradicts:
            item, ours, entity, theirs = one.examples[0]
            found.append(f"linked entities contradict their items: '{one.of.column}' differs from '{one.of.name}' in "
                         f"{one.num_different:,} of {one.num_pairs:,} links "
                         f"({one.num_different / one.num_pairs:.0%}); item {item} has '{ours[:_WORDS]}', its entity "
                         f"{entity} '{theirs[:_WORDS]}'; {doubt}")
    if alike is not None and alike.z < LEAST_Z:
        found.append(f"linked entities have nothing to do with their items: over {alike.num_items:,} links, items that "
                     f"share attributes share no more in the knowledge than when the links are shuffled (z = "
                     f"{alike.z:.1f}; right links give 10 and more); {doubt}")
    return found
