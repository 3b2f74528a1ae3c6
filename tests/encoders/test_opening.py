"""Encoders of every kind behind the same interface: fit on texts, save as arrays, restore the same vectors."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.encoders.tfidf import split_words
from llmrec_cli.errors import ArtifactError, ConfigError, DataError
from llmrec_cli.settings.encoder import (
    ConcatSettings,
    HuggingFaceSettings,
    LsaSettings,
    PartSettings,
    ScratchSettings,
    StaticSettings,
    TfIdfSettings,
)
from tests.tiny_models import SENTENCES, save_tiny

CPU = torch.device("cpu")
ITEMS = ["the robot and the moon", "the moon at night", "a robot love letter", "爱情 机器人的太空", "太空 机器人",
         "a love letter from Paris", "", "the night in Paris"]
NEW = ["robot night", "", "מרחב 👩‍🚀 غير معروف", "机器人", "the robot and the moon", "x" * 1_000_000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("bert")))


@pytest.fixture(params=["hf", "static", "unweighted", "tfidf", "lsa", "concat"])
def settings(request, folder):
    model = HuggingFaceSettings(path=folder, max_length=12)
    return {"hf": model, "static": StaticSettings(path=folder),
            "unweighted": StaticSettings(path=folder, weighting="none"),
            "tfidf": TfIdfSettings(), "lsa": LsaSettings(embedding_size=5), "concat": ConcatSettings(parts={
                "text": PartSettings(encoder=model),
                "lsa": PartSettings(encoder=LsaSettings(embedding_size=5), weight=0.7)})}[request.param]


def fitted(settings, texts=ITEMS):
    encoder = open_encoder(settings, CPU)
    encoder.fit(texts)
    return encoder


def test_vectors_come_one_for_each_text_finite_and_of_one_size(settings):
    encoder = fitted(settings)
    vectors = encoder.encode(NEW)
    assert vectors.shape == (len(NEW), encoder.embedding_size)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert encoder.encode([]).shape == (0, encoder.embedding_size)


def test_the_state_restores_the_same_encoder(settings):
    encoder, again = fitted(settings), open_encoder(settings, CPU)
    state = encoder.state()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
    again.load(state)
    assert again.identity == encoder.identity
    assert np.array_equal(again.encode(NEW), encoder.encode(NEW))
    assert again.embedding_size == encoder.embedding_size


def test_fitting_twice_gives_the_same_bits_and_the_identity_follows_what_was_learned(settings):
    one, same, other = fitted(settings), fitted(settings), fitted(settings, [*ITEMS, "the robot", "the robot Paris"])
    assert one.identity == same.identity
    assert np.array_equal(one.encode(NEW), same.encode(NEW))
    assert (one.identity == other.identity) == np.array_equal(one.encode(ITEMS), other.encode(ITEMS))
    assert (one.identity == other.identity) == (one.state() == {})


def test_tfidf_is_scikit_learns_for_the_words_that_two_texts_have():
    theirs = TfidfVectorizer(analyzer=split_words, min_df=2, sublinear_tf=True)
    assert np.allclose(fitted(TfIdfSettings()).encode(ITEMS), theirs.fit_transform(ITEMS).toarray(), atol=1e-6)
    assert "机器" in theirs.vocabulary_


def test_tfidf_keeps_the_words_that_most_texts_have():
    encoder = fitted(TfIdfSettings(embedding_size=2))
    assert list(encoder.words.index) == ["a", "the"]  # Both are in most texts; ties are in alphabetical order.


def test_lsa_with_all_its_dimensions_keeps_the_cosines_of_tfidf_and_with_few_those_of_the_best_approximation():
    exact = fitted(TfIdfSettings()).encode(ITEMS)
    whole = fitted(LsaSettings(embedding_size=100)).encode(ITEMS)
    assert np.allclose(whole @ whole.T, exact @ exact.T, atol=1e-5)
    left, values, _ = np.linalg.svd(exact)
    best = (left[:, :3] * values[:3]**2) @ left[:, :3].T
    three = fitted(LsaSettings(embedding_size=3)).encode(ITEMS)
    assert np.allclose(three @ three.T, best, atol=1e-5)


def test_texts_without_common_words_cannot_be_fitted():
    for settings in (TfIdfSettings(), LsaSettings()):
        with pytest.raises(DataError, match=f"encoder={settings.kind}: no word occurs in the texts of two items"):
            fitted(settings, ["one", "two", ""])


def test_a_static_vector_is_the_mean_of_the_tokens_embeddings_by_hand(folder):
    encoder = fitted(StaticSettings(path=folder, weighting="none"))
    table, ids = encoder.embeddings_VD, encoder.tokenizer.convert_tokens_to_ids
    moon, the = table[ids("moon")], table[ids("the")]
    assert np.allclose(encoder.encode(["the moon the", "", "moon"]), [(2 * the + moon) / 3, 0 * moon, moon], atol=1e-6)
    weighted = fitted(StaticSettings(path=folder), ["the moon", "the robot", "the"])
    weight_the, weight_moon = 1.0, np.log(4 / 2) + 1
    expected = (weight_the * the + weight_moon * moon) / (weight_the + weight_moon)
    assert np.allclose(weighted.encode(["the moon"])[0], expected, atol=1e-6)


def test_the_parts_of_concat_are_centred_of_length_one_and_weighted(folder):
    model = HuggingFaceSettings(path=folder, max_length=12)
    encoder = fitted(ConcatSettings(parts={"text": PartSettings(encoder=model, weight=2.0),
                                           "words": PartSettings(encoder=TfIdfSettings(), weight=0.5),
                                           "none": PartSettings(encoder=LsaSettings(), weight=0)}))
    raw = load_encoder(model, None, CPU).encode(ITEMS)
    has_text = np.array([bool(text) for text in ITEMS])
    centred = raw - raw[has_text].mean(0)
    expected = 2 * centred / np.linalg.norm(centred, axis=1, keepdims=True)
    vectors = encoder.encode(ITEMS)
    assert np.allclose(vectors[has_text, :16], expected[has_text], atol=1e-5)
    assert not vectors[~has_text].any()
    assert np.allclose(np.linalg.norm(vectors[has_text, 16:], axis=1), 0.5, atol=1e-6)
    assert not encoder.encode(["unheard"])[0, 16:].any()


def test_the_order_in_which_the_parts_are_named_changes_nothing(folder):
    parts = {"text": PartSettings(encoder=HuggingFaceSettings(path=folder, max_length=12)),
             "words": PartSettings(encoder=TfIdfSettings())}
    one, other = fitted(ConcatSettings(parts=parts)), fitted(ConcatSettings(parts=dict(reversed(parts.items()))))
    assert one.identity == other.identity
    assert np.array_equal(one.encode(NEW), other.encode(NEW))


def test_encoders_without_a_transformer_cannot_be_trained_and_random_weights_are_refused():
    for settings in (StaticSettings(), TfIdfSettings(), LsaSettings(), ConcatSettings()):
        with pytest.raises(ConfigError, match=f"encoder={settings.kind}: has no transformer"):
            load_encoder(settings, None, CPU)
    with pytest.raises(ConfigError, match="run `llmrec pretrain encoder=scratch`"):
        open_encoder(ScratchSettings(), CPU)


def test_static_weights_of_another_vocabulary_are_refused(folder):
    with pytest.raises(ArtifactError, match="weights of 3 tokens do not fit embeddings of"):
        open_encoder(StaticSettings(path=folder), CPU).load({"weights": np.ones(3, np.float32)})


def test_concat_requires_two_valid_parts():
    def is_problem(words, **parts):
        settings = ConcatSettings(parts={name: PartSettings(encoder=encoder) for name, encoder in parts.items()})
        return any(words in problem for problem in settings.problems())

    assert is_problem("give at least two", a=LsaSettings())
    assert is_problem("cannot be a part", a=ConcatSettings(), b=LsaSettings())
    assert is_problem("use letters, digits", **{"a.b": TfIdfSettings(), "b": LsaSettings()})
    assert not list(ConcatSettings().problems())


def test_the_sentences_of_a_tiny_model_are_not_all_alike(folder):
    vectors = fitted(StaticSettings(path=folder, weighting="none")).encode(SENTENCES)
    assert len(np.unique(vectors.round(4), axis=0)) == len(SENTENCES)
