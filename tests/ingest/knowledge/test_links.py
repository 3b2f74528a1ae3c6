"""Links between items and entities: normalised names, and unambiguous pairs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ibis.backends import BaseBackend

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import collect, engine
from llmrec_cli.ingest.knowledge.links import drop_ambiguous, find_counterparts, link_by_columns, normalise
from llmrec_cli.ingest.knowledge.triples import read_knowledge
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.readers.staging import stage_entities
from llmrec_cli.ingest.texts.catalogue import Descriptions, describe
from llmrec_cli.settings.dataset import KnowledgeSettings
from llmrec_cli.settings.engine import DuckDbSettings
from tests.ingest.preparing import source

ITEMS = ("item_id,title,year\n1,The Godfather,1972\n2,Solaris,1972\n3,Solaris,2002\n4,\"Amélie, le film\",2001\n"
         "5,千と千尋の神隠し (2001),2001\n6,Nobody Knows It,1999\n7,,1980\n")
TRIPLES = "head,relation,tail\n" + "".join(f"{e},directed_by,someone\n" for e in ("g", "s1", "s2", "a", "c"))
ENTITIES = ("entity_id,title,year\ng,\"GODFATHER, The\",1972\ns1,Solaris!,1972\ns2,solaris,2002\n"
            "a,Amélie: Le Film,2001\nc,千と千尋の神隠し,2001.0\n")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[BaseBackend]:
    """Return a running DuckDB."""
    (tmp_path / "engine").mkdir()
    with engine(DuckDbSettings(threads=1), tmp_path / "engine") as result:
        yield result


class Linking:
    """Items, entities and triples to be linked."""

    def __init__(self, connection: BaseBackend, folder: Path, items: str = ITEMS, triples: str = TRIPLES,
                 entities: str = ENTITIES) -> None:
        files = [source(folder, items, "items.csv")]
        described = [source(folder, entities, "entities.csv")] if entities else []
        self.items: Descriptions = describe(connection, stage_entities(files, "item", folder), "item", Account())
        graph = read_knowledge(connection, _sources(source(folder, triples, "kg.csv"), described), folder, Account())
        assert graph is not None
        self.graph = graph

    def linked(self, *columns: str, **relations: str) -> set[tuple[str, str]]:
        """Return the pairs (item_id, entity_id) that are equal in the columns and unambiguous."""
        assert self.items.rows is not None
        result = link_by_columns(self.graph, self.items, self.items.rows.select("item_id"),
                                KnowledgeSettings(triples="kg.csv", link_on=list(columns), relations=relations))
        rows = collect(drop_ambiguous(result, shared=False)[0]).to_pylist()
        return {(row["item_id"], row["entity_id"]) for row in rows}


def _sources(triples: Source, entities: list[Source]) -> Sources:
    return Sources([], triples=[triples], entities=entities)


def test_an_entity_is_linked_to_the_item_with_equal_columns(connection: BaseBackend, tmp_path: Path) -> None:
    linking = Linking(connection, tmp_path)
    assert linking.linked("title", "year") == {("1", "g"), ("2", "s1"), ("3", "s2"), ("4", "a"), ("5", "c")}
    # By title alone two films are Solaris, so that neither is linked.
    assert linking.linked("title") == {("1", "g"), ("4", "a"), ("5", "c")}


def test_entities_without_a_file_are_compared_by_their_triples(connection: BaseBackend, tmp_path: Path) -> None:
    triples = TRIPLES + 's1,film.name,Solaris\ns1,film.name,Солярис\ns1,from,1972\ns2,film.name,Solaris\ns2,from,2002\n'
    linking = Linking(connection, tmp_path, ITEMS + "8,СОЛЯРИС,1972\n", triples, entities="")
    assert linking.linked("title", "year", title="film.name", year="from") == {("3", "s2")}
    linking = Linking(connection, tmp_path / "without_the_other", ITEMS, triples, entities="")
    assert linking.linked("title", "year", title="film.name", year="from") == {("2", "s1"), ("3", "s2")}


def test_ids_are_linked_as_they_are(connection: BaseBackend, tmp_path: Path) -> None:
    linking = Linking(connection, tmp_path, "item_id,title\n7,x\n007,y\na,z\n", "head,relation,tail\n7,likes,A\n",
                      entities="")
    assert linking.linked("item_id") == {("7", "7")}


def test_unknown_columns_and_relations_are_refused(connection: BaseBackend, tmp_path: Path) -> None:
    linking = Linking(connection, tmp_path)
    with pytest.raises(ConfigError, match=r"link_on: the items have no column 'titel' \(did you mean 'title'\?\)"):
        linking.linked("titel")
    with pytest.raises(ConfigError, match=r"relations: the entities have no column or relation 'directed' \(did you "
                                          r"mean 'directed_by'\?\); the entities have the columns entity_id, title, "
                                          r"year, the relations are directed_by; name .*relations=\{year: <name>\}"):
        find_counterparts(linking.graph, linking.items, KnowledgeSettings(relations={"year": "directed"}))


def test_an_item_or_entity_with_several_partners_is_not_linked(connection: BaseBackend) -> None:
    pairs = {"item_id": ["1", "1", "2", "3", "4"], "entity_id": ["a", "b", "c", "d", "d"]}
    remaining, ambiguous = drop_ambiguous(connection.create_table("pairs", pairs, temp=True), shared=False)
    assert (collect(remaining).to_pylist(), ambiguous) == ([{"item_id": "2", "entity_id": "c"}], 4)


@pytest.mark.parametrize(("text", "expected"), [
    ("Godfather, The (1972)", "the godfather"),
    ("City of Lost Children, The (La cité)", "the city of lost children la cité"),
    ("  WALL·E  ", "wall e"), ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"), ("Straße", "strasse"),
    ("1984", "1984"), ("1984.0", "1984"), ("(1984)", "1984"), ("!!!", "!!!"), ("", ""),
    ("हिन्दी", "हिन्दी"), ("Bonheur, Le", "le bonheur"), ("Yes, Minister", "yes minister")])
def test_names_are_the_same_in_any_case_punctuation_and_place_of_the_article(text: str, expected: str) -> None:
    assert normalise(text, without_year=True) == expected


def test_words_that_differ_in_vowel_signs_do_not_match() -> None:
    assert normalise("कि", without_year=False) != normalise("की", without_year=False)


def test_a_year_in_the_title_stays_where_nothing_else_says_it() -> None:
    assert normalise("Solaris (1972)", without_year=False) == "solaris 1972"
