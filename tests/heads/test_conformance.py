"""Every head of the table keeps the promises of heads, in each of its examples."""

import numpy as np
import pytest
import torch

from llmrec_cli.settings.head import HEADS
from llmrec_cli.testing.heads import HEAD_CHECKS, values_and_ages_of_interactions_change_the_scores
from llmrec_cli.testing.shop import copies
from llmrec_cli.testing.suite import require_all
from tests.heads.conftest import EXAMPLES, NAMES, configs
from tests.some_slow import some_slow

# The properties of the heads, repeated here: a head with a wrong property would skip checks.
KNOW_USERS = {"user_knn", "mf", "neural_cf", "factorization_machine", "two_tower", "fusion"}
BY_TEXT = ("content", "content_tuned", "item_similarity", "two_tower_adapter", "ials_features", "ease_features",
           "two_tower_frozen", "two_tower_lora", "fusion", "fusion_trained", "fusion_raw", "sequential",
           "sequential_lora", "item_knn_smooth")
ANSWER_TEXT = (*BY_TEXT, "interest", "clusters_text")
BY_ATTRIBUTES = ("factorization_machine",)


# tests/heads/test_interaction_weights.py looks closer at weights and ages.
CHECKS = [check for check in HEAD_CHECKS if check is not values_and_ages_of_interactions_change_the_scores]


# They take most of the time; their heads have other examples, but interest, which tests/heads/interest tests.
HEAVY = ("interest", "sequential_lora", "two_tower_lora", "sequential_ids", "two_tower_adapter", "fusion_raw",
         "clusters_text", "content_tuned", "mf_bpr", "mf_cosine")


def heavy_are_slow(names):
    """Return parameters; three of those that take most of the time are marked slow, the rest `faults`."""
    light = [name for name in names if name not in HEAVY]
    return some_slow([*light, *(name for name in HEAVY if name in names)], len(light), 3)


@pytest.mark.parametrize("name", heavy_are_slow(NAMES))
def test_every_head_keeps_every_promise(case, name):
    require_all({name: case(name)}, CHECKS)


def test_every_head_of_the_table_has_an_example():
    assert {cls.kind for cls, _ in EXAMPLES.values()} == set(HEADS)


@pytest.mark.parametrize("name", heavy_are_slow(NAMES))
def test_the_flags_of_each_head_are_true(fitted, name):
    head = fitted(name)
    assert head.is_personal == (head.config.head.kind != "popularity")
    assert head.uses_identity <= (head.config.head.kind in KNOW_USERS)
    assert head.supports_text_queries == (name in ANSWER_TEXT)
    assert (head.item_texts is not None) == (name in BY_TEXT)
    assert head.config.head.learns_in_a_second == (name != "interest")


@pytest.mark.parametrize("name", heavy_are_slow(["two_tower_frozen", "two_tower_lora"]))
def test_another_seed_gives_other_weights(fitted, shop, name):
    other = shop.fit(configs(shop)[name], seed=2).state()
    assert (other["towers.item_ids.weight"] != fitted(name).state()["towers.item_ids.weight"]).any()


@pytest.mark.parametrize("name", heavy_are_slow([*BY_TEXT, "interest", *BY_ATTRIBUTES]))
def test_an_added_item_is_scored_by_its_description(case, shop, name):
    head, items = case(name).copy(), shop.data.items
    twins = [n for n in range(3, len(items)) if (items.attributes[n] != items.attributes[0]).nnz == 0][:1]
    head.add_items(copies(items, (0, 1, *twins)))
    new = head.score(shop.known_users(num_added=3))[:, 44:]
    assert (new.std(dim=0) > 0).all()
    assert (new[:, 0] != new[:, 1]).any()
    if name in BY_ATTRIBUTES:
        torch.testing.assert_close(new[:, 0], new[:, 2])


def test_a_text_is_answered_with_the_item_that_has_it(fitted, shop):
    scores = fitted("ease_features").score_text(shop.data.items.texts)
    torch.testing.assert_close(scores.diagonal(), scores.max(dim=1).values)


def test_a_recipe_of_an_example_is_composed_as_on_the_command_line(shop):
    config = configs(shop)["mf_bpr"]
    assert (config.head.candidates, config.loss.kind, config.optim.epochs) == (10, "bpr", 30)
    assert configs(shop)["two_tower_lora"].encoder == shop.encoder
    assert np.isclose(configs(shop)["fusion_raw"].head.weights["neighbours"], 0.5)
