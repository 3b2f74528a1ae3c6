"""Fusion: weights learned on validation, never worse than the best member there."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads import fusion_scored, fusion_weights
from llmrec_cli.heads.base import build
from llmrec_cli.heads.fusion_scored import Scored, drawn
from llmrec_cli.heads.fusion_weights import Weights, ascend, learn
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import Ease, Fusion, ItemKnn, Popularity, UserKnn
from tests.heads.by_hand import queries as queries_of


def fusion(shop, normalise="zscore", weights="learned", **members):
    return shop.recipe(Fusion(members={name: shop.recipe(head) for name, head in members.items()},
                              normalise=normalise, weights=weights))


@pytest.mark.parametrize("normalise", ["zscore", "rank", "raw"])
def test_what_is_learned_is_never_worse_than_the_best_member_on_validation(shop, normalise):
    logged = []
    head = shop.fit(fusion(shop, normalise, ease=Ease(l2=20), near=UserKnn(k=5), popular=Popularity()),
                    log=lambda event, **values: logged.append((event, values)))
    value = shop.context().validation(head.score)
    (said,) = [values for event, values in logged if event == "fusion"]
    assert value >= max(said["members"].values())
    assert said["value"] == pytest.approx(value)
    alone = {"ease": Ease(l2=20), "near": UserKnn(k=5), "popular": Popularity()}
    for name, settings in alone.items():
        assert shop.context().validation(shop.fit(shop.recipe(settings)).score) == pytest.approx(said["members"][name])


def test_where_nothing_helps_the_best_member_is_what_remains(shop):
    head = shop.fit(fusion(shop, popular=Popularity(), ease=Ease(l2=20), same=Ease(l2=20)))
    assert list(head.members) == ["ease"]
    assert head.weights.all == {"ease": 1.0}
    assert list(head.chosen().head.members) == ["ease"]
    single = shop.fit(shop.recipe(Ease(l2=20)))
    assert shop.context().validation(head.score) == shop.context().validation(single.score)


def test_given_weights_are_the_weights_of_the_sum(shop):
    head = shop.fit(fusion(shop, "raw", {"popular": 2.0, "ease": 3.0}, popular=Popularity(), ease=Ease(l2=20)))
    queries = shop.known()
    popular, ease = (shop.fit(shop.recipe(settings)).score(queries) for settings in (Popularity(), Ease(l2=20)))
    torch.testing.assert_close(head.score(queries), 2 * popular + 3 * ease)


def test_members_are_scaled_per_query(shop):
    queries = shop.known()
    head = shop.fit(fusion(shop, "zscore", {"ease": 1.0}, ease=Ease(l2=20)))
    scores = head.score(queries)
    torch.testing.assert_close(scores.mean(dim=1), torch.zeros(60), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.std(dim=1, correction=0), torch.ones(60))


def test_weights_cannot_be_learned_without_validation_and_what_is_advised_can_be_typed(shop):
    with pytest.raises(DataError, match=r"prepare with split.valid=0.1, or give a number each") as error:
        shop.fit(fusion(shop, ease=Ease(), near=UserKnn()), validation=None)
    advised = str(error.value).split("give a number each, ")[1]
    assert compose("finetune", [advised, "head.members={ease: {head: ease}, near: {head: user_knn}}",
                                "~head.members.tower", "~head.members.neighbours"]).head.weights == {
        "ease": 1.0, "near": 1.0}


def test_one_member_needs_no_validation(shop):
    head = shop.fit(fusion(shop, near=ItemKnn()), validation=None)
    assert head.chosen().head.weights == {"near": 1.0}


def test_the_ascent_keeps_the_best_weight_that_is_better_and_nothing_that_is_not():
    # Best at b = a / 2.
    weights, value = ascend({"a": 1.0, "b": 0.0}, "b", -0.25, lambda w: -(w["b"] - 0.5)**2)
    assert (weights, value) == ({"a": 1.0, "b": 0.5}, 0.0)
    assert ascend({"a": 1.0, "b": 0.0}, "b", 1.0, lambda w: 1.0) == ({"a": 1.0, "b": 0.0}, 1.0)
    # The last weight is never taken away: a sum of nothing is no scorer.
    assert ascend({"a": 1.0, "b": 0.0}, "a", -1.0, lambda w: -w["a"])[0] == {"a": 0.05, "b": 0.0}


# --- ranks

def test_reciprocal_ranks_add_up_and_equal_scores_share_a_rank(shop):
    head = build(fusion(shop, "rank", {"a": 1.0}, a=Popularity()))
    found = head._scaled(torch.tensor([[0.5, 2.0, 0.5, -1.0]]))
    torch.testing.assert_close(found, torch.tensor([[1 / 62, 1 / 61, 1 / 62, 1 / 64]]))


# --- weights of parts

def scored(seed, size=60, num_items=50, num_cold=20, noise=1.5, cold_by="b", long_by="a"):
    """Return two members, a and b: what is liked among cold items `cold_by` knows, among warm ones `long_by` for long
    histories and the other for short ones; with long_by=None the one that does not know the cold items knows the warm.
    """
    rng = np.random.default_rng(seed)
    cold = np.arange(num_items) >= num_items - num_cold
    relevant = (rng.random((size, num_items)) < 0.2) * 1.0
    history = (np.arange(num_items) < rng.integers(1, 3, size)[:, None]) * 1.0
    relevant[history > 0] = 0
    relevant[:, -1] = 1
    long = history.sum(axis=1) > 1
    scores = {}
    for name in ("a", "b"):
        of_length = (name == long_by) == long[:, None] if long_by else np.full((size, 1), name != cold_by)
        knows = np.where(cold[None, :], name == cold_by, of_length)
        scores[name] = torch.from_numpy((relevant * knows * noise + rng.normal(size=relevant.shape)).astype(np.float32))
    validation = Validation(queries_of(history, list(range(size))), sp.csr_array(relevant.astype(np.float32)),
                            np.arange(num_items), "ndcg@10")
    return Scored(scores, validation, torch.from_numpy(cold))


def test_the_sum_takes_the_weights_of_long_histories_and_of_cold_items_where_they_are():
    scores = {"a": torch.tensor([[1.0, 2.0, 3.0]]).repeat(2, 1), "b": torch.tensor([[10.0, 20.0, 30.0]]).repeat(2, 1)}
    weights = Weights({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, long_history=5)
    found = weights.sum(scores, torch.tensor([4, 5]), torch.tensor([False, False, True]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 33.0], [10.0, 20.0, 33.0]]))
    torch.testing.assert_close(scores["a"][0], torch.tensor([1.0, 2.0, 3.0]))
    assert weights.used() == weights
    assert replace(weights, cold={}, long={}).used().all == {"a": 1.0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_learned_weights_are_never_worse_than_the_best_member(seed, noise, monkeypatch):
    monkeypatch.setattr(fusion_weights, "ENOUGH", 20)
    given = scored(seed, noise=noise)
    weights, alone = learn(given, seed)
    assert given.value(weights) >= max(alone.values())
    assert all(weight >= 0 for part in (weights.all, weights.long, weights.cold) for weight in part.values())


def test_long_and_short_histories_get_weights_of_their_own_where_the_members_differ_there(monkeypatch):
    monkeypatch.setattr(fusion_weights, "ENOUGH", 20)
    weights, _ = learn(scored(1, size=400, num_cold=0, noise=3.0), 0)
    assert weights.long["a"] > 2 * weights.long["b"]
    assert weights.all["b"] > 2 * weights.all["a"]
    assert weights.long_history == 2


@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_no_part_weights_of_its_own(seed, monkeypatch):
    monkeypatch.setattr(fusion_weights, "ENOUGH", 20)
    given = scored(2, size=400)
    # Members as good as each other for everything: what the halves find apart is chance, and is not kept.
    relevant = torch.from_numpy(given.validation.relevant.toarray())
    generator = torch.Generator().manual_seed(seed)
    same = {name: relevant + 0.7 * torch.randn(relevant.shape, generator=generator) for name in ("a", "b")}
    weights, _ = learn(Scored(same, given.validation, given.cold_N), 0)
    assert (weights.long, weights.cold) == ({}, {})


def test_cold_items_get_weights_of_their_own_where_another_member_knows_them():
    weights, _ = learn(scored(3, size=500, noise=3.0, long_by=None), 0)
    assert weights.cold["b"] > 2 * weights.cold["a"]
    assert weights.all["a"] > 2 * weights.all["b"]
    assert weights.long == {}


def test_cold_items_get_none_where_too_few_of_them_were_liked(monkeypatch):
    given = scored(3, size=500, noise=3.0, long_by=None)
    monkeypatch.setattr(fusion_weights, "ENOUGH", given.num_cold() // 2 + 1)
    assert learn(given, 0)[0].cold == {}


# --- the metric of scores held whole

@pytest.mark.parametrize("monitor", ["ndcg@10", "recall@3", "mrr@1", "map@49", "hit@50", "precision@70"])
@pytest.mark.parametrize("spread", [0, 1, 4, 1e6])
def test_the_metric_is_to_the_bit_that_of_the_scorer(monitor, spread, monkeypatch):
    monkeypatch.setattr(fusion_scored, "CHUNK_CELLS", 700)
    given = scored(4, noise=0.5)
    validation = replace(given.validation, monitor=monitor)
    # Rounded to few values, so that much is tied, up to a scorer that says nothing.
    scores = {name: torch.round(s * spread) for name, s in given.scores.items()}
    ours = Scored(scores, validation, given.cold_N)
    weights = Weights({"a": 1.0, "b": 0.5}, {"a": 0.0, "b": 1.0}, {"a": 2.0, "b": 1.0}, 2)
    rows = np.flatnonzero(np.random.default_rng(1).random(60) < 0.5)
    for part, which in ((ours, np.arange(60)), (ours.rows(rows), rows), (ours.rows(rows).rows(np.arange(5)), rows[:5])):
        queries, lengths = validation.queries.rows(which), torch.from_numpy(part.lengths_Q)
        sums = weights.sum({name: s[torch.from_numpy(which)] for name, s in scores.items()}, lengths, given.cold_N)
        expected = replace(validation, queries=queries, relevant=validation.relevant[which]).of(sums)
        assert part.value(weights) == expected
        assert len(part) == len(which)


def test_with_few_queries_nothing_is_learned_for_parts():
    weights, _ = learn(scored(1, size=60, noise=3.0), 0)
    assert (weights.long, weights.cold) == ({}, {})


def test_weights_of_parts_are_saved_and_score_the_same_when_they_are_given(shop):
    members = {"ease": shop.recipe(Ease(l2=20)), "near": shop.recipe(UserKnn(k=5))}
    recipe = shop.recipe(Fusion(members=members, weights={"ease": 1.0, "near": 0.0}, long_history=8,
                                long_weights={"ease": 0.0, "near": 1.0}, cold_weights={"ease": 1.0, "near": 1.0}))
    head = shop.fit(recipe)
    assert head.chosen().head == recipe.head
    found = head.score(shop.known())
    ease, near = (shop.fit(fusion(shop, weights={"x": 1.0}, x=settings)).score(shop.known())
                  for settings in (Ease(l2=20), UserKnn(k=5)))
    long = torch.from_numpy(np.diff(shop.known().history.indptr)) >= 8
    cold = torch.from_numpy(shop.data.part("train").item_counts == 0)
    assert 0 < long.sum() < 60
    assert cold.any()
    torch.testing.assert_close(found[:, ~cold], torch.where(long[:, None], near, ease)[:, ~cold])
    torch.testing.assert_close(found[:, cold], (ease + near)[:, cold])


def test_at_most_so_many_queries_are_looked_at_and_only_those_who_went_on_to_like_something():
    validation = scored(1).validation
    assert drawn(validation, 60, 0) is validation
    some = drawn(validation, 7, 0)
    assert len(some.queries) == some.relevant.shape[0] == 7
    np.testing.assert_array_equal(some.relevant.toarray(), validation.relevant.toarray()[some.queries.user])
    liked = validation.relevant.toarray()
    liked[:5] = 0
    np.testing.assert_array_equal(drawn(replace(validation, relevant=sp.csr_array(liked)), 60, 0).queries.user,
                                  np.arange(5, 60))


def test_memory_is_that_of_all_members_and_of_their_scores(shop):
    data = shop.data.training("train")
    alone = {name: build(shop.recipe(settings)).memory(data)
             for name, settings in {"ease": Ease(), "near": UserKnn(k=5)}.items()}
    assert build(fusion(shop, weights=dict.fromkeys(alone, 1.0), ease=Ease(), near=UserKnn(k=5))).memory(
        data) == sum(alone.values())
    assert build(fusion(shop, ease=Ease(), near=UserKnn(k=5))).memory(
        data) == sum(alone.values()) + 4 * 2 * len(data.users) * len(data.items)


@pytest.mark.parametrize(("typed", "expected"), [
    ("head.long_history=5", "head.long_history=5: give long_weights and a long_history of at least 1, or neither"),
    ("head.cold_weights={ease: 1}", "head.cold_weights: has no effect with weights=learned"),
    ("head.weights={ease: 1, tower: 1, neighbours: -1}", "head.weights.neighbours=-1.0: must be at least 0"),
    ("head.weights={ease: 0, tower: 0, neighbours: 0}", "head.weights: one of them must be above 0"),
    ("head.weights={ease: 1}", "head.weights.neighbours: weights and members must have the same names"),
])
def test_weights_that_cannot_be_are_refused(typed, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        compose("finetune", [typed])
