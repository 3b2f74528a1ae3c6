"""Two-hop features, on small graphs and against sums over all paths."""

from collections import defaultdict

import numpy as np
import pytest

from llmrec_cli.data import knowledge
from llmrec_cli.data.knowledge import idf, two_hops
from tests.data.test_knowledge_read import LINKS, graph

LOG = np.log
FILMS = [("alien", "by", "scott"), ("blade", "by", "scott"), ("heat", "by", "mann"), ("scott", "born", "england"),
         ("mann", "born", "england")]


def test_two_hop_features_are_weighted_by_the_rarity_of_the_neighbour(tmp_path):
    result = graph(tmp_path, FILMS, LINKS).two_hops
    # Two of four items have scott, one has mann; that blade is another film of scott's is known of alien alone.
    np.testing.assert_allclose(result.toarray(), [[LOG(2)], [LOG(2)], [0], [LOG(4)]], rtol=1e-6)
    np.testing.assert_allclose(idf(result).toarray(), result.toarray() * LOG(4 / 3), rtol=1e-6)


def test_paths_over_several_neighbours_add_up_and_none_leads_back(tmp_path):
    triples = [(film, relation, who) for film in ("alien", "blade", "heat") for relation, who in
               (("by", "scott"), ("with", "weaver"))]
    result = graph(tmp_path, triples, LINKS).two_hops.toarray()
    step = LOG(4 / 3)
    # Columns: by<alien, by<blade, by<heat, then the same with `with`: each of the two neighbours adds one of them.
    assert result.shape == (4, 6)
    np.testing.assert_allclose(result[0], [0, step, step] * 2, rtol=1e-6)
    np.testing.assert_allclose(result[3], [step, step, 0] * 2, rtol=1e-6)


def test_hub_entities_give_no_two_hop_features(tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge, "HUB", 2)
    assert graph(tmp_path, FILMS, LINKS).two_hops.shape == (4, 0)  # scott has three neighbours, mann alone is left.


def test_a_triple_of_an_entity_with_itself_is_ignored(tmp_path):
    loops = [("scott", "like", "scott"), ("alien", "like", "alien"), ("blade", "like", "blade")]
    plain, looped = graph(tmp_path, FILMS, LINKS), graph(tmp_path, FILMS + loops, LINKS)
    assert looped.names == plain.names
    assert (looped.two_hops != plain.two_hops).nnz == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_values_are_sums_over_all_paths(tmp_path, seed):
    rng = np.random.default_rng(seed)
    triples = sorted({(f"e{a}", f"r{r}", f"e{b}") for a, r, b in
                      zip(rng.integers(0, 25, 60), rng.integers(0, 3, 60), rng.integers(0, 25, 60), strict=True)})
    named = {end for head, _, tail in triples for end in (head, tail)}
    links = [(n, f"e{n}") for n in range(12) if f"e{n}" in named]
    assert len(links) > 8
    data = graph(tmp_path, triples, links, num_items=15)
    result = data.two_hops

    near = defaultdict(set)
    for head, relation, tail in triples:
        if head != tail:
            near[head].add((f"{relation}>", tail))
            near[tail].add((f"{relation}<", head))
    items_of = defaultdict(set)
    for item, entity in links:
        for _, other in near[entity]:
            items_of[other].add(item)
    expected = defaultdict(dict)
    for item, entity in links:
        for other in {other for _, other in near[entity]}:
            for end in near[other]:
                if end[1] != entity:
                    expected[end][item] = expected[end].get(item, 0) + LOG(15 / len(items_of[other]))
    columns = [expected[end] for end in sorted(expected, key=lambda end: (end[0], end[1])) if len(expected[end]) > 1]
    dense = np.array([[column.get(item, 0) for column in columns] for item in range(15)])
    assert len(columns) > 10
    np.testing.assert_allclose(result.toarray(), dense, rtol=1e-5)


def test_the_block_size_changes_no_two_hop_feature(tmp_path):
    triples = [(film, "by", who) for film in ("alien", "blade", "heat") for who in ("scott", "mann")]
    data = graph(tmp_path, triples, LINKS)
    assert data.two_hops.nnz == 6
    assert (two_hops(data.triples, most_at_once=1) != data.two_hops).nnz == 0


def test_each_item_keeps_only_its_strongest_two_hop_features(tmp_path):
    films = ("alien", "blade", "heat")
    rare = [("alien", "by", "scott"), ("blade", "by", "scott"), ("scott", "born", "england")]
    common = [(film, "in", "usa") for film in films] + [("usa", "on", "earth")]
    data = graph(tmp_path, rare + common, LINKS)
    # in<heat of two items and on>earth of three by usa; born>england of two by scott, who is rarer.
    assert data.two_hops.shape == (4, 5)
    remaining = two_hops(data.triples, most_entries=3)
    np.testing.assert_allclose(remaining.toarray(), [[LOG(2)], [LOG(2)], [0], [0]], rtol=1e-6)
