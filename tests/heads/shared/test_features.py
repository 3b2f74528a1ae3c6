"""Item features: lengths and weights, features of new items, saving."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue, Documents
from llmrec_cli.data.knowledge import Knowledge, Triples, knowledge_of
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.features import ItemFeatures
from llmrec_cli.settings.head import ContentSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from tests.data.test_knowledge_read import graph
from tests.heads.by_hand import training

CPU = torch.device("cpu")
CONTEXT = Context(CPU, seed=1)
ATTRIBUTES = np.array([[1, 1], [1, 0], [0, 0]])
TEXTS = ["red tea", "red cup", ""]
KNOWLEDGE = Knowledge(sp.csr_array(np.array([[1, 1.0], [1, 0], [0, 1]], np.float32)), ["by>a", "by>b"])


def shelf():
    data = training(np.ones((2, 3)), ATTRIBUTES)
    return replace(data, items=replace(data.items, texts=np.array(TEXTS, object)), knowledge=KNOWLEDGE)


def fit_features(data=None, **weights) -> ItemFeatures:
    features = ItemFeatures(FeatureWeightsSettings(**weights), ModelConfig(head=ContentSettings()), CPU)
    features.fit(data or shelf(), CONTEXT)
    return features


def newcomer(text="", attributes=(1, 1), names=("a=0", "a=1")) -> Catalogue:
    ids = np.array(["new"], object)
    return Catalogue(ids, ids, np.array([text], object), sp.csr_array(np.array([attributes], np.float32)), list(names))


def test_attributes_have_length_one_per_item_times_the_weight():
    actual = fit_features(attributes=3.0)
    root = 3 / np.sqrt(2)
    np.testing.assert_allclose(actual.sparse_NF.toarray(), [[root, root], [3, 0], [0, 0]], rtol=1e-6)
    assert actual.dense_ND.shape == (3, 0)


def test_words_knowledge_and_attributes_are_concatenated_with_their_own_norms():
    actual = fit_features(words=1.0, attributes=2.0, knowledge=4.0).sparse_NF.toarray()
    root = np.sqrt(0.5)
    # "red" is the only word of two texts. Both neighbours have two of three items, the same IDF.
    np.testing.assert_allclose(actual, [[1, 2 * root, 2 * root, 4 * root, 4 * root], [1, 2, 0, 4, 0], [0, 0, 0, 0, 4]],
                               rtol=1e-6)


def test_a_rare_neighbour_weighs_more():
    graph = Knowledge(sp.csr_array(np.array([[1, 1.0], [1, 0], [1, 0]], np.float32)), ["by>all", "by>one"])
    actual = fit_features(replace(shelf(), knowledge=graph), knowledge=1.0).sparse_NF.toarray()
    # A feature of every item carries no information: log(3 / 3) = 0.
    np.testing.assert_allclose(actual, [[0, 1], [0, 0], [0, 0]], atol=1e-6)


def test_two_hop_features_have_their_own_weight_and_new_items_have_none():
    # Items 0 and 1 lead to z through x, item 2 through y; item 3 is not in the graph.
    links = sp.csr_array(np.eye(4, 6, dtype=np.float32) * [1, 1, 1, 0, 0, 0])
    triples = Triples(np.array([0, 1, 2, 3, 4]), np.array([0, 0, 0, 1, 1]), np.array([3, 3, 4, 5, 5]),
                      pa.array(["i0", "i1", "i2", "x", "y", "z"]), pa.array(["by", "from"]), links)
    data = replace(training(np.ones((2, 4))), items=shelf().items.extended(newcomer()), knowledge=knowledge_of(triples))
    actual = fit_features(data, knowledge=2.0, two_hops=3.0)
    np.testing.assert_allclose(actual.sparse_NF.toarray(), [[2, 3], [2, 3], [0, 3], [0, 0]], rtol=1e-6)
    assert actual.add(newcomer())[1].toarray().tolist() == [[0, 0]]


def test_a_new_item_has_the_words_and_attributes_of_those_in_training_and_no_knowledge():
    actual = fit_features(words=1.0, attributes=2.0, knowledge=4.0)
    dense, sparse = actual.add(newcomer("a red, red pot", (1, 1), ("a=1", "a=unheard of")))
    assert dense.shape == (1, 0)
    np.testing.assert_allclose(sparse.toarray(), [[1, 0, 2, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(actual.sparse_NF.toarray()[3], [1, 0, 2, 0, 0], rtol=1e-6)
    actual.add(newcomer())
    assert actual.sparse_NF.shape == (5, 5)


def test_without_features_there_are_no_columns():
    actual = fit_features()
    assert actual.sparse_NF.shape == (3, 0)
    assert actual.add(newcomer())[1].shape == (1, 0)


@pytest.mark.parametrize("weights", [{}, {"words": 1.0, "attributes": 2.0, "knowledge": 3.0}])
def test_saved_features_are_restored(weights):
    actual = fit_features(**weights)
    again = ItemFeatures(FeatureWeightsSettings(**weights), ModelConfig(head=ContentSettings()), CPU)
    again.read(TensorReader(actual.state()), shelf().items)
    assert (again.sparse_NF != actual.sparse_NF).nnz == 0
    one, other = actual.add(newcomer("red"))[1], again.add(newcomer("red"))[1]
    assert (one != other).nnz == 0


def test_text_vectors_are_centred_on_the_items_in_training_that_say_something(shop):
    items = shop.data.items
    texts = np.array([*items.texts[:-1], "  "], object)
    data = replace(shop.data.training("train"), items=replace(items, texts=texts))
    actual = reading(shop, text=2.0)
    memo = {}
    actual.fit(data, Context(CPU, seed=1, memo=memo))
    raw = next(iter(memo.values()))[:-1]
    in_training = (data.interactions.item_counts[:-1] > 0) & np.array([bool(text.strip()) for text in texts[:-1]])
    assert 0 < in_training.sum() < len(in_training)
    centred = raw - raw[in_training].mean(axis=0)
    np.testing.assert_allclose(actual.dense_ND[:-1], 2 * centred / np.linalg.norm(centred, axis=1, keepdims=True),
                               rtol=1e-3, atol=1e-4)
    assert not actual.dense_ND[-1].any()
    dense, _ = actual.add(newcomer(str(items.texts[0])))
    np.testing.assert_allclose(dense[0], actual.dense_ND[0], atol=1e-3)
    again = reading(shop, text=2.0)
    again.read(TensorReader(fitted_state(shop, data)), data.items)
    np.testing.assert_array_equal(again.dense_ND, actual.dense_ND[:-1])


def fitted_state(shop, data):
    features = reading(shop, text=2.0)
    features.fit(data, CONTEXT)
    return features.state()


def test_a_second_fit_reuses_the_encoded_vectors(shop, monkeypatch):
    from llmrec_cli.heads.shared import item_texts

    memo = {}
    first = reading(shop, text=2.0)
    first.fit(shop.data.training("train"), Context(CPU, seed=1, memo=memo))
    monkeypatch.setattr(item_texts, "open_encoder", lambda *_: pytest.fail("encoded again"))
    second = reading(shop, text=2.0)
    second.fit(shop.data.training("train"), Context(CPU, seed=1, memo=memo))
    np.testing.assert_array_equal(second.dense_ND, first.dense_ND)


@pytest.mark.parametrize("kind", ["knowledge", "two_hops"])
def test_knowledge_that_the_data_does_not_have_is_refused(kind):
    with pytest.raises(DataError, match=rf"features.{kind}=8.0: the prepared data has no knowledge graph; prepare"):
        fit_features(replace(shelf(), knowledge=None), **{kind: 8.0})
    unlinked = Knowledge(sp.csr_array((3, 0), dtype=np.float32), [])
    with pytest.raises(DataError, match=r"a knowledge graph in which items have nothing in common .* or set it to 0"):
        fit_features(replace(shelf(), knowledge=unlinked), **{kind: 8.0})


def test_two_hops_are_found_where_no_neighbour_is_shared(tmp_path):
    # Each film has its own director; two directors were born in England.
    triples = [("alien", "by", "scott"), ("blade", "by", "nolan"), ("scott", "born", "england"),
               ("nolan", "born", "england")]
    data = replace(shelf(), knowledge=graph(tmp_path, triples, [(0, "alien"), (1, "blade")], 3))
    assert fit_features(data, two_hops=2.0).sparse_NF.nnz
    with pytest.raises(DataError, match="items have nothing in common that is one step away"):
        fit_features(data, knowledge=2.0)


def test_text_without_an_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"features.text=5.0: needs a text encoder; choose encoder=minilm"):
        ItemFeatures(FeatureWeightsSettings(text=5.0), ModelConfig(head=ContentSettings()), CPU)


def documented(shop, texts=("a red ship", "dark water and a red ship", "quiet water")):
    data = shop.data.training("train")
    items = np.flatnonzero(data.interactions.item_counts)[:len(texts)]
    return replace(data, documents=Documents(items, np.array(texts, object))), items


def reading(shop, **weights) -> ItemFeatures:
    config = ModelConfig(head=ContentSettings(), encoder=shop.encoder)
    return ItemFeatures(FeatureWeightsSettings(**weights), config, CPU)


def test_documents_are_pooled_centred_and_weighted_and_items_without_any_have_zeros(shop):
    data, items = documented(shop)
    actual = reading(shop, documents=3.0)
    actual.fit(replace(data, documents=Documents(items[[0, 1, 1]], data.documents.texts)), CONTEXT)
    raw = open_encoder(shop.encoder, CPU).encode(list(data.documents.texts))
    means = np.stack([raw[0], (raw[1] + raw[2]) / 2])
    centred = means - means.mean(axis=0)
    expected = 3 * centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(actual.dense_ND[items[:2]], expected, rtol=1e-3, atol=1e-4)
    others = np.setdiff1d(np.arange(len(data.items)), items[:2])
    assert not actual.dense_ND[others].any()


def test_text_and_documents_stand_side_by_side_and_a_new_item_has_no_documents(shop):
    data, _ = documented(shop)
    actual, text, documents = (reading(shop, **weights) for weights in
                              ({"text": 2.0, "documents": 3.0}, {"text": 2.0}, {"documents": 3.0}))
    for features in (actual, text, documents):
        features.fit(data, CONTEXT)
    np.testing.assert_array_equal(actual.dense_ND, np.hstack([text.dense_ND, documents.dense_ND]))
    dense, _ = actual.add(newcomer("a red ship"))
    width = text.dense_ND.shape[1]
    assert dense[0, :width].any()
    assert not dense[0, width:].any()
    again = reading(shop, text=2.0, documents=3.0)
    again.read(TensorReader(actual.state()), data.items.extended(newcomer("a red ship")))
    np.testing.assert_array_equal(again.dense_ND, actual.dense_ND)
    again.reread(np.array(["other words"] * len(again.dense_ND), object))
    np.testing.assert_array_equal(again.dense_ND[:-1, width:], documents.dense_ND)


def test_documents_that_are_not_there_or_of_no_item_in_training_are_refused(shop):
    data, _ = documented(shop)
    with pytest.raises(DataError, match=r"features.documents=1.0: the prepared data has no documents; prepare"):
        reading(shop, documents=1.0).fit(replace(data, documents=None), CONTEXT)
    cold = np.flatnonzero(data.interactions.item_counts == 0)[:1]
    with pytest.raises(DataError, match="no item in training has a document"):
        reading(shop, documents=1.0).fit(replace(data, documents=Documents(cold, np.array(["red"], object))), CONTEXT)
    with pytest.raises(ConfigError, match=r"features.documents=5.0: needs a text encoder"):
        ItemFeatures(FeatureWeightsSettings(documents=5.0), ModelConfig(head=ContentSettings()), CPU)
