"""Heads on the tiny shop: how each is set up, and each fitted once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli.data.histories import widened
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import Queries, known_users
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.requests.asked import asked, match
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.adversarial import Fgm, NoAdversary
from llmrec_cli.settings.encoder import HuggingFace
from llmrec_cli.settings.head import Content, Ease, Fusion, Ials, ItemKnn, Popularity, Recipe, TwoTower, UserKnn
from llmrec_cli.settings.heads.clusters import Clusters
from llmrec_cli.settings.heads.factorization_machine import FactorizationMachine
from llmrec_cli.settings.heads.features import FeatureWeights
from llmrec_cli.settings.heads.interest import Interest
from llmrec_cli.settings.heads.item_similarity import ItemSimilarity
from llmrec_cli.settings.heads.mf import Mf
from llmrec_cli.settings.heads.neural_cf import NeuralCf
from llmrec_cli.settings.heads.rp3beta import Rp3BetaSettings
from llmrec_cli.settings.heads.sequential import Sequential
from llmrec_cli.settings.loss import Bce, Bpr, Distillation, Mse, Softmax
from llmrec_cli.settings.optim import AdamW
from llmrec_cli.settings.peft import EmbeddingAdapter, Frozen, Lora, TopLayers

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shop:
    """The tiny shop's data, and recipes and contexts for it."""

    data: PreparedData
    encoder: HuggingFace

    def recipe(self, head, **changed) -> Recipe:
        """Return a recipe that trains for a second, with what is `changed`."""
        usual = {"encoder": self.encoder, "peft": Frozen(), "adversarial": NoAdversary(), "loss": Softmax(),
                 "optim": AdamW(epochs=8, batch_size=128, learning_rate=0.02)}
        return Recipe(head=head, **(usual | changed))

    def context(self, **changed) -> Context:
        """Return a context with validation."""
        return Context(**({"device": CPU, "seed": 1, "validation": validation_of(self.data, "ndcg@10")} | changed))

    def fit(self, recipe: Recipe, **context) -> Head:
        """Return a head fitted on the training interactions."""
        head = build(recipe)
        head.fit(self.data.training("train"), self.context(**context))
        return head

    def known(self, users=None, num_added: int = 0) -> Queries:
        """Return queries of known users, all of them by default, to a head that `num_added` items were added to."""
        history = widened(self.data.part("train").matrix, len(self.data.items) + num_added)
        chosen = np.arange(len(self.data.users)) if users is None else np.array(users)
        return known_users(chosen, self.data.users.ids, history, history)

    def new(self, histories: list[list[str]]) -> Queries:
        """Return queries of users that nobody knows, with these items as history."""
        nobody = self.data.part("train").matrix
        names = [f"new {n}" for n in range(len(histories))]
        return match(asked(names, histories=histories), self.data.users, self.data.items, nobody, nobody).queries

    def histories(self, users) -> list[list[str]]:
        """Return the training items of known users, as ids."""
        matrix = self.data.part("train").matrix
        return [list(self.data.items.ids[matrix.indices[matrix.indptr[u]:matrix.indptr[u + 1]]]) for u in users]


@pytest.fixture(scope="session")
def shop(tiny_prepared: Path, tiny_encoder: Path) -> Shop:
    """The tiny shop."""
    return Shop(read_prepared(tiny_prepared), HuggingFace(path=str(tiny_encoder), max_length=24))


def recipes(shop: Shop) -> dict[str, Recipe]:
    """Return every kind of head in every way that its code branches."""
    features = FeatureWeights(text=3.0, attributes=3.0)
    members = {"ease": shop.recipe(Ease(l2=20, features=features)), "near": shop.recipe(UserKnn(k=20)),
               "tower": shop.recipe(TwoTower(embedding_size=16, dropout=0.1))}
    longer = AdamW(epochs=30, batch_size=128, learning_rate=0.02)
    return {
        "popularity": shop.recipe(Popularity()),
        "item_knn": shop.recipe(ItemKnn(k=10)),
        "item_knn_bm25": shop.recipe(ItemKnn(k=10, weighting="bm25", exponent=2.0, neighbours_of="history")),
        "user_knn": shop.recipe(UserKnn(k=20)),
        "user_knn_tfidf": shop.recipe(UserKnn(k=20, weighting="tfidf")),
        "user_knn_bm25": shop.recipe(UserKnn(k=20, weighting="bm25")),
        "rp3beta": shop.recipe(Rp3BetaSettings(k=10)),
        "ease": shop.recipe(Ease(l2=20)),
        "ease_features": shop.recipe(Ease(l2=20, features=features)),
        "ials": shop.recipe(Ials(embedding_size=16)),
        "ials_features": shop.recipe(Ials(embedding_size=16, features=FeatureWeights(text=1.0, attributes=1.0))),
        "mf": shop.recipe(Mf(embedding_size=16), optim=longer),
        "mf_bpr": shop.recipe(Mf(embedding_size=16, candidates=10, l2=0.01), loss=Bpr(), optim=longer),
        "mf_cosine": shop.recipe(Mf(embedding_size=16, l2=0.01), loss=Softmax(similarity="cosine"), optim=longer),
        "mf_mse": shop.recipe(Mf(embedding_size=16, target="choice", l2=0.01), loss=Mse(), optim=longer),
        "neural_cf": shop.recipe(NeuralCf(embedding_size=16, candidates=20), loss=Bce(), optim=longer),
        "factorization_machine": shop.recipe(FactorizationMachine(embedding_size=16), optim=longer),
        "two_tower_frozen": shop.recipe(TwoTower(embedding_size=16, dropout=0.1), adversarial=Fgm()),
        "two_tower_lora": shop.recipe(TwoTower(embedding_size=16, dropout=0.1, encoded_items=16),
                                      peft=Lora(rank=2, num_layers=1), adversarial=Fgm()),
        "sequential": shop.recipe(Sequential(embedding_size=16, num_layers=1, max_length=12, dropout=0.1),
                                  optim=longer),
        "sequential_ids": shop.recipe(Sequential(embedding_size=16, num_layers=1, text_scale=0.0, id_dropout=0.0),
                                      loss=Softmax(num_negatives=20), optim=longer),
        "sequential_lora": shop.recipe(Sequential(embedding_size=16, num_layers=1, dropout=0.1, encoded_items=16),
                                       loss=Softmax(similarity="cosine", temperature=0.2), adversarial=Fgm(),
                                       peft=Lora(rank=2, num_layers=1), optim=replace(longer, patience=30)),
        "content": shop.recipe(Content(features=features)),
        "content_tuned": shop.recipe(Content(features=FeatureWeights(text=1.0, tuned=True)), loss=Distillation(),
                                     peft=EmbeddingAdapter(rank=4)),
        "item_similarity": shop.recipe(ItemSimilarity(features=features, recency=0.9)),
        "two_tower_adapter": shop.recipe(TwoTower(embedding_size=16, dropout=0.1), peft=EmbeddingAdapter(rank=4)),
        "interest": shop.recipe(Interest(candidates="ease", rerank=50, history_items=3), loss=Bce(),
                                peft=TopLayers(num_layers=1), optim=AdamW(epochs=1, batch_size=64)),
        "clusters": shop.recipe(Clusters(num_clusters=4, first_clicks=2, click_weight=0.6, click_smoothing=5)),
        "clusters_text": shop.recipe(Clusters(text=0.5, click_smoothing=5)),
        "fusion": shop.recipe(Fusion(members=members)),
        "fusion_raw": shop.recipe(Fusion(members=members, normalise="raw",
                                         weights={"ease": 1.0, "near": 0.5, "tower": 0.1})),
    }


NAMES = ("interest", "ials", "ials_features", "popularity", "item_knn", "item_knn_bm25", "user_knn", "user_knn_tfidf",
         "user_knn_bm25", "rp3beta", "ease", "ease_features", "two_tower_frozen", "two_tower_lora", "sequential",
         "sequential_ids", "sequential_lora",
         "clusters", "clusters_text",
         "content", "content_tuned", "item_similarity", "two_tower_adapter", "fusion",
         "mf", "mf_bpr", "mf_cosine", "mf_mse", "neural_cf", "factorization_machine",
         "fusion_raw")


@pytest.fixture(scope="session")
def fitted(shop: Shop) -> Callable[[str], Head]:
    """Return a head by its name, fitted once; whoever changes it must take a copy."""
    found: dict[str, Head] = {}

    def one(name: str) -> Head:
        if name not in found:
            found[name] = shop.fit(recipes(shop)[name])
        return found[name]

    return one
