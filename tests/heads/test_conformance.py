"""What every head promises, asked of every head."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from tests.heads.conftest import NAMES, recipes

# Heads that see nothing of a known user but the history, the user's own row in the data apart.
BY_HISTORY_ALONE = ("content", "content_tuned", "item_similarity", "ials", "ials_features", "popularity", "item_knn",
                    "item_knn_bm25", "rp3beta", "ease", "ease_features", "sequential", "sequential_ids",
                    "sequential_lora")
BY_TEXT = ("interest", "content", "content_tuned", "item_similarity", "two_tower_adapter", "ials_features",
           "ease_features", "two_tower_frozen", "two_tower_lora", "fusion", "fusion_raw", "sequential",
           "sequential_lora")
# Heads that read texts to see who asks, and not what an item is.
OF_USERS = ("clusters_text",)
# Heads whose scores have no natural 0: what they know nothing of is put at the end of the list, not at 0.
NEVER_AHEAD = ("mf", "mf_bpr", "mf_cosine", "mf_mse", "neural_cf", "sequential_ids")
BY_ATTRIBUTES = ("factorization_machine",)

every_head = pytest.mark.parametrize("name", NAMES)


def newcomers(items, chosen=(0, 1, 2)):
    """Return new items that are copies of known ones under names of their own."""
    chosen = np.array(chosen)
    ids = np.array([f"new {n}" for n in chosen], object)
    return Entities(ids, items.titles[chosen], items.texts[chosen], items.attributes[chosen], items.attribute_names)


@every_head
def test_scores_are_finite_float32_of_every_query_with_every_item(fitted, shop, name):
    scores = fitted(name).score(shop.known())
    assert scores.shape == (60, 44)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()


@every_head
def test_scores_tell_items_apart_and_all_but_popularity_tell_users_apart(fitted, shop, name):
    scores = fitted(name).score(shop.known())
    assert (scores.std(dim=1) > 0).all()
    assert bool((scores.std(dim=0) > 0).any()) == (name != "popularity")


@every_head
def test_a_query_without_a_history_gets_finite_scores(fitted, shop, name):
    scores = fitted(name).score(shop.new([[], ["i0"]]))
    assert scores.shape == (2, 44)
    assert torch.isfinite(scores).all()


@every_head
def test_scores_do_not_depend_on_who_else_asks(fitted, shop, name):
    head, queries = fitted(name), shop.known()
    together = head.score(queries)
    for block in (slice(0, 1), slice(7, 20), slice(59, 60)):
        torch.testing.assert_close(head.score(queries.rows(block)), together[block], rtol=1e-4, atol=1e-5)


@every_head
def test_asking_twice_gives_the_same_bits(fitted, shop, name):
    head = fitted(name)
    assert torch.equal(head.score(shop.known()), head.score(shop.known()))


@every_head
def test_the_same_seed_gives_the_same_bits(fitted, shop, name):
    again = shop.fit(recipes(shop)[name]).state()
    first = fitted(name).state()
    assert again.keys() == first.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["two_tower_frozen", "two_tower_lora"])
def test_another_seed_gives_other_weights(fitted, shop, name):
    other = shop.fit(recipes(shop)[name], seed=2).state()
    assert (other["towers.item_ids.weight"] != fitted(name).state()["towers.item_ids.weight"]).any()


@every_head
def test_a_saved_head_scores_the_same_bits_from_its_folder_alone(fitted, shop, name, tmp_path, monkeypatch):
    head = fitted(name)
    save_recommender(tmp_path / "model", head, shop.data, ("train",), {"metrics": {}})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").rename(tmp_path / "elsewhere" / "copy")
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load_recommender(tmp_path / "elsewhere" / "copy", shop.context(validation=None))
    assert torch.equal(loaded.head.score(shop.known()), head.score(shop.known()))
    assert loaded.head.chosen().head.kind == head.chosen().head.kind
    if head.answers_text:
        texts = np.array(["robots on the moon", ""], object)
        torch.testing.assert_close(loaded.head.score_text(texts), head.score_text(texts))
    new = newcomers(shop.data.items)
    with_new = deepcopy(head)
    with_new.add_items(new)
    loaded.head.add_items(new)
    queries = shop.known(num_added=3)
    torch.testing.assert_close(loaded.head.score(queries), with_new.score(queries))


@pytest.mark.parametrize("name", BY_HISTORY_ALONE)
def test_a_new_user_with_a_known_users_history_gets_that_users_scores(fitted, shop, name):
    users = [0, 7, 33]
    head = fitted(name)
    assert torch.equal(head.score(shop.new(shop.histories(users))), head.score(shop.known(users)))


# A tiny encoder with random weights does not learn in a second which two texts go together (test_interest.py).
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"popularity", "interest"}))
def test_a_new_user_is_recommended_what_goes_with_their_history(fitted, shop, name):
    # Users love the genre `number % 4`; items have the genre `number % 4`.
    history = [[f"i{n}" for n in range(genre, 12, 4)] for genre in range(4)]
    queries = shop.new(history)
    lists = recommend_lists(fitted(name).score, queries, 8, item_hash_ranks(shop.data.items.ids))
    own = sum(int(shop.data.items.ids[item][1:]) % 4 == genre
              for genre, items in enumerate(lists.items_QK) for item in items)
    assert own > 14  # Chance is 8 of 32.


@every_head
def test_added_items_have_scores_and_leave_those_of_the_others_alone(fitted, shop, name):
    head = deepcopy(fitted(name))
    before = head.score(shop.known())
    head.add_items(newcomers(shop.data.items))
    after = head.score(shop.known(num_added=3))
    assert after.shape == (60, 47)
    assert torch.isfinite(after).all()
    if name != "fusion":  # Its scores are scaled by the mean and deviation over the whole catalogue.
        torch.testing.assert_close(after[:, :44], before, rtol=1e-4, atol=1e-5)
    head.add_items(newcomers(shop.data.items, (5,)))
    assert head.score(shop.known(num_added=4)).shape == (60, 48)


@pytest.mark.parametrize("name", BY_TEXT)
def test_an_added_item_is_scored_by_its_text(fitted, shop, name):
    head = deepcopy(fitted(name))
    assert head.answers_text
    head.add_items(newcomers(shop.data.items))
    assert (head.score(shop.known(num_added=3))[:, 44:].std(dim=0) > 0).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {*BY_TEXT, *OF_USERS, *NEVER_AHEAD, *BY_ATTRIBUTES}))
def test_an_added_item_of_a_head_without_text_is_not_liked_more_than_a_known_one(fitted, shop, name):
    head = deepcopy(fitted(name))
    assert not head.answers_text
    head.add_items(newcomers(shop.data.items))
    assert (head.score(shop.known(num_added=3))[:, 44:] == 0).all()


@pytest.mark.parametrize("name", NEVER_AHEAD)
def test_an_added_item_that_nothing_is_known_of_is_never_ahead(fitted, shop, name):
    head = deepcopy(fitted(name))
    head.add_items(newcomers(shop.data.items))
    scores = head.score(shop.known(num_added=3))
    assert (scores[:, 44:] <= scores[:, :44].min(dim=1, keepdim=True).values).all()


@pytest.mark.parametrize("name", BY_ATTRIBUTES)
def test_an_added_item_is_scored_by_its_attributes(fitted, shop, name):
    head, items = deepcopy(fitted(name)), shop.data.items
    twins = [n for n in range(3, len(items)) if (items.attributes[n] != items.attributes[0]).nnz == 0][:1]
    head.add_items(newcomers(items, (0, 1, *twins)))
    new = head.score(shop.known(num_added=3))[:, 44:]
    assert (new.std(dim=0) > 0).all()
    torch.testing.assert_close(new[:, 0], new[:, 2])
    assert (new[:, 0] != new[:, 1]).any()


@pytest.mark.parametrize("name", [*BY_TEXT, *OF_USERS])
def test_a_text_is_answered_with_scores_of_its_own(fitted, shop, name):
    head, items = fitted(name), shop.data.items
    texts = np.array([*items.texts[:10], "", items.texts[0]], object)
    scores = head.score_text(texts)
    assert scores.shape == (12, 44)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[11], scores[0])
    assert (scores[:10, None] != scores[None, :10]).any(dim=2).sum() == 90  # All but each with itself.


def test_a_text_is_answered_with_the_item_that_has_it(fitted, shop):
    scores = fitted("ease_features").score_text(shop.data.items.texts)
    torch.testing.assert_close(scores.diagonal(), scores.max(dim=1).values)


@every_head
def test_masking_a_list_does_not_change_what_the_head_says_next(fitted, shop, name):
    head, queries = fitted(name), shop.known()
    before = head.score(queries).clone()
    recommend_lists(head.score, queries, 5, item_hash_ranks(shop.data.items.ids))
    assert torch.equal(head.score(queries), before)


@every_head
def test_what_was_chosen_can_be_fitted_without_validation(fitted, shop, name):
    refitted = shop.fit(fitted(name).chosen(), validation=None)
    assert torch.isfinite(refitted.score(shop.known())).all()
    assert refitted.chosen() == fitted(name).chosen()
