"""Fusion: weights learned on validation, never worse than the best member there."""

import pytest
import torch

from llmrec_cli.config import compose
from llmrec_cli.errors import DataError
from llmrec_cli.heads.fusion import _ascend
from llmrec_cli.settings.head import Ease, Fusion, ItemKnn, Popularity, UserKnn


def fusion(shop, normalise="zscore", weights="learned", **members):
    return shop.recipe(Fusion(members={name: shop.recipe(head) for name, head in members.items()},
                              normalise=normalise, weights=weights))


@pytest.mark.parametrize("normalise", ["zscore", "raw"])
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
    assert head.weights == {"ease": 1.0}
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
    weights, value = _ascend({"a": 1.0, "b": 0.0}, "b", -0.25, lambda w: -(w["b"] - 0.5)**2)
    assert (weights, value) == ({"a": 1.0, "b": 0.5}, 0.0)
    assert _ascend({"a": 1.0, "b": 0.0}, "b", 1.0, lambda w: 1.0) == ({"a": 1.0, "b": 0.0}, 1.0)
    # The last weight is never taken away: a sum of nothing is no scorer.
    assert _ascend({"a": 1.0, "b": 0.0}, "a", -1.0, lambda w: -w["a"])[0] == {"a": 0.05, "b": 0.0}
