"""Shared neighbours of an item and a history, on a small graph."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.knowledge import End
from llmrec_cli.data.knowledge_paths import KnowledgePaths, knowledge_paths, read_paths
from llmrec_cli.pinned import PinnedFolder
from tests.data.test_knowledge_read import LINKS, graph

FILMS = [("alien", "by", "scott"), ("blade", "by", "scott"), ("heat", "by", "mann"), ("alien", "in", "en"),
         ("blade", "in", "en"), ("heat", "in", "en"), ("scott", "made", "heat")]
ALIEN, BLADE, UNLINKED, HEAT = range(4)


@pytest.fixture
def paths(tmp_path):
    knowledge = graph(tmp_path, FILMS, LINKS)
    pq.write_table(pa.table({"entity_id": ["scott", "mann"], "title": ["里德利·斯科特", "Mann"]}),
                   tmp_path / "entities.parquet")
    ids = np.array([f"i{n}" for n in range(4)], object)
    items = Catalogue(ids, ids, ids, sp.csr_array((4, 0)), [])
    return knowledge_paths(knowledge, PinnedFolder(tmp_path, "again"), items)


def test_the_rarer_neighbour_explains_more(paths):
    director, language = paths.explain(ALIEN, np.array([BLADE, HEAT]))
    # alien and blade have scott (2 of 4 items) and en (3 of 4), heat has en alone: its row is 1 there.
    scott, en = np.log(2), np.log(4 / 3)
    norm = np.hypot(scott, en)
    by_director, by_language = (scott / norm)**2, en / norm * (en / norm + 1)
    assert director.end == End("by", False, "scott")
    assert director.title == "里德利·斯科特"
    assert director.items.tolist() == [BLADE]
    assert language.items.tolist() == [BLADE, HEAT]
    assert language.title == "en"  # Nobody says what it is called.
    assert director.share == pytest.approx(by_director / (by_director + by_language))
    assert director.share + language.share == pytest.approx(1)


def test_there_is_no_path_where_nothing_is_shared(paths):
    assert paths.explain(ALIEN, np.array([], np.int64)) == []
    assert paths.explain(ALIEN, np.array([ALIEN, UNLINKED])) == []
    assert paths.explain(UNLINKED, np.array([ALIEN])) == []


def test_items_that_came_later_have_no_paths(paths):
    assert paths.explain(4, np.array([ALIEN])) == []
    assert [path.items.tolist() for path in paths.explain(ALIEN, np.array([4, BLADE]), most=1)] == [[BLADE]]


def test_written_content_is_read_back_the_same(paths, tmp_path):
    assert read_paths(PinnedFolder(tmp_path, "again"), 4) is None
    paths.write(tmp_path)
    again = read_paths(PinnedFolder(tmp_path, "again"), 4)
    for item in range(4):
        one, other = (result.explain(item, np.array([ALIEN, BLADE, HEAT])) for result in (paths, again))
        assert [(p.end, p.title, p.items.tolist()) for p in one] == [(p.end, p.title, p.items.tolist()) for p in other]
        assert [p.share for p in one] == pytest.approx([p.share for p in other])


def test_a_neighbour_that_is_an_item_has_the_items_title(tmp_path):
    knowledge = graph(tmp_path, [("alien", "sequel", "heat"), ("blade", "sequel", "heat")], LINKS)
    titles = np.array(["Alien", "Blade", "-", "Heat (1995)"], object)
    items = Catalogue(titles, titles, titles, sp.csr_array((4, 0)), [])
    (path,) = knowledge_paths(knowledge, PinnedFolder(tmp_path, "again"), items).explain(ALIEN, np.array([BLADE]))
    assert path.title == "Heat (1995)"


def test_one_film_of_a_rare_director_explains_more_than_many_of_a_large_studio():
    # Twenty items: the studio has twelve, the director two, and the history is all but the item itself.
    features = np.zeros((20, 2), np.float32)
    features[:12, 0], features[:2, 1] = 1, 1
    paths = KnowledgePaths(sp.csr_array(features), [End("from", False, "studio"), End("by", False, "rare")], ["S", "R"])
    studio, director = np.log(20 / 12), np.log(20 / 2)
    norm = np.hypot(studio, director)
    by_studio, by_director = studio / norm * (studio / norm + 10), (director / norm)**2
    assert by_studio > 2 * by_director  # All eleven together say more, each of them little.
    first, second = paths.explain(0, np.arange(1, 20))
    assert [first.title, second.title] == ["R", "S"]
    assert second.share == pytest.approx(by_studio / (by_studio + by_director))
