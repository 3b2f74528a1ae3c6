"""Knowledge features of items, on a small graph."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.data.knowledge import Knowledge, read_knowledge
from llmrec_cli.pinned import PinnedFolder


def graph(folder, triples, links, num_items=4) -> Knowledge:
    head, relation, tail = zip(*triples, strict=True)
    pq.write_table(pa.table({"head": pa.array(head), "relation": pa.array(relation).dictionary_encode(),
                             "tail": pa.array(tail)}), folder / "triples.parquet")
    item, entity = zip(*links, strict=True)
    pq.write_table(pa.table({"item": pa.array(item, pa.int64()), "item_id": [f"i{n}" for n in item],
                             "entity_id": pa.array(entity)}), folder / "links.parquet")
    result = read_knowledge(PinnedFolder(folder, "again"), num_items)
    assert result is not None
    return result


LINKS = [(0, "alien"), (1, "blade"), (3, "heat")]


def test_a_feature_is_a_relation_its_direction_and_the_neighbour(tmp_path):
    result = graph(tmp_path, [("alien", "by", "scott"), ("blade", "by", "scott"), ("mann", "made", "heat"),
                             ("mann", "made", "alien")], LINKS)
    assert result.names == ["by>scott", "made<mann"]
    assert result.features.toarray().tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]


def test_the_same_neighbour_by_another_relation_or_direction_is_another_feature(tmp_path):
    result = graph(tmp_path, [("alien", "by", "scott"), ("scott", "by", "blade"), ("heat", "with", "scott")], LINKS)
    assert result.names == []  # Each of the three is one item's alone.
    assert result.features.shape == (4, 0)


def test_a_repeated_triple_and_an_item_with_two_entities_count_once(tmp_path):
    result = graph(tmp_path, [("alien", "by", "scott")] * 2 + [("aliens", "by", "scott"), ("heat", "by", "scott")],
                  [*LINKS, (0, "aliens")])
    assert result.features.toarray().tolist() == [[1], [0], [0], [1]]


def test_items_that_are_each_others_neighbours_and_unlinked_triples(tmp_path):
    result = graph(tmp_path, [("alien", "like", "blade"), ("heat", "like", "blade"), ("x", "like", "y")], LINKS)
    assert result.names == ["like>blade"]
    assert result.features.toarray().tolist() == [[1], [0], [0], [1]]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_columns_is_that_of_their_names(tmp_path, seed):
    import random

    triples = [(head, relation, tail) for head in ("alien", "blade", "heat") for relation in "ab" for tail in "xyz"]
    random.Random(seed).shuffle(triples)
    result = graph(tmp_path, triples, LINKS)
    assert result.names == ["a>x", "a>y", "a>z", "b>x", "b>y", "b>z"]
    assert result.features.toarray().tolist() == [[1] * 6, [1] * 6, [0] * 6, [1] * 6]


def test_data_without_a_graph_has_no_knowledge(tmp_path):
    assert read_knowledge(PinnedFolder(tmp_path, "again"), 4) is None
