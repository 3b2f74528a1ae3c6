"""Entity vectors of items: means, centring, weights, the gate and the cache."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.knowledge import Triples, knowledge_of
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.shared.features import ItemFeatures
from llmrec_cli.heads.shared.item_entities import EntityGate, entity_vectors, item_entities
from llmrec_cli.settings.entities import ComplExSettings, TransESettings
from llmrec_cli.settings.head import ContentSettings, EaseSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.sequential import SequentialSettings
from tests.heads.by_hand import entities as unknown
from tests.heads.by_hand import queries, training

CPU = torch.device("cpu")
SMALL = TransESettings(embedding_size=8, epochs=2, held_out=0)
LINKS = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], np.float32)
"""Item 0 is entity 0, item 1 entity 1, item 2 both 2 and 3, item 3 none."""


def graph(links=LINKS) -> Triples:
    return Triples(np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0]), np.array([4, 4, 5, 5]), pa.array(list("abcdef")),
                   pa.array(["by"]), sp.csr_array(links))


def shelf(triples=None):
    """Two users, four items; nobody chose item 1."""
    data = training(np.array([[1, 0, 1, 0], [1, 0, 1, 1]]))
    return replace(data, knowledge=knowledge_of(graph() if triples is None else triples))


def make_log():
    events = []
    return events, lambda event, **values: events.append((event, values))


def context(**changed) -> Context:
    return Context(**({"device": CPU, "seed": 1} | changed))


def test_an_item_is_the_mean_of_its_entities_centred_by_the_items_in_training_of_length_one():
    here = context()
    vectors = entity_vectors(SMALL, graph(), here)
    actual = item_entities(SMALL, shelf(), here, "x")
    means = np.stack([vectors[0], vectors[1], (vectors[2] + vectors[3]) / 2])
    by_hand = means - (means[0] + means[2]) / 2
    np.testing.assert_allclose(actual[:3], by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), atol=1e-5)
    assert actual.dtype == np.float32
    assert not actual[3].any()


def test_a_link_to_an_entity_without_triples_is_ignored():
    unnamed = replace(graph(), head=np.array([0, 1, 2]), relation=np.zeros(3, np.int64), tail=np.array([4, 4, 5]))
    only_named = LINKS.copy()
    only_named[2, 3] = 0
    actual = item_entities(SMALL, shelf(unnamed), context(), "x")
    np.testing.assert_array_equal(actual, item_entities(
        SMALL, shelf(replace(unnamed, links=sp.csr_array(only_named))), context(), "x"))
    assert actual.any(axis=1).tolist() == [True, True, True, False]


def test_features_stand_beside_the_text_with_their_weight_and_new_items_have_zeros():
    config = ModelConfig(head=ContentSettings(), entities=SMALL)
    features = ItemFeatures(FeatureWeightsSettings(entities=3.0), config, CPU)
    features.fit(shelf(), context())
    np.testing.assert_allclose(np.linalg.norm(features.dense_ND, axis=1), [3, 3, 3, 0], rtol=1e-5)
    dense, _ = features.add(unknown(2, kind="new"))
    assert dense.tolist() == [[0.0] * 8] * 2
    loaded = ItemFeatures(FeatureWeightsSettings(entities=3.0), config, CPU)
    loaded.read(TensorReader(features.state()), unknown(6))
    assert loaded.dense_ND.tobytes() == features.dense_ND.tobytes()


def test_an_unseen_item_scores_like_the_seen_item_that_its_entity_is_like():
    # Items 0, 1 and 2 share a maker, item 3 has another; nobody chose 1, and 2 and 3 are equally popular.
    links = np.zeros((4, 8), np.float32)
    links[np.arange(4), np.arange(4)] = 1
    many = [(0, 4), (1, 4), (2, 4), (3, 5), (0, 6), (1, 6), (2, 6), (3, 7)]
    triples = Triples(np.array([h for h, _ in many]), np.zeros(8, np.int64), np.array([t for _, t in many]),
                      pa.array(list("abcdefgh")), pa.array(["by"]), sp.csr_array(links))
    data = replace(training(np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]])),
                   knowledge=knowledge_of(triples))
    head = build(ModelConfig(head=EaseSettings(l2=1.0, features=FeatureWeightsSettings(entities=2.0)),
                             entities=TransESettings(embedding_size=8, epochs=60, held_out=0)))
    head.fit(data, context())
    first, last = head.score(queries(np.array([[1, 0, 0, 0], [0, 0, 0, 1]]))).numpy()
    assert first[1] > last[1]
    assert head.estimate_memory(data) > 0


def test_vectors_are_learned_once_and_kept_across_runs(tmp_path):
    for settings, seed, triples, is_learned in (
            (SMALL, 1, graph(), True), (SMALL, 1, graph(), False), (SMALL, 2, graph(), True),
            (replace(SMALL, margin=1.0), 1, graph(), True),
            (ComplExSettings(embedding_size=8, epochs=2), 1, graph(), True),
            (SMALL, 1, replace(graph(), tail=np.array([4, 5, 5, 5])), True),
            (SMALL, 1, graph(np.eye(6, dtype=np.float32)), False)):
        events, log = make_log()
        actual = entity_vectors(settings, triples, context(seed=seed, cache=tmp_path, log=log))
        assert [("read" not in values) for _, values in events] == [is_learned]
        again = entity_vectors(settings, triples, context(seed=seed))
        assert actual.tobytes() == again.tobytes()
    assert len(list((tmp_path / "entities").glob("*.safetensors"))) == 5


def test_a_damaged_file_of_the_cache_is_learned_again_with_a_line_that_says_so(tmp_path, capsys):
    expected = entity_vectors(SMALL, graph(), context(cache=tmp_path))
    file = next((tmp_path / "entities").iterdir())
    whole = file.read_bytes()
    for content in (whole[:40], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(content)
        actual = entity_vectors(SMALL, graph(), context(cache=tmp_path))
        assert actual.tobytes() == expected.tobytes()
        assert "damaged, so it is removed and its vectors are learned again" in capsys.readouterr().err
        assert file.read_bytes() == whole


def test_a_fit_and_its_refit_learn_them_once():
    events, log = make_log()
    here = context(log=log)
    item_entities(SMALL, shelf(), here, "x")
    item_entities(SMALL, shelf(), here.inside("refit"), "x")
    assert len(events) == 1


def test_a_gate_at_zero_leaves_the_text_and_an_open_one_adds_the_entity():
    vectors = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    gate = EntityGate(vectors, 3)
    text = torch.randn(3, 3)
    with torch.no_grad():
        gate.gate.bias.fill_(-1000.0)
        torch.testing.assert_close(gate(text), text)
        gate.gate.bias.fill_(1000.0)
        difference = gate(text) - text
    torch.testing.assert_close(difference[0], vectors[0] @ gate.entity.weight.T)
    # The gate adds nothing for an item without an entity or an item added later.
    assert not difference[1:].any()


def test_the_gate_starts_half_open_and_rows_are_those_of_the_whole():
    gate = EntityGate(torch.randn(5, 4), 3)
    text = torch.randn(7, 3)
    with torch.no_grad():
        whole = gate(text)
        torch.testing.assert_close(whole[:5] - text[:5], gate.vectors_ND @ gate.entity.weight.T / 2)
        rows = torch.tensor([6, 2, 0])
        torch.testing.assert_close(gate(text[rows], rows), whole[rows])


@pytest.mark.parametrize("settings", [TwoTowerSettings(embedding_size=16, dropout=0.1, entity_gate=True),
                                      SequentialSettings(embedding_size=16, num_layers=1, dropout=0.1,
                                                         entity_gate=True)],
                         ids=["two_tower", "sequential"])
def test_heads_with_a_gate_are_restored_and_depend_on_the_links(shop, settings):
    num_items = len(shop.data.items)
    links = sp.csr_array(np.eye(num_items, num_items + 4, dtype=np.float32))
    own = np.arange(num_items)
    triples = Triples(own, np.zeros(num_items, np.int64), num_items + own % 4,
                      pa.array([f"{n:03}" for n in range(num_items + 4)]), pa.array(["genre"]), links)
    data = replace(shop.data.training("train"), knowledge=knowledge_of(triples))
    config = replace(shop.config(settings), entities=SMALL)
    config = replace(config, optim=replace(config.optim, epochs=2))
    head = build(config)
    head.fit(data, shop.context())
    state = head.state()
    copy = build(config)
    copy.load(state, data.users, data.items, shop.context())
    queries = shop.known_users([0, 1, 2])
    torch.testing.assert_close(copy.score(queries), head.score(queries), rtol=0, atol=0)
    name = next(name for name in state if name.endswith("entities.vectors_ND"))
    blind = build(config)
    blind.load(state | {name: np.zeros_like(state[name])}, data.users, data.items, shop.context())
    assert not torch.allclose(blind.score(queries), head.score(queries))
    head.add_items(unknown(1, kind="new"))
    assert head.score(shop.known_users([0], num_added=1)).shape == (1, num_items + 1)


def test_without_a_graph_or_links_the_setting_is_named():
    bare = training(np.ones((2, 4)))
    with pytest.raises(DataError, match=r"features.entities=3.0: the prepared data has no knowledge graph; prepare"):
        ItemFeatures(FeatureWeightsSettings(entities=3.0), ModelConfig(head=ContentSettings(), entities=SMALL),
                     CPU).fit(bare, context())
    unlinked = shelf(graph(np.zeros_like(LINKS)))
    with pytest.raises(DataError, match=r"head.entity_gate=true: the knowledge graph has 4 triples and 0 links"):
        item_entities(SMALL, unlinked, context(), "head.entity_gate=true")
    features = ItemFeatures(FeatureWeightsSettings(entities=3.0), ModelConfig(head=ContentSettings()), CPU)
    with pytest.raises(ConfigError, match=r"features.entities=3.0: needs vectors of entities; choose entities=transe"):
        features.fit(shelf(), context())


@pytest.mark.parametrize(("typed", "message"), [
    (["head=ease", "entities=rotate"], "entities=rotate: has no effect, since head=ease does not use it; leave it out, "
                                       "set head.features.entities above 0, or choose another head"),
    (["head=two_tower", "entities=rotate"], "set head.entity_gate=true, or choose"),
    (["head=popularity", "entities=complex"], "does not use it; leave it out, or choose another head"),
    (["head=ease", "head.features.entities=1", "entities=complex", "entities.embedding_size=5"],
     "entities.embedding_size=5: must be even"),
    (["head=ease", "head.features.entities=1", "entities.learning_rate=0"], "entities.learning_rate=0.0: must be"),
    (["head=sequential", "head.text_scale=0", "head.id_dropout=0", "head.entity_gate=true"],
     "head.entity_gate=true: has no effect with text_scale=0"),
])
def test_settings_without_effect_or_out_of_range_are_refused(typed, message):
    with pytest.raises(ConfigError) as caught:
        compose("finetune", typed)
    assert message in str(caught.value)


def test_a_member_of_a_fusion_has_its_gate_and_its_own_model_of_the_graph():
    head = compose("finetune", ["head.members.tower={head: two_tower, entity_gate: true, entities: rotate}",
                                "head.members.ease.features.entities=3"]).head
    assert head.members["tower"].head.entity_gate
    assert head.members["tower"].entities.kind == "rotate"
    assert head.members["ease"].entities.kind == "transe"
