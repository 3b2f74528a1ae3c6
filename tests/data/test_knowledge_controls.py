"""Controls for a gain from knowledge, and coverage, on small graphs."""

import numpy as np
import pytest

from llmrec_cli.evaluation.knowledge_ablation import counts_alone, coverage, num_triples, swapped, twins
from tests.data.test_knowledge_read import graph

FILMS = [("f0", "by", "x"), ("f1", "by", "x"), ("f2", "by", "y"), ("f3", "by", "y"), ("f0", "with", "z"),
         ("f1", "with", "z"), ("x", "born", "c")]


def films(folder, num_linked=4, num_items=5):
    return graph(folder, FILMS, [(n, f"f{n}") for n in range(num_linked)], num_items)


def test_the_control_swaps_items_of_similar_popularity(tmp_path):
    data = films(tmp_path)
    result = swapped(data.triples, np.array([9, 1, 8, 2, 5]), np.random.default_rng(0))
    # By popularity: 1 and 3 change places, then 2 and 0; item 4 is not linked, and stays so.
    assert result.names == data.names
    assert result.features.toarray().tolist() == data.features.toarray()[[2, 3, 0, 1, 4]].tolist()
    np.testing.assert_allclose(result.two_hops.toarray(), data.two_hops.toarray()[[2, 3, 0, 1, 4]])


@pytest.mark.parametrize("num_linked", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_no_item_keeps_its_own_knowledge_and_none_is_lost(tmp_path, num_linked, seed):
    triples = films(tmp_path, num_linked).triples
    rng = np.random.default_rng(seed)
    moved = swapped(triples, rng.integers(0, 3, 5), rng).triples.links.tocoo()
    assert sorted(moved.row) == list(range(num_linked))
    assert sorted(moved.col) == sorted(triples.links.indices)
    if num_linked > 1:
        own = dict(zip(triples.links.tocoo().row, triples.links.indices, strict=True))
        assert all(own[row] != col for row, col in zip(moved.row, moved.col, strict=True))


def test_the_count_control_has_only_the_number_of_triples_per_item(tmp_path):
    data = films(tmp_path)
    assert num_triples(data.triples).tolist() == [2, 2, 1, 1, 0]
    result = counts_alone(data.triples)
    assert result.names == ["triples>1", "triples>2"]
    assert result.features.toarray().tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [0, 0]]
    assert result.two_hops.shape == (5, 0)


def test_coverage_is_of_items_of_interactions_and_of_relations(tmp_path):
    data = films(tmp_path, num_linked=3)
    result = coverage(data.triples, data, np.array([3, 1, 0, 4, 2]))
    assert result["relations"] == [
        {"relation": "by", "twins": [], "triples": 4, "triples_of_items": 3, "items": 3, "shared": 1},
        {"relation": "with", "twins": [], "triples": 2, "triples_of_items": 2, "items": 2, "shared": 1},
        {"relation": "born", "twins": [], "triples": 1, "triples_of_items": 0, "items": 0, "shared": 0}]
    assert (result["items"], result["linked"], result["linked_share"]) == (5, 3, 0.6)
    assert result["interactions_share"] == 0.4
    assert result["triples_per_linked_item"] == pytest.approx(5 / 3)


def test_a_relation_and_its_inverse_are_one(tmp_path):
    inverse = [(tail, "directed", head) for head, relation, tail in FILMS if relation == "by"]
    data = graph(tmp_path, FILMS + inverse, [(n, f"f{n}") for n in range(4)], 5)
    assert twins(data.triples) == [["born"], ["by", "directed"], ["with"]]
    by_relation = {one["relation"]: one for one in coverage(data.triples, data, np.ones(5))["relations"]}
    assert by_relation["by"]["twins"] == ["directed"]
    assert "directed" not in by_relation
    almost = graph(tmp_path, FILMS + inverse[1:], [(n, f"f{n}") for n in range(4)], 5)
    assert twins(almost.triples) == [["born"], ["by"], ["directed"], ["with"]]


def test_leaving_out_a_relation_removes_its_features_and_two_hop_paths(tmp_path):
    triples = films(tmp_path).triples
    assert len(triples.without("by")) == 3
    assert set(triples.without("by").relation) == {0, 2}
