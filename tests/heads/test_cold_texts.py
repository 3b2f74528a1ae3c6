"""Texts of items and users outside training move nothing that is trained (fault 74)."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Documents
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge import Knowledge, idf
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.shared.features import ItemFeatures
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import ConcatSettings, LsaSettings, PartSettings, StaticSettings, TfIdfSettings
from llmrec_cli.settings.head import ContentSettings, IalsSettings, ModelConfig, SequentialSettings, TwoTowerSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import EmbeddingAdapterSettings, FrozenSettings
from tests.heads.by_hand import entities

CONTEXT = Context(torch.device("cpu"), seed=1)
TEXTS = ["red tea cup", "red cup", "green tea", "green tea pot", "blue pot", "blue red kettle", "kettle"]
COLD = 6
"""The only item, and with `users_texts` the only user, without training interactions."""
OTHER = "red tea tea pot kettle and words that only this text has"


def whole(cold="kettle", dimension=None):
    """Return data of 7 users and items, the last of each outside training; `cold` is the text of both."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(6), 3)
    item = np.concatenate([rng.choice(6, 3, replace=False) for _ in range(6)])
    rows = Interactions(user, item, np.ones(18, np.float32), np.tile(np.arange(3), 6), 7, 7)
    texts = np.array([*TEXTS[:COLD], cold], object)
    users, items = (replace(entities(7, kind=kind), texts=texts) for kind in "ui")
    documents = Documents(np.repeat(np.arange(7), 2), np.array([part for text in texts for part in (text, text[::2])],
                                                               object))
    return TrainingData(users, items, rows, documents=documents)


def encoders(folder):
    return {"tfidf": TfIdfSettings(), "lsa": LsaSettings(embedding_size=3), "static": StaticSettings(path=str(folder)),
            "whitened": LsaSettings(embedding_size=3, whitening=0.5),
            "concat": ConcatSettings(parts={"a": PartSettings(encoder=TfIdfSettings()),
                                            "b": PartSettings(encoder=LsaSettings(embedding_size=3), weight=0.7)})}


def config_of(head, encoder, **changed):
    usual = {"peft": FrozenSettings(), "adversarial": NoAdversarySettings(), "loss": SoftmaxSettings(),
             "optim": AdamWSettings(epochs=2, batch_size=8, learning_rate=0.05)}
    return ModelConfig(head=head, encoder=encoder, **(usual | changed))


def require_equal(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert np.array_equal(array, other[name]), name


def learned_state(features):
    """Return the learned state of features, and the features of the items in training."""
    state = features.words.state() | {"dense": features.dense_ND[:COLD], "sparse": features.sparse_NF[:COLD].toarray()}
    if features.text is not None:
        state |= {f"encoder.{name}": value for name, value in features.text.encoder_state.items()}
        state |= {"mean": features.text.mean.numpy(), "matrix": features.text.matrix.numpy()}
    return state


@pytest.mark.parametrize("weights", [{"words": 2.0}, {"text": 1.0}, {"documents": 1.0}], ids=lambda w: next(iter(w)))
@pytest.mark.parametrize("name", ["tfidf", "lsa", "static", "whitened", "concat"])
def test_features_of_training_items_do_not_depend_on_other_texts(tiny_encoder, name, weights):
    states = []
    for text in ("kettle", OTHER):
        features = ItemFeatures(FeatureWeightsSettings(**weights),
                                config_of(ContentSettings(), encoders(tiny_encoder)[name]),
                                CONTEXT.device)
        features.fit(whole(text), CONTEXT)
        states.append(learned_state(features))
    assert states[0]["dense"].any() or states[0]["sparse"].any()
    require_equal(*states)


def test_words_need_two_training_texts_and_other_items_use_the_same_words():
    """"kettle" is in one training text and in two texts in total; "red" is in 3 of the 6 training texts."""
    features = ItemFeatures(FeatureWeightsSettings(words=1.0), ModelConfig(head=ContentSettings()), CONTEXT.device)
    features.fit(whole(OTHER), CONTEXT)
    assert list(features.words.index) == ["blue", "cup", "green", "pot", "red", "tea"]
    assert features.words.idf_V[4] == pytest.approx(np.log(7 / 4) + 1)
    assert np.flatnonzero(features.sparse_NF[[COLD]].toarray()[0]).tolist() == [3, 4, 5]


def test_the_rarity_of_a_graph_neighbour_is_counted_among_training_items():
    """Neighbour a has 3 of 6 items in training, b 1, c none; the seventh item, outside training, has all of them."""
    graph = np.zeros((7, 3), np.float32)
    graph[:3, 0], graph[0, 1], graph[COLD] = 1, 1, 1
    weights = idf(sp.csr_array(graph), np.arange(7) < COLD).toarray()
    np.testing.assert_allclose(weights[0], [np.log(2), np.log(6), 0], rtol=1e-6)
    np.testing.assert_allclose(weights[COLD], [np.log(2), np.log(6), 0], rtol=1e-6)
    features = ItemFeatures(FeatureWeightsSettings(knowledge=1.0), ModelConfig(head=ContentSettings()), CONTEXT.device)
    features.fit(replace(whole(), knowledge=Knowledge(sp.csr_array(graph), ["by>a", "by>b", "by>c"])), CONTEXT)
    unit = np.array([np.log(2), np.log(6), 0]) / np.hypot(np.log(2), np.log(6))
    np.testing.assert_allclose(features.sparse_NF.toarray()[0], unit, rtol=1e-6)


FEATURES = FeatureWeightsSettings(text=1.0, words=1.0)
HEADS = {
    "two_tower": (config_of(TwoTowerSettings(embedding_size=4, profile=True), LsaSettings(embedding_size=3)),
                  "towers."),
    "two_tower_adapter": (config_of(TwoTowerSettings(embedding_size=4), TfIdfSettings(),
                                    peft=EmbeddingAdapterSettings(rank=2)),
                          ("towers.", "texts.map.")),
    "sequential": (config_of(SequentialSettings(embedding_size=4, num_layers=1), TfIdfSettings()), "model."),
    "ials": (config_of(IalsSettings(embedding_size=4, features=FEATURES), LsaSettings(embedding_size=3)), "map"),
    "content": (config_of(ContentSettings(features=FEATURES, denoise=0.5, gamma=1.0, l2=1.0, blend=0.3),
                          TfIdfSettings()), "dual")}


@pytest.mark.parametrize("name", HEADS)
def test_no_head_learns_from_the_texts_of_items_and_users_outside_training(name):
    config, prefix = HEADS[name]
    states = []
    for text in ("kettle", OTHER):
        head = build(config)
        head.fit(whole(text), CONTEXT)
        states.append({key: value for key, value in head.state().items() if key.startswith(prefix)})
    assert states[0]
    require_equal(*states)
