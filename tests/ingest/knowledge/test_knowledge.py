"""Written triples and links, and the notes and warnings about them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow.parquet as pq
import pytest
from ibis.backends import BaseBackend

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import engine, materialise
from llmrec_cli.ingest.knowledge.links import Graph
from llmrec_cli.ingest.knowledge.triples import read_knowledge, write_knowledge
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.ingest.readers.staging import stage_entities
from llmrec_cli.ingest.texts.catalogue import describe
from llmrec_cli.settings.dataset import FilesSettings, KnowledgeSettings
from llmrec_cli.settings.engine import DuckDbSettings
from tests.ingest.knowledge.test_contradictions import GENRES, NUMBER, opaque, shuffled
from tests.ingest.preparing import source

ITEMS = "item_id,title\na,Alien\nb,Brazil\nc,Clue\n"
TRIPLES = "head,relation,tail\nm2,by,x\nm1,by,y\nm1,by,y\nm3,by,\nz,part_of,m1\n"
LINKS = "item_id,entity_id\na,m1\nb,m2\nb,m2\nnone,x\nc,gone\n"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[BaseBackend]:
    """Return a running DuckDB."""
    (tmp_path / "engine").mkdir()
    with engine(DuckDbSettings(threads=1), tmp_path / "engine") as result:
        yield result


class Written:
    """Written knowledge, with notes and warnings."""

    def __init__(self, connection: BaseBackend, folder: Path, items: str = ITEMS, triples: str = TRIPLES,
                 links: str = LINKS, entities: str = "", **knowledge: Any) -> None:
        self.account = Account()
        files = {"triples": triples, "links": links, "entities": entities}
        sources = Sources([], **{kind: [source(folder, text, f"{kind}.csv")] for kind, text in files.items() if text})
        described = describe(connection, stage_entities([source(folder, items, "items.csv")], "item", folder), "item",
                             Account())
        assert described.rows is not None
        catalogue = materialise(described.rows.select("item_id", item=ibis.row_number().over(order_by="item_id")))
        graph = read_knowledge(connection, sources, folder, self.account)
        assert graph is not None
        self.graph: Graph = graph
        self.folder = folder / "out"
        self.folder.mkdir()
        settings = FilesSettings(attributes={"genres": "list"} if "genres" in items else {},
                                 knowledge=KnowledgeSettings(triples="triples.csv", **knowledge))
        self.hashes = write_knowledge(self.folder, graph, described, catalogue, settings, self.account)

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """Return the rows of a file."""
        return [tuple(row.values()) for row in pq.read_table(self.folder / f"{name}.parquet").to_pylist()]


@pytest.mark.audited
def test_triples_and_links_are_written_once_and_in_order(connection: BaseBackend, tmp_path: Path) -> None:
    written = Written(connection, tmp_path)
    assert written.rows("triples") == [("m1", "by", "y"), ("m2", "by", "x"), ("z", "part_of", "m1")]
    assert written.rows("links") == [(0, "a", "m1"), (1, "b", "m2")]
    rejects = [(r.line, r.column, r.reason) for part in written.graph.staged for r in part.rejects]
    assert rejects == [(5, "tail", "is empty")]
    counts = written.account.counts
    assert {key: counts[key] for key in ("triples", "triples_repeated", "triples_rejected", "entities", "relations",
                                         "items_linked", "items_unlinked", "links_repeated", "links_unknown_item",
                                         "links_unknown_entity", "triples_of_items")} == {
        "triples": 3, "triples_repeated": 1, "triples_rejected": 1, "entities": 5, "relations": 2, "items_linked": 2,
        "items_unlinked": 1, "links_repeated": 1, "links_unknown_item": 1, "links_unknown_entity": 1,
        "triples_of_items": 3}
    assert written.account.warnings == []


@pytest.mark.audited
def test_the_share_of_linked_items_is_reported_with_example_links(connection: BaseBackend, tmp_path: Path) -> None:
    written = Written(connection, tmp_path, entities="entity_id,name\nm1,Alien (film)\nunused,Nothing\n")
    notes = written.account.notes
    assert notes[0] == ("2 of 3 items (66.7%) are linked to an entity, 1 are not; 3 of 3 triples (100.0%) are about "
                        "linked items; 5 entities, 2 relations")
    assert "example link to check: item a 'Alien' is entity m1: name Alien (film)" in notes
    assert "example link to check: item b 'Brazil' is entity m2: by x" in notes
    assert "1 entities of dataset.knowledge.entities are in no triple" in notes
    assert any(note.startswith("the links could not be tested") for note in notes)
    assert written.graph.report["counts"]["items_linked"] == 2
    assert len(written.graph.report["examples"]) == 2


@pytest.mark.slow
@pytest.mark.audited
def test_nothing_depends_on_the_order_of_rows(connection: BaseBackend, tmp_path: Path) -> None:
    def turned(text: str) -> str:
        header, *rows = text.splitlines()
        return "\n".join([header, *rows[::-1]]) + "\n"

    one = Written(connection, tmp_path / "1")
    two = Written(connection, tmp_path / "2", turned(ITEMS), turned(TRIPLES), turned(LINKS))
    assert one.hashes == two.hashes
    assert one.account.notes == two.account.notes


@pytest.mark.audited
def test_links_that_are_ambiguous_are_left_out_with_a_warning(connection: BaseBackend, tmp_path: Path) -> None:
    written = Written(connection, tmp_path, links="item_id,entity_id\na,m1\na,m2\nb,x\nc,y\n")
    assert written.rows("links") == [(1, "b", "x"), (2, "c", "y")]
    assert written.account.warnings == ["2 links ignored: they link an item to several entities; keep one link per "
                                        "item in dataset.links"]


def test_a_link_file_may_say_that_two_items_are_one_thing(connection: BaseBackend, tmp_path: Path) -> None:
    written = Written(connection, tmp_path, links="item_id,entity_id\na,m1\nb,m1\n")
    assert written.rows("links") == [(0, "a", "m1"), (1, "b", "m1")]


@pytest.mark.audited
def test_links_of_another_data_set_are_warned_of(connection: BaseBackend, tmp_path: Path) -> None:
    items = "item_id,genres\n" + "".join(f"i{n},{'|'.join(GENRES[n])}\n" for n in range(NUMBER))
    for name, order in (("right", list(range(NUMBER))), ("wrong", shuffled())):
        links = "item_id,entity_id\n" + "".join(f"i{n},m{e}\n" for n, e in enumerate(order))
        written = Written(connection, tmp_path / name, items, opaque(), links)
        if name == "right":
            assert written.account.warnings == []
            assert any("the links are probably right" in note for note in written.account.notes)
        else:
            [warning] = written.account.warnings
            assert warning.startswith("linked entities are probably not their items: over 300 links")
            assert warning.endswith("look at links.parquet; is this the link file of another data set?")


@pytest.mark.audited
def test_entities_with_other_titles_are_warned_of(connection: BaseBackend, tmp_path: Path) -> None:
    entities = "entity_id,title\nm1,Brazil\nm2,Alien\n"
    [warning] = Written(connection, tmp_path, entities=entities).account.warnings
    assert warning == ("linked entities contradict their items: 'title' differs from 'title' in 2 of 2 links (100%); "
                       "item a has 'Alien', its entity m1 has 'Brazil'; look at links.parquet; is this the link file "
                       "of another data set?")


@pytest.mark.slow
@pytest.mark.audited
def test_without_a_link_anywhere_the_next_step_is_told(connection: BaseBackend, tmp_path: Path) -> None:
    [warning] = Written(connection, tmp_path / "1", links="").account.warnings
    assert "set dataset.links=<file>, or dataset.knowledge.link_on=[title,year]" in warning
    written = Written(connection, tmp_path / "2", links="item_id,entity_id\nq,m1\na,gone\n")
    assert written.rows("links") == []
    [warning] = written.account.warnings
    assert "dataset.links has 1 links of unknown items and 1 to unknown entities; is it of another" in warning


def test_items_are_linked_by_their_titles(connection: BaseBackend, tmp_path: Path) -> None:
    written = Written(connection, tmp_path, links="", entities="entity_id,title\nm1,ALIEN\nm2,brazil!\n",
                      link_on=["title"])
    assert written.rows("links") == [(0, "a", "m1"), (1, "b", "m2")]


@pytest.mark.audited
def test_an_entity_joined_to_itself_is_left_out_and_counted(connection: BaseBackend, tmp_path: Path) -> None:
    circle = "m1,next,m2\nm2,next,m3\nm3,next,m1\n"  # A cycle is sound.
    written = Written(connection, tmp_path, triples=f"head,relation,tail\n{circle}m1,next,m1\nq,next,q\n")
    assert written.rows("triples") == [("m1", "next", "m2"), ("m2", "next", "m3"), ("m3", "next", "m1")]
    assert written.account.counts["triples_of_itself"] == 2
    assert written.account.counts["entities"] == 3
    assert "2 triples ignored: head and tail are the same entity" in written.account.notes


@pytest.mark.slow
def test_names_of_entities_in_any_script_are_kept_where_a_triple_has_them(connection: BaseBackend,
                                                                          tmp_path: Path) -> None:
    entities = "entity_id,name\nm1,تایتانیک\ny,詹姆斯·卡梅隆 🎬\nx,\nunused,Nobody\n"
    written = Written(connection, tmp_path, entities=entities)
    assert written.rows("entities") == [("m1", "تایتانیک"), ("y", "詹姆斯·卡梅隆 🎬")]
    without = Written(connection, tmp_path / "2", entities="entity_id,born\nm1,1912\n")
    assert not (without.folder / "entities.parquet").exists()


def test_a_relation_that_the_settings_name_must_be_there(connection: BaseBackend, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.knowledge.relations: the entities have no column or relation 'bye' "
                                          r"\(did you mean 'by'\?\); .* the relations are by, part_of; name the right"):
        Written(connection, tmp_path, relations={"title": "bye"})


def test_without_triples_there_is_no_knowledge(connection: BaseBackend, tmp_path: Path) -> None:
    assert read_knowledge(connection, Sources([]), tmp_path, Account()) is None
