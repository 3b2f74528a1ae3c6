"""The knowledge graph: reading triples and links, checking the links, and writing them."""

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, materialise, read_staged, size
from llmrec_cli.ingest.knowledge.link_checks import (
    FEWEST,
    LEAST_Z,
    Association,
    Difference,
    compare_columns,
    sample_links,
    shuffle_test,
)
from llmrec_cli.ingest.knowledge.links import Graph, drop_ambiguous, find_counterparts, link_by_columns
from llmrec_cli.ingest.output.row_accounting import Account, count_notes
from llmrec_cli.ingest.output.writing import cast_batches, write_table
from llmrec_cli.ingest.readers.cells import refuse_arrays
from llmrec_cli.ingest.readers.checks import reject_empty
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.readers.staging import StagedFiles, stage
from llmrec_cli.ingest.texts.catalogue import Descriptions, describe
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.dataset import DatasetSettings

TRIPLES = pa.schema([("head", pa.string()), ("relation", pa.string()), ("tail", pa.string())])
ENTITIES = pa.schema([("entity_id", pa.string()), ("title", pa.string())])
_TITLES = ("title", "name", "label")
"""Columns of dataset.knowledge.entities used as an entity's title; the first present one counts."""
LINKS = pa.schema([("item", pa.int64()), ("item_id", pa.string()), ("entity_id", pa.string())])
_NUM_EXAMPLES = 5
_WORDS = 40


def read_knowledge(connection: BaseBackend, sources: Sources, scratch: Path, account: Account) -> Graph | None:
    """Return the knowledge graph, or None without triples. Unsound rows are added to the rejects of `staged`."""
    if not sources.triples:
        return None
    triples, files = _distinct(connection, sources.triples, scratch, "triples", tuple(TRIPLES.names), account)
    loops = triples["head"] == triples["tail"]
    account.counts["triples_of_itself"] = size(triples.filter(loops))
    triples = triples.filter(~loops)
    staged, entities, links = [files], Descriptions(), None
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
              account: Account) -> tuple[Table, StagedFiles]:
    """Return the distinct rows of `columns`, and the staged files; rows with an empty field are rejected."""
    staged = stage(sources, scratch / f"{kind}.staged", columns, ())
    raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
    reject_empty(raw, staged, columns)
    # Heads and tails may be any text, also in brackets.
    refuse_arrays(raw, staged, [name for name in columns if name.endswith("_id")])
    sound = raw.filter(*(raw[name].fill_null("") != "" for name in columns)).select(*columns)
    rows = materialise(sound.distinct())
    read, rejected = sum(staged.num_read), len(staged.rejects)
    account.counts |= {f"{kind}_read": read, f"{kind}_rejected": rejected,
                       f"{kind}_repeated": read - rejected - size(rows)}
    return rows, staged


def write_knowledge(folder: Path, graph: Graph, items: Descriptions, catalogue: Table, settings: DatasetSettings,
                    account: Account) -> list[str]:
    """Write triples.parquet, links.parquet and, if there are titles, entities.parquet; return their content hashes.

    `catalogue` has item and item_id. Notes, warnings and `graph.report` describe the links and contradictions. Raises
    ConfigError if items or entities lack a column of link_on.
    """
    compared = find_counterparts(graph, items, settings.knowledge)
    links = _links(graph, items, catalogue, settings, account)
    ordered = graph.triples.order_by(*TRIPLES.names).select(*TRIPLES.names)
    content = [write_table(folder / "triples.parquet", TRIPLES, cast_batches(TRIPLES, ordered)),
               write_table(folder / "links.parquet", LINKS,
                           cast_batches(LINKS, links.order_by("item").select(*LINKS.names)))]
    content += _write_entities(folder, graph)
    _count(graph, links, catalogue, account)
    sample = sample_links(links)
    used = {items.aliases.get(column, column) for column in settings.knowledge.link_on}
    different = compare_columns(graph, items, sample, [of for column, of in compared.items() if column not in used],
                            settings)
    alike = shuffle_test(graph, items, sample, settings)
    examples = _examples(graph, items, sample)
    account.notes += notes(account.counts, examples, alike)
    account.warnings += warnings(account.counts, settings.knowledge.link_on, different, alike)
    graph.report |= {"counts": {key: account.counts[key] for key in _COUNTS}, "examples": examples,
                     "association": vars(alike) if alike else None,
                     "differences": [{"column": d.of.column, "entities": d.of.name, "pairs": d.num_pairs,
                                      "different": d.num_different, "examples": d.examples} for d in different]}
    return content


def _write_entities(folder: Path, graph: Graph) -> list[str]:
    """Write the titles of the entities in triples, if a file has them, and return the content hash."""
    present = [name for name in _TITLES if name in graph.entities.names]
    if graph.entities.rows is None or not present:
        return []
    title = f"c{graph.entities.names.index(present[0]) + 1}"
    called = graph.entities.rows.semi_join(_ends(graph.triples), "entity_id").select("entity_id", title=title)
    called = called.filter(called.title.fill_null("") != "").order_by("entity_id")
    return [write_table(folder / "entities.parquet", ENTITIES, cast_batches(ENTITIES, called))]


def _links(graph: Graph, items: Descriptions, catalogue: Table, settings: DatasetSettings, account: Account) -> Table:
    """Return item, item_id and entity_id of the unambiguous links whose item and entity are known."""
    if graph.links is not None:
        links_ = graph.links
    elif settings.knowledge.link_on:
        links_ = link_by_columns(graph, items, catalogue, settings.knowledge)
    else:
        links_ = catalogue.limit(0).select("item_id", entity_id="item_id")
    pairs, ambiguous = drop_ambiguous(links_, shared=graph.links is not None)
    of_items = materialise(pairs.inner_join(catalogue.select("item", "item_id"), "item_id")
                            .select("item", "item_id", "entity_id"))
    links = materialise(of_items.semi_join(_ends(graph.triples), "entity_id"))
    account.counts |= {"links_ambiguous": ambiguous, "links_unknown_item": size(pairs) - size(of_items),
                       "links_unknown_entity": size(of_items) - size(links), "items_linked": size(links)}
    return links


def _ends(triples: Table) -> Table:
    """Return entity_id of all heads and tails."""
    return triples.select(entity_id="head").union(triples.select(entity_id="tail"), distinct=True)


_COUNTS = ("triples", "entities", "relations", "items_linked", "items_unlinked", "links_ambiguous",
           "links_unknown_item", "links_unknown_entity", "triples_of_items", "entities_unused")


def _count(graph: Graph, links: Table, catalogue: Table, account: Account) -> None:
    triples, entities = graph.triples, materialise(_ends(graph.triples))
    heads, tails = links.select(head="entity_id"), links.select(tail="entity_id")
    by_head, by_tail = triples.semi_join(heads, "head"), triples.anti_join(heads, "head").semi_join(tails, "tail")
    unused = 0 if graph.entities.rows is None else size(graph.entities.rows.anti_join(entities, "entity_id"))
    account.counts |= {"triples": size(triples), "entities": size(entities),
                       "relations": size(triples.select("relation").distinct()),
                       "items_unlinked": size(catalogue) - account.counts["items_linked"],
                       "triples_of_items": size(by_head) + size(by_tail), "entities_unused": unused}


def _examples(graph: Graph, items: Descriptions, sample: Table) -> list[dict[str, Any]]:
    """Return example links: item_id, title, entity_id, `known` (columns or triples of the entity), and `note`."""
    few = sample.order_by(sample.item_id.hexdigest("md5"), sample.item_id).limit(_NUM_EXAMPLES)
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
    first = triples.semi_join(few, "entity_id").mutate(place=place).filter(lambda t: t.place < _NUM_EXAMPLES)
    triples_of: dict[str, list[str]] = {}
    for row in collect(first.order_by("entity_id", "place")).to_pylist():
        triples_of.setdefault(row["entity_id"], []).append(f"{row['relation']} {row['tail']}")
    examples = []
    for row in collect(few).to_pylist():
        entity = row["entity_id"]
        own = [f"{name} {described[entity][f'c{n}']}" for n, name in enumerate(graph.entities.names, start=1)
               if entity in described and described[entity][f"c{n}"]]
        example = {**row, "title": titles.get(row["item_id"]) or "", "known": own or triples_of.get(entity, [])}
        examples.append({**example, "note": _example_note(example)})
    return examples


def _example_note(example: dict[str, Any]) -> Phrase:
    facts = "; ".join(example["known"])
    title = f" '{example['title']}'" if example["title"] else ""
    return Phrase("example link to check: item {item}{title} is entity {entity}{facts}", item=example["item_id"],
                  title=title, entity=example["entity_id"], facts=": " + facts[:_WORDS * 4] if facts else "")


def notes(counts: dict[str, int], examples: list[dict[str, Any]], alike: Association | None) -> list[Phrase]:
    """Return notes on the knowledge graph, one sentence each."""
    items = counts["items_linked"] + counts["items_unlinked"]
    lines = [Phrase("{linked:,} of {items:,} items ({linked_share:.1%}) are linked to an entity, {unlinked:,} are not; "
                    "{about:,} of {triples:,} triples ({about_share:.1%}) are about linked items; {entities:,} "
                    "entities, {relations:,} relations", linked=counts["items_linked"], items=items,
                    linked_share=counts["items_linked"] / max(items, 1), unlinked=counts["items_unlinked"],
                    about=counts["triples_of_items"], triples=counts["triples"],
                    about_share=counts["triples_of_items"] / max(counts["triples"], 1), entities=counts["entities"],
                    relations=counts["relations"]), *count_notes(counts, _NOTES)]
    lines += [example["note"] for example in examples]
    if alike is not None and alike.z >= LEAST_Z:
        lines.append(Phrase("the links are probably right: similar items are similar as entities, {z:.0f} standard "
                            "deviations above shuffled links (over {num:,} linked items)", z=alike.z,
                            num=alike.num_items))
    elif alike is None and counts["items_linked"]:
        lines.append(Phrase("the links could not be tested, which takes at least {num} linked items with attributes "
                            "and triples; look at links.parquet", num=FEWEST))
    return lines


_NOTES = (("triples_rejected", "{num:,} rows of dataset.knowledge rejected; listed in rejects.parquet"),
          ("triples_repeated", "{num:,} rows of dataset.knowledge repeat a triple; each counts once"),
          ("triples_of_itself", "{num:,} triples ignored: head and tail are the same entity"),
          ("entities_rejected", "{num:,} rows of dataset.knowledge.entities rejected; listed in rejects.parquet"),
          ("entities_repeated", "{num:,} rows of dataset.knowledge.entities repeat an id; the one whose columns sort "
                                "first is kept"),
          ("entities_unused", "{num:,} entities of dataset.knowledge.entities are in no triple"),
          ("links_rejected", "{num:,} rows of dataset.links rejected; listed in rejects.parquet"),
          ("links_repeated", "{num:,} rows of dataset.links repeat a link; each counts once"),
          ("links_unknown_item", "{num:,} links ignored: item not among the items"),
          ("links_unknown_entity", "{num:,} links ignored: entity in no triple"))


def warnings(counts: dict[str, int], link_on: list[str], different: list[Difference],
             alike: Association | None) -> list[Phrase]:
    """Return warnings about the links, with the next step."""
    by_file = "links_read" in counts
    doubt = (Phrase("look at links.parquet; is this the link file of another data set?") if by_file else
             Phrase("look at links.parquet; is {setting} enough to identify an item?",
                    setting=f"dataset.knowledge.link_on=[{','.join(link_on)}]"))
    lines = []
    if counts["links_ambiguous"]:
        num = counts["links_ambiguous"]
        lines.append(Phrase("{num:,} links ignored: they link an item to several entities; keep one link per item in "
                            "dataset.links", num=num) if by_file else
                     Phrase("{num:,} links ignored: they link an item to several entities or an entity to several "
                            "items; link on more columns", num=num))
    if not counts["items_linked"]:
        advice = (Phrase("dataset.links has {items:,} links of unknown items and {entities:,} to unknown entities; is "
                         "it of another data set?", items=counts["links_unknown_item"],
                         entities=counts["links_unknown_entity"]) if by_file
                  else Phrase("compare the spelling in both files") if link_on
                  else Phrase("set dataset.links=<file>, or dataset.knowledge.link_on=[title,year], or "
                              "link_on=[item_id] if entities have the ids of items"))
        lines.append(Phrase("no item is linked to an entity, so the knowledge has no effect; {advice}", advice=advice))
    for one in different:
        if one.contradicts:
            item, ours, entity, theirs = one.examples[0]
            lines.append(Phrase("linked entities contradict their items: '{column}' differs from '{name}' in {num:,} "
                                "of {total:,} links ({share:.0%}); item {item} has '{ours}', its entity {entity} has "
                                "'{theirs}'; {doubt}", column=one.of.column, name=one.of.name, num=one.num_different,
                                total=one.num_pairs, share=one.num_different / one.num_pairs, item=item,
                                ours=ours[:_WORDS], entity=entity, theirs=theirs[:_WORDS], doubt=doubt))
    if alike is not None and alike.z < LEAST_Z:
        lines.append(Phrase("linked entities are probably not their items: over {num:,} links, similar items are no "
                            "more similar as entities than with shuffled links (z = {z:.1f}; right links give 10 and "
                            "more); {doubt}", num=alike.num_items, z=alike.z, doubt=doubt))
    return lines
