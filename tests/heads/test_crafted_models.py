"""Models with right hashes and wrong contents, of every head: refused with the faulty part named, or unchanged.

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
from tests.heads.groups.test_group_conformance import TRAINED, club, group_case, taught  # noqa: F401
from tests.some_slow import some_slow

HERE = ("ease_dual", "ease_words", "clusters_own", "content_lsa", "similarity_concat", "item_static", "user_weights",
        "group_aggregate")
EVERY = (*NAMES, *TRAINED, *HERE)
FUZZED = 2000
"""Mutated and rehashed models, over all heads."""
QUICK = ("popularity", "item_knn", "user_knn", "ease_features", "ials", "mf", "neural_cf", "factorization_machine",
         "two_tower_frozen", "sequential_ids", "content", "clusters", "fusion", *HERE)
SEVERAL = 12
"""Crafted models per head in the quick test."""


def more_configs(shop):
    """Return model configs beyond the conformance test's, which save other tensors."""
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
    """Return a function from the name of a config of this file to its head, fitted once."""
    heads = {}

    def head(name):
        if name not in heads:
            heads[name] = build(more_configs(shop)[name])
            heads[name].fit(shop.data.training("train"), shop.context())
        return heads[name]

    return head


@pytest.fixture(scope="module")
def saved(request, tmp_path_factory, shop, fitted, fit_more):
    """Return a function from a head's name to the folder of its saved model, written once."""
    folders = {}

    def folder(name):
        if name not in folders:
            data = shop.data
            if name in TRAINED:
                data = request.getfixturevalue("club").data
                head = request.getfixturevalue("taught")(name)
            else:
                head = fit_more(name) if name in HERE else fitted(name)
            folders[name] = tmp_path_factory.mktemp("models") / name
            save_recommender(folders[name], head, data, ("train",), {"refit": "none", "seed": 1, "audience": "users"})
        return folders[name]

    return folder


def craft(folder: Path, rng: random.Random) -> str:
    """Change a model, keeping its hashes right, and return a description of the change."""
    kind = rng.choices(["tensors", "histories", "table", "config", "manifest"], [60, 15, 15, 6, 4])[0]
    if kind == "tensors":
        what = craft_tensors(folder / "model.safetensors", rng)
    elif kind == "histories":
        what = craft_tensors(folder / "histories.safetensors", rng)
    elif kind == "table":
        what = craft_table(rng.choice(sorted(folder.glob("*.parquet"))), rng)
    elif kind == "config":
        # Other valid settings would be another model: only types of values are changed.
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
    """Return the outcome of loading a crafted model; any exception that is no refusal ends the test."""
    try:
        after = load(folder)
    except ArtifactError:
        return "refused"
    except LlmrecError as error:
        # Valid settings that this data or machine cannot run are no damage.
        return "refused" if what.startswith("config") else f"{error!r}"
    if after == before:
        return "same"
    # Other valid settings are another model.
    return "same" if what.startswith("config") else "accepted, with another answer"


def fuzz(folder: Path, number: int, seed: str) -> Counter:
    """Count the crafted models that were refused, and those that gave the same answer."""
    rng, outcomes, before = random.Random(seed), Counter(), load(folder)
    for _ in range(number):
        with kept(folder):
            what = craft(folder, rng)
            try:
                ended = outcome(folder, before, what)
            except Exception as error:
                raise AssertionError(f"{what}: {error!r}") from error
            assert ended in ("refused", "same"), f"{what}: {ended}"
            outcomes[ended] += 1
    assert load(folder) == before
    return outcomes


def test_every_head_of_the_table_has_a_crafted_model():
    heads = {name for name in HEADS if any(example == name or example.startswith((f"{name}_", f"{name[:4]}"))
                                           for example in EVERY)}
    assert heads == set(HEADS)


@pytest.mark.parametrize("name", some_slow(QUICK, 7))
def test_a_crafted_model_is_refused_or_answers_the_same(saved, name):
    outcomes = fuzz(saved(name), SEVERAL, f"quick {name}")
    assert outcomes["refused"] >= SEVERAL // 3, outcomes


@pytest.mark.faults
@pytest.mark.parametrize("name", EVERY)
def test_of_2000_crafted_models_each_is_refused_or_answers_the_same(saved, name):
    number = -(-FUZZED // len(EVERY))
    outcomes = fuzz(saved(name), number, f"slow {name}")
    print(name, dict(outcomes), file=sys.stderr)
    assert outcomes["refused"] > number / 2, outcomes
