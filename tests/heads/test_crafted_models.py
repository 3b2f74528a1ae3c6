"""Models with right hashes and wrong contents, of every head: refused with the name of what is wrong, or no different.

Fault 92: never a crash, a hang, a traceback, or another answer.
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from llmrec_cli.errors import ArtifactError, LlmrecError
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import build
from llmrec_cli.settings.encoder import ConcatSettings, LsaSettings, PartSettings, StaticSettings, TfIdfSettings
from llmrec_cli.settings.head import HEADS, ContentSettings, EaseSettings, GroupAggregateSettings, UserKnnSettings
from llmrec_cli.settings.heads.clusters import ClustersSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.item_similarity import ItemSimilaritySettings
from tests.faults.crafting import (
    craft_table,
    craft_tensors,
    crafted_values,
    kept,
    load,
    rehash,
)
from tests.heads.conftest import NAMES
from tests.heads.groups.test_group_conformance import TRAINED, club, taught  # noqa: F401

HERE = ("ease_dual", "ease_words", "clusters_own", "content_lsa", "similarity_concat", "item_static", "user_weights",
        "group_aggregate")
EVERY = (*NAMES, *TRAINED, *HERE)
FUZZED = 2000
"""Mutated and rehashed models, over all heads."""
QUICK = ("popularity", "item_knn", "user_knn", "ease_features", "ials", "mf", "neural_cf", "factorization_machine",
         "two_tower_frozen", "sequential_ids", "content", "clusters", "fusion", *HERE)
SEVERAL = 12
"""Of each head in the quick test."""


def more_configs(shop):
    """Return heads in ways that the conformance test has no need of, and that save other tensors."""
    concat = ConcatSettings(parts={"a": PartSettings(encoder=LsaSettings(embedding_size=6)),
                                   "b": PartSettings(encoder=TfIdfSettings(
        embedding_size=20), weight=0.5)})
    text = FeatureWeightsSettings(text=1.0)
    return {
        "ease_dual": shop.config(EaseSettings(l2=20, form="dual", features=FeatureWeightsSettings(attributes=2.0))),
        "ease_words": shop.config(EaseSettings(l2=20, features=FeatureWeightsSettings(words=1.0, attributes=1.0))),
        "clusters_own": shop.config(ClustersSettings(text=0.5, num_clusters=3, first_clicks=1, click_weight=0.5),
                                    encoder=LsaSettings(embedding_size=6)),
        "content_lsa": shop.config(ContentSettings(features=text, denoise=0.5, gamma=1.0, l2=1.0, blend=0.5),
                                   encoder=LsaSettings(embedding_size=6)),
        "similarity_concat": shop.config(ItemSimilaritySettings(features=text), encoder=concat),
        "item_static": shop.config(ItemSimilaritySettings(features=text),
                                   encoder=StaticSettings(path=shop.encoder.path)),
        "user_weights": shop.config(UserKnnSettings(k=20, weight="value")),
        "group_aggregate": shop.config(GroupAggregateSettings(members={"near": shop.config(UserKnnSettings(k=5))})),
    }


@pytest.fixture(scope="session")
def fit_more(shop):
    """Return a head of this file by its name, fitted once."""
    found = {}

    def one(name):
        if name not in found:
            found[name] = build(more_configs(shop)[name])
            found[name].fit(shop.data.training("train"), shop.context())
        return found[name]

    return one


@pytest.fixture(scope="module")
def saved(request, tmp_path_factory, shop, fitted, fit_more):
    """Return the folder of a saved model of a head, written once."""
    found = {}

    def one(name):
        if name not in found:
            data = shop.data
            if name in TRAINED:
                data = request.getfixturevalue("club").data
                head = request.getfixturevalue("taught")(name)
            else:
                head = fit_more(name) if name in HERE else fitted(name)
            found[name] = tmp_path_factory.mktemp("models") / name
            save_recommender(found[name], head, data, ("train",), {"refit": "none", "seed": 1, "audience": "users"})
        return found[name]

    return one


def craft(folder: Path, rng: random.Random) -> str:
    """Change a model so that its hashes are right, and return what was changed."""
    kind = rng.choices(["tensors", "histories", "table", "config", "manifest"], [60, 15, 15, 6, 4])[0]
    if kind == "tensors":
        what = craft_tensors(folder / "model.safetensors", rng)
    elif kind == "histories":
        what = craft_tensors(folder / "histories.safetensors", rng)
    elif kind == "table":
        what = craft_table(rng.choice(sorted(folder.glob("*.parquet"))), rng)
    elif kind == "config":
        # Settings that mean something else are another model: only kinds of values are changed.
        content = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        content, what = crafted_values(content, rng)
        (folder / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    rehash(folder)
    if kind == "manifest":
        file = folder / "manifest.json"
        content, what = crafted_values(json.loads(file.read_text("utf-8")), rng)
        file.write_text(json.dumps(content), "utf-8")
    return f"{kind}: {what}"


def outcome(folder: Path, before: bytes, what: str) -> str:
    """Return what became of a crafted model; whatever is raised that is no refusal ends the test."""
    try:
        after = load(folder)
    except ArtifactError:
        return "refused"
    except LlmrecError as error:
        # Settings that are possible, and that this data or machine cannot do, are no damage.
        return "refused" if what.startswith("config") else f"{error!r}"
    if after == before:
        return "same"
    # Settings that mean something else are another model.
    return "same" if what.startswith("config") else "accepted, with another answer"


def fuzz(folder: Path, number: int, seed: str) -> Counter:
    """Return how many crafted models were refused, and how many gave the same answer."""
    rng, found, before = random.Random(seed), Counter(), load(folder)
    for _ in range(number):
        with kept(folder):
            what = craft(folder, rng)
            try:
                ended = outcome(folder, before, what)
            except Exception as error:
                raise AssertionError(f"{what}: {error!r}") from error
            assert ended in ("refused", "same"), f"{what}: {ended}"
            found[ended] += 1
    assert load(folder) == before
    return found


def test_every_head_of_the_table_is_here():
    heads = {name for name in HEADS if any(known == name or known.startswith((f"{name}_", f"{name[:4]}"))
                                           for known in EVERY)}
    assert heads == set(HEADS)


@pytest.mark.parametrize("name", QUICK)
def test_a_crafted_model_is_refused_or_answers_the_same(saved, name):
    found = fuzz(saved(name), SEVERAL, f"quick {name}")
    assert found["refused"] >= SEVERAL // 3, found


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_of_2000_crafted_models_each_is_refused_or_answers_the_same(saved, name):
    number = -(-FUZZED // len(EVERY))
    found = fuzz(saved(name), number, f"slow {name}")
    print(name, dict(found), file=sys.stderr)
    assert found["refused"] > number / 2, found
