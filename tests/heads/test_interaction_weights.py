"""Effect of the values and ages of interactions on every head."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import UNTIMED, Queries, known_users
from llmrec_cli.data.recency import DAY
from llmrec_cli.errors import DataError
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import Head
from llmrec_cli.heads.fitting import fit
from llmrec_cli.settings.head import EaseSettings, FusionSettings, MfSettings, ModelConfig
from tests.heads.conftest import Shop, configs
from tests.heads.groups.test_group_conformance import TRAINED, club  # noqa: F401
from tests.some_slow import some_slow

# One head of each kind, and the examples with separate weighting code.
HEADS = ("popularity", "repeat", "item_knn", "user_knn", "rp3beta", "turbo_cf", "ease", "ease_features", "ials",
         "content", "clusters", "mf", "two_tower_frozen", "sequential_ids",
         "item_knn_bm25", "item_knn_forward", "user_knn_tfidf", "item_similarity", "mf_bpr", "mf_mse", "neural_cf",
         "factorization_machine", "sequential_lora", "interest")
BY_HISTORY_ALONE = ("popularity", "repeat", "item_knn", "item_knn_bm25", "item_knn_forward", "rp3beta", "turbo_cf",
                    "ease", "ease_features", "ials", "content", "item_similarity", "sequential_ids", "sequential_lora")
every_head = pytest.mark.parametrize("name", some_slow(HEADS, 14))


def with_values(shop: Shop, value: np.ndarray, kind: str = "event_weight") -> Shop:
    """Return the shop with other values of interactions."""
    data = shop.data
    interactions = replace(data.interactions, value=value.astype(np.float32))
    manifest = data.manifest | {"values": kind, "inputs": {"dataset": {"min_value": None}}}
    return replace(shop, data=replace(data, interactions=interactions, manifest=manifest))


def ones(shop: Shop) -> Shop:
    return with_values(shop, np.ones(len(shop.data.interactions)))


def bought(shop: Shop) -> Shop:
    """Return the shop with a third of its interactions weighted ten times as much."""
    return with_values(shop, np.random.default_rng(3).choice([1, 1, 10], len(shop.data.interactions)))


def quick(config: ModelConfig, **settings) -> ModelConfig:
    """Return a model config with two epochs of training and these head settings."""
    optim = replace(config.optim, epochs=min(2, config.optim.epochs))
    return replace(config, head=replace(config.head, **settings), optim=optim)


def fit_head(shop: Shop, name: str, **settings) -> Head:
    return shop.fit(quick(configs(shop)[name], **settings), validation=None)


def user_queries(shop: Shop, users=None) -> Queries:
    """Return queries of known users with the values and times of their interactions."""
    return shop.known_users_with_values(users)


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(other[key], value, err_msg=key)


@every_head
def test_where_all_values_are_one_weights_change_no_bit(shop, name):
    plain, weighted = (fit_head(ones(shop), name, weight=weight).state() for weight in ("none", "value"))
    assert_same_bits(plain, weighted)


@every_head
def test_values_that_differ_change_the_scores(shop, name):
    valued = bought(shop)
    queries = user_queries(valued)
    plain, weighted = (fit_head(valued, name, weight=weight).score(queries) for weight in ("none", "value"))
    assert torch.isfinite(weighted).all()
    # A tiny encoder with random weights gives nearly equal scores after an epoch of any training.
    assert not (torch.equal if name == "interest" else torch.allclose)(plain, weighted)


@every_head
def test_values_in_other_units_change_no_bit(shop, name):
    valued = bought(shop)
    eightfold = with_values(shop, 8 * valued.data.interactions.value)
    first, second = (fit_head(which, name, weight="value").state() for which in (valued, eightfold))
    assert_same_bits(*({key: value for key, value in state.items() if not key.endswith("interaction_weights")}
                       for state in (first, second)))


@every_head
def test_a_head_with_weights_and_decay_scores_the_same_bits_from_its_folder(shop, name, tmp_path):
    valued = bought(shop)
    head = fit_head(valued, name, weight="log", decay=2.0)
    queries = user_queries(valued)
    save_recommender(tmp_path / "model", head, valued.data, ("train",), {"metrics": {}})
    loaded = load_recommender(tmp_path / "model", shop.context(validation=None))
    assert (loaded.history != valued.data.part("train").values).nnz == 0
    np.testing.assert_array_equal(loaded.times.data, valued.data.part("train").times.data)
    assert (loaded.seen.data == 1).all()
    again = replace(queries, history=loaded.history, times=loaded.times)
    assert torch.equal(loaded.head.score(again), head.score(queries))


@pytest.mark.parametrize("name", BY_HISTORY_ALONE)
def test_a_known_user_and_a_new_one_with_the_same_weighted_history_get_the_same_scores(shop, name):
    valued = bought(shop)
    head, queries = fit_head(valued, name, weight="value", decay=2.0), user_queries(valued, [0, 7, 33])
    assert torch.equal(head.score(replace(queries, user=np.full(3, -1))), head.score(queries))


@pytest.mark.parametrize("name", ["item_knn", "ease", "ials", "content"])
def test_the_newer_of_two_interactions_says_more_with_decay(shop, name):
    """The same two items with their times swapped: scores are nearer to the newer item's."""
    head = fit_head(ones(shop), name, decay=1.0)
    train = shop.data.part("train")
    items = np.argsort(-train.item_counts)[:2]
    newest, half_lives = int(train.timestamp.max()), 5

    def scores(items: np.ndarray, times: list[int]) -> torch.Tensor:
        history, when = (sp.csr_array((np.array(data, kind), items, [0, len(items)]), shape=(1, train.num_items))
                         for data, kind in (([1.0] * len(items), np.float32), (times, np.int64)))
        return head.score(known_users(np.array([-1]), np.array(["u"], object), history, history, times=when))[0]

    alone = scores(items[:1], [newest])
    new, old = (torch.nn.functional.cosine_similarity(scores(items, times), alone, dim=0)
                for times in ([newest, newest - half_lives * DAY], [newest - half_lives * DAY, newest]))
    assert new > old + 0.01


def test_each_member_of_a_fusion_has_its_own_weights(shop):
    valued = bought(shop)
    configs = (valued.config(EaseSettings(l2=20, weight=weight)) for weight in ("value", "none"))
    scores = [valued.fit(valued.config(FusionSettings(members={"a": config}, weights={"a": 1.0})), validation=None)
              .score(user_queries(valued)) for config in configs]
    assert not torch.allclose(*scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", some_slow(TRAINED, 1, 0))
def test_group_values_change_group_heads_and_equal_values_do_not(club, name):  # noqa: F811
    def state(value: float, weight: str) -> dict[str, np.ndarray]:
        values = np.where(np.arange(len(club.data.interactions)) % 3, 1, value)
        return with_values(club, values).fit(quick(configs(club)[name], weight=weight), validation=None).state()

    assert_same_bits(state(1, "value"), state(1, "none"))
    plain, weighted = state(9, "none"), state(9, "value")
    assert any((plain[key] != weighted[key]).any() for key in plain)


@pytest.mark.parametrize(("config", "says"), [
    (EaseSettings(l2=20, weight="none"),
     "note: head=ease: the values of interactions (1 to 10) are not used as weights: head.weight=none"),
    (EaseSettings(l2=20), "")])
def test_fitting_says_once_that_values_differ_and_are_not_used(shop, config, says, capsys):
    valued, log = bought(shop), []
    context = valued.context(validation=None, log=lambda event, **values: log.append(event))
    for quiet in (False, True):
        fit(valued.config(config), valued.data.training("train"), context, quiet=quiet)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert [line[:len(says)] for line in notes] == ([says] if says else [])
    assert log.count("values_unused") == 2 * bool(says)


def test_ratings_above_a_threshold_are_unused_and_fitting_names_the_setting(shop, capsys):
    rated = with_values(shop, shop.data.interactions.value, "rating")
    fit(rated.config(EaseSettings(l2=20)), rated.data.training("train"), rated.context(validation=None))
    assert "values of interactions (4 to 5) are not used as weights: they are ratings" in capsys.readouterr().err


def test_weights_by_the_predicted_value_are_refused(shop):
    from llmrec_cli.settings.loss import MseSettings

    with pytest.raises(DataError, match=r"head.weight=value: has no effect, because head=mf predicts the value"):
        shop.fit(shop.config(MfSettings(target="value", weight="value"), loss=MseSettings()))


def test_a_model_of_before_values_were_saved_is_read_with_values_of_one(shop, tmp_path):
    head = fit_head(ones(shop), "item_knn")
    save_recommender(tmp_path / "model", head, ones(shop).data, ("train",), {"metrics": {}})
    manifest = tmp_path / "model" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    loaded = load_recommender(tmp_path / "model", shop.context(validation=None))
    assert loaded.manifest["format"] == 1
    assert (loaded.history.data == 1).all()
    assert loaded.times is None
    # Later values are not used, because the fit had none.
    assert torch.equal(loaded.head.score(user_queries(bought(shop))), head.score(user_queries(ones(shop))))


def aged(queries: Queries, days: float) -> Queries:
    """Return the queries with all interactions of their histories made older by `days`."""
    assert queries.times is not None
    times = queries.times.copy()
    times.data = times.data - int(days * DAY)
    return replace(queries, user=np.full(len(queries), -1), times=times)


@pytest.mark.parametrize("name", ["item_knn", "item_knn_bm25", "user_knn", "user_knn_tfidf", "ease", "ials", "clusters",
                                  "mf", "content"])
def test_users_who_have_been_away_for_years_get_lists_by_what_they_did(shop, name):
    head = fit_head(shop, name, decay=7.0)
    queries = user_queries(shop, range(12))
    there = np.diff(queries.history.indptr) > 0
    for days in (300, 1000, 5000):
        scores = head.score(aged(queries, days)).numpy()[there]
        assert np.isfinite(scores).all()
        assert (scores.max(axis=1) > scores.min(axis=1)).all()


@pytest.mark.parametrize("name", ["item_knn", "ease"])
def test_the_age_of_a_whole_history_does_not_change_the_ranking(shop, name):
    head = fit_head(shop, name, decay=7.0)
    queries = user_queries(shop, range(12))
    # Beyond the floor all weights are equal, so the order is that of a history without ages.
    timeless = replace(queries, times=sp.csr_array((np.full(queries.history.nnz, UNTIMED), queries.history.indices,
                                                    queries.history.indptr), shape=queries.history.shape))
    expected, actual = head.score(aged(timeless, 0)), head.score(aged(queries, 5000))
    assert torch.allclose(actual / actual.abs().amax(1, keepdim=True).clamp_min(1e-30),
                          expected / expected.abs().amax(1, keepdim=True).clamp_min(1e-30), atol=1e-5)


@pytest.mark.parametrize("name", ["item_knn_bm25", "user_knn", "ials", "clusters", "mf", "ease"])
def test_training_on_users_who_left_long_ago_gives_finite_scores(shop, name):
    data = shop.data
    has_left = data.interactions.user % 3 == 0
    time = data.interactions.timestamp - np.where(has_left, 4 * 365 * DAY, 0)
    old = replace(shop, data=replace(data, interactions=replace(data.interactions, timestamp=time)))
    changed = {"weighting": "bm25", "b": 1.0} if name == "item_knn_bm25" else {}
    head = fit_head(old, name, decay=7.0, **changed)
    queries = user_queries(old)
    assert torch.isfinite(head.score(queries)).all()
    assert torch.isfinite(head.score(replace(queries, user=np.full(len(queries), -1)))).all()
