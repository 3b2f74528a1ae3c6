"""Every kind of encoder with a head: fitted, saved with all its files, loaded elsewhere, given text queries."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.settings.encoder import (
    ConcatSettings,
    HuggingFaceSettings,
    LsaSettings,
    PartSettings,
    StaticSettings,
    TfIdfSettings,
)
from llmrec_cli.settings.head import EaseSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.testing.shop import copies

KINDS = ("static", "tfidf", "lsa", "concat", "whitened", "projected")


def settings(kind, path):
    model = HuggingFaceSettings(path=path, max_length=24)
    return {"static": StaticSettings(path=path), "tfidf": TfIdfSettings(), "lsa": LsaSettings(embedding_size=8),
            "concat": ConcatSettings(parts={"text": PartSettings(encoder=model),
                                            "lsa": PartSettings(encoder=LsaSettings(embedding_size=8), weight=0.7)}),
            "whitened": HuggingFaceSettings(path=path, max_length=24, whitening=0.5),
            "projected": HuggingFaceSettings(path=path, max_length=24, projection=4)}[kind]


@pytest.fixture(params=KINDS)
def saved(request, shop, tmp_path):
    """A head with each kind of encoder works after its folder was moved and the encoder's folder removed."""
    origin = shutil.copytree(shop.encoder.path, tmp_path / "origin")
    config = shop.config(EaseSettings(l2=20, features=FeatureWeightsSettings(text=3.0)),
                         encoder=settings(request.param, str(origin)))
    head = shop.fit(config)
    save_recommender(tmp_path / "here", head, shop.data, ("train",), {})
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(origin)
    return head, tmp_path / "there"


def test_a_saved_model_scores_words_and_new_items_like_the_fitted_one(saved, shop):
    head, folder = saved
    again = load_recommender(folder, shop.context()).head
    texts = np.array(["a robot in the galaxy", "", "爱情 情书"], object)
    assert torch.equal(again.score(shop.known_users()), head.score(shop.known_users()))
    head.add_items(copies(shop.data.items))
    again.add_items(copies(shop.data.items))
    torch.testing.assert_close(again.score(shop.known_users(num_added=3)), head.score(shop.known_users(num_added=3)))
    scores = head.score_text(texts)
    torch.testing.assert_close(again.score_text(texts), scores)
    assert scores[0].std() > 0
    assert not any(name.endswith(".pkl") for name in map(str, folder.rglob("*")))
    assert load_file(folder / "model.safetensors")


def test_a_file_that_the_manifest_does_not_name_is_refused_and_the_desktops_is_not(saved, shop):
    _, folder = saved
    (folder / ".DS_Store").write_bytes(b"x")
    load_recommender(folder, shop.context())
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"model-00002-of-00002\.safetensors: is not in manifest\.json"):
        load_recommender(folder, shop.context())


def test_a_second_fit_with_the_cache_encodes_nothing_and_gives_the_same_bits(shop, tmp_path):
    head = EaseSettings(l2=20, features=FeatureWeightsSettings(text=3.0))
    for kind in ("whitened", "concat"):
        config = shop.config(head, encoder=settings(kind, shop.encoder.path))
        first = shop.fit(config, cache=tmp_path / kind)
        shards = sorted(path.name for path in (tmp_path / kind).rglob("*.safetensors"))
        again = shop.fit(config, cache=tmp_path / kind)
        assert shards
        assert sorted(path.name for path in (tmp_path / kind).rglob("*.safetensors")) == shards
        assert torch.equal(first.score(shop.known_users()), again.score(shop.known_users()))
