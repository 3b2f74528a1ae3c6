"""Detection of wrong links by columns of entities or, for entities with ids only, by shared neighbours."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ibis.backends import BaseBackend

from llmrec_cli.ingest.engine import engine
from llmrec_cli.ingest.knowledge.link_checks import Association, Difference, compare_columns, sample_links, shuffle_test
from llmrec_cli.ingest.knowledge.links import Graph, find_counterparts
from llmrec_cli.ingest.knowledge.triples import read_knowledge
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.readers.staging import stage_entities
from llmrec_cli.ingest.texts.catalogue import Descriptions, describe
from llmrec_cli.settings.dataset import FilesSettings, KnowledgeSettings
from llmrec_cli.settings.engine import DuckDbSettings
from tests.ingest.preparing import source

pytestmark = pytest.mark.slow

NUMBER = 300
GENRES = [[f"g{(n * n) % 7}", f"g{(n * n * n) % 11}"] for n in range(NUMBER)]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[BaseBackend]:
    """Return a running DuckDB."""
    (tmp_path / "engine").mkdir()
    with engine(DuckDbSettings(threads=1), tmp_path / "engine") as result:
        yield result


def shuffled(number: int = NUMBER) -> list[int]:
    """Return the positions of wrong links."""
    return [int(n) for n in np.random.default_rng(1).permutation(number)]


def linked(connection: BaseBackend, folder: Path, order: list[int], triples: str, entities: str = "",
           items: str = "") -> tuple[Graph, Descriptions]:
    """Return the graph, whose links give item n the entity order[n], and the items."""
    items = items or "item_id,genres\n" + "".join(f"i{n},{'|'.join(GENRES[n])}\n" for n in range(len(order)))
    links = "item_id,entity_id\n" + "".join(f"i{n},m{e}\n" for n, e in enumerate(order))
    files: dict[str, list[Source]] = {"triples": [source(folder, triples, "kg.csv")],
                                      "links": [source(folder, links, "links.csv")]}
    if entities:
        files["entities"] = [source(folder, entities, "entities.csv")]
    described = describe(connection, stage_entities([source(folder, items, "items.csv")], "item", folder), "item",
                         Account())
    graph = read_knowledge(connection, Sources([], **files), folder, Account())
    assert graph is not None
    return graph, described


def opaque(number: int = NUMBER) -> str:
    """Return triples of ids only: genres under other names, actors of a single film, a language of all films."""
    rows = [f"m{n},genre,x{genre[1:]}" for n in range(number) for genre in GENRES[n]]
    rows += [f"p{n * 7 % 83},plays_in,m{n}\nm{n},language,en\nm{n},award,only{n}" for n in range(number)]
    return "head,relation,tail\n" + "\n".join(rows) + "\n"


def associated(connection: BaseBackend, folder: Path, order: list[int], **attributes: str) -> Association | None:
    """Return the association of items and entities under the links."""
    graph, items = linked(connection, folder, order, opaque(len(order)))
    assert graph.links is not None
    return shuffle_test(graph, items, sample_links(graph.links), FilesSettings(attributes=attributes))


def test_right_links_by_id_are_distinguished_from_wrong_ones(connection: BaseBackend, tmp_path: Path) -> None:
    for name, attributes in (("declared", {"genres": "list"}), ("all", {})):
        right = associated(connection, tmp_path / f"{name}_right", list(range(NUMBER)), **attributes)
        wrong = associated(connection, tmp_path / f"{name}_wrong", shuffled(), **attributes)
        assert right is not None
        assert wrong is not None
        assert right.z > 10
        assert abs(wrong.z) < 3
        assert right.num_items == wrong.num_items == NUMBER


def test_the_test_gives_the_same_whatever_the_order_of_rows(connection: BaseBackend, tmp_path: Path) -> None:
    result = []
    for name, turn in (("1", 1), ("2", -1)):
        header, *rows = opaque().splitlines()
        triples = "\n".join([header, *rows[::turn]]) + "\n"
        graph, items = linked(connection, tmp_path / name, list(range(NUMBER)), triples)
        assert graph.links is not None
        settings = FilesSettings(attributes={"genres": "list"})
        result.append(shuffle_test(graph, items, sample_links(graph.links), settings))
    assert result[0] == result[1]


def test_too_few_links_cannot_be_tested(connection: BaseBackend, tmp_path: Path) -> None:
    assert associated(connection, tmp_path, list(range(99)), genres="list") is None


def compared(connection: BaseBackend, folder: Path, order: list[int], triples: str = "", entities: str = "",
             items: str = "", **relations: str) -> list[Difference]:
    """Return the comparison of the columns."""
    triples = triples or "head,relation,tail\n" + "".join(f"m{n},is,film\n" for n in range(len(order)))
    graph, described = linked(connection, folder, order, triples, entities, items)
    assert graph.links is not None
    knowledge = KnowledgeSettings(triples="kg.csv", relations=relations)
    settings = FilesSettings(attributes={"genres": "list"}, knowledge=knowledge)
    return compare_columns(graph, described, sample_links(graph.links),
                       list(find_counterparts(graph, described, knowledge).values()), settings)


ITEMS = "item_id,title,year\n" + "".join(f"i{n},Film {n} of many,{1950 + n % 50}\n" for n in range(10))
ENTITIES = "entity_id,title,year\n" + "".join(f"m{n},film {n} of many!,{1950 + n % 50}-03-24\n" for n in range(10))


def test_columns_of_linked_entities_agree_in_other_spelling(connection: BaseBackend, tmp_path: Path) -> None:
    result = compared(connection, tmp_path, list(range(10)), entities=ENTITIES, items=ITEMS, year="year")
    assert [(d.of.column, d.num_pairs, d.num_different, d.contradicts) for d in result] == \
        [("year", 10, 0, False), ("title", 10, 0, False)]


def test_columns_of_wrongly_linked_entities_contradict(connection: BaseBackend, tmp_path: Path) -> None:
    order = [1, 0, 3, 2, *range(4, 10)]
    title = next(d for d in compared(connection, tmp_path, order, entities=ENTITIES, items=ITEMS)
                 if d.of.column == "title")
    assert (title.num_pairs, title.num_different, title.contradicts) == (10, 4, True)
    assert title.examples[0] in [(f"i{n}", f"Film {n} of many", f"m{order[n]}", f"film {order[n]} of many!")
                                 for n in range(4)]


def test_one_difference_in_five_is_tolerated(connection: BaseBackend, tmp_path: Path) -> None:
    result = compared(connection, tmp_path, [1, 0, *range(2, 10)], entities=ENTITIES, items=ITEMS)
    assert [(d.num_different, d.contradicts) for d in result if d.of.column == "title"] == [(2, False)]


def test_relations_agree_with_a_column_of_another_name(connection: BaseBackend, tmp_path: Path) -> None:
    triples = "head,relation,tail\n" + "".join(f"m{n},released,{1950 + n}\n" for n in range(10))
    for name, order, different in (("right", list(range(10)), 0), ("wrong", [*range(1, 10), 0], 10)):
        result = compared(connection, tmp_path / name, order, triples, items=ITEMS, year="released")
        assert [(d.of.name, d.num_pairs, d.num_different) for d in result] == [("released", 10, different)]


def test_one_value_in_common_is_enough_for_lists(connection: BaseBackend, tmp_path: Path) -> None:
    triples = "head,relation,tail\n" + "".join(f"m{n},genres,{GENRES[n][0].upper()}\n" for n in range(10))
    assert [d.num_different for d in compared(connection, tmp_path, list(range(10)), triples)] == [0]


def test_opaque_ids_do_not_contradict_a_column_of_the_same_name(connection: BaseBackend, tmp_path: Path) -> None:
    triples = "head,relation,tail\n" + "".join(f"m{n},genres,x{n}\n" for n in range(10))
    assert compared(connection, tmp_path, list(range(10)), triples) == []
