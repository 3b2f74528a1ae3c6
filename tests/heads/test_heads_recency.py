"""Recency in the heads that add up what the items of a history say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llmrec_cli.data.queries import UNTIMED, untimed
from llmrec_cli.data.recency import DAY
from llmrec_cli.errors import DataError
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import build
from llmrec_cli.settings.search import proposal, with_values
from tests.heads.conftest import configs
from tests.some_slow import some_slow

HEADS = ("ease", "ease_features", "item_knn", "item_knn_bm25", "item_knn_forward", "content", "item_similarity",
         "turbo_cf")
every_head = pytest.mark.parametrize("name", some_slow(HEADS, 3))
USERS = [0, 7, 33]


def config_of(shop, name, recency, half_life):
    config = configs(shop)[name]
    changed = {"recency": recency, **({} if recency == "none" else {"recency_half_life": half_life})}
    if recency == "none":
        changed["recency_half_life"] = 10.0
    return replace(config, head=replace(config.head, **changed))


def fit_head(shop, name, recency="none", half_life=10.0):
    return shop.fit(config_of(shop, name, recency, half_life), validation=None)


def single(queries, row):
    """Return a query per item of the history of a row, each with this item alone."""
    history = queries.history
    entries = np.arange(history.indptr[row], history.indptr[row + 1])
    one = queries.rows(np.full(len(entries), row))

    def each(matrix):
        return type(matrix)((matrix.data[entries], matrix.indices[entries], np.arange(len(entries) + 1)),
                            shape=(len(entries), matrix.shape[1]))

    return replace(one, history=each(history), times=each(queries.times))


@every_head
@pytest.mark.parametrize("recency", ["place", "time"])
def test_scores_are_the_weighted_sum_of_those_of_each_item_alone(shop, name, recency):
    """The heads are linear in the history, so the oracle adds up histories of one item."""
    half_life = 2.0 if recency == "place" else 20.0
    head = fit_head(shop, name, recency, half_life)
    queries = shop.known_users_with_values(USERS)
    scores = head.score(queries)
    for row in range(len(USERS)):
        alone = head.score(single(queries, row)).numpy()
        if recency == "place":
            ages = np.arange(len(alone))[::-1]
        else:
            times = queries.times.data[queries.times.indptr[row]:queries.times.indptr[row + 1]]
            ages = (times.max() - times) / DAY
            assert len(set(ages.tolist())) > 1
        expected = (0.5 ** (ages / half_life)) @ alone
        np.testing.assert_allclose(scores[row], expected, rtol=1e-3, atol=1e-4 * np.abs(alone).max())


@every_head
def test_without_recency_neither_the_fit_nor_a_score_changes_by_a_bit(shop, name):
    plain, weighed = fit_head(shop, name), fit_head(shop, name, "place", 1.0)
    assert plain.state().keys() == weighed.state().keys()
    if not name.startswith("content"):  # Its settings are chosen with the histories that it will be asked with.
        for key, value in plain.state().items():
            np.testing.assert_array_equal(weighed.state()[key], value, err_msg=key)
    queries = shop.known_users_with_values(USERS)
    history = plain.interaction_weights.history(queries)
    np.testing.assert_array_equal(plain.history(queries).data, history.data)
    assert not torch.equal(plain.score(queries), weighed.score(queries))


@every_head
@pytest.mark.parametrize("recency", ["place", "time"])
def test_a_saved_head_scores_the_same_bits_and_keeps_the_times_that_it_needs(shop, name, recency, tmp_path):
    head, queries = fit_head(shop, name, recency, 3.0), shop.known_users_with_values(USERS)
    save_recommender(tmp_path / "model", head, shop.data, ("train",), {"metrics": {}})
    loaded = load_recommender(tmp_path / "model", shop.context(validation=None))
    assert (loaded.times is not None) == (recency == "time")
    assert torch.equal(loaded.head.score(queries), head.score(queries))


@every_head
def test_data_without_times_is_refused(shop, name):
    data = replace(shop.data.training("train"), has_order=False, has_moments=False)
    head = build(config_of(shop, name, "place", 1.0))
    with pytest.raises(DataError, match=r"head\.recency=place: the prepared data has no times"):
        head.fit(data, shop.context(validation=None))


@every_head
def test_the_order_of_a_new_users_history_counts_with_place_and_not_with_time(shop, name):
    histories = [["i0", "i1", "i6"], ["i6", "i1", "i0"]]
    there, back = fit_head(shop, name, "place", 1.0).score(shop.new_users(histories))
    assert not torch.allclose(there, back)
    queries = shop.new_users(histories)
    # Times of a model with recency=time; interactions of a query have none and count as the newest.
    queries = replace(queries, times=untimed(queries.history))
    there, back = fit_head(shop, name, "time", 1.0).score(queries)
    torch.testing.assert_close(there, back)
    assert (queries.times.data == UNTIMED).all()


def test_every_member_of_a_fusion_weighs_histories_by_its_own_recency(shop):
    config = configs(shop)["fusion"]
    members = {name: replace(config.members[name], head=replace(config.members[name].head, **settings))
               for name, settings in (("ease", {"recency": "time", "recency_half_life": 20.0}),
                                      ("item_knn", {"recency": "place", "recency_half_life": 2.0}))}
    head = replace(config.head, members=members, weights={"ease": 1.0, "item_knn": 0.5}, normalise="raw")
    assert head.uses_times()
    fusion, queries = shop.fit(replace(config, head=head), validation=None), shop.known_users_with_values(USERS)
    alone = [shop.fit(member, validation=None).score(queries) for member in members.values()]
    torch.testing.assert_close(fusion.score(queries), alone[0] + 0.5 * alone[1], rtol=1e-4, atol=1e-5)


def test_every_history_has_a_newest_interaction_of_its_own(shop):
    head = fit_head(shop, "ease", "place", 1.0)
    queries = shop.known_users(USERS)
    halved = head.history(queries)
    ends = halved.indptr[1:] - 1
    assert (halved.data[ends] == 1).all()
    assert (halved.data[ends - 1] == 0.5).all()


@pytest.mark.parametrize("name", ["ease", "item_knn", "content", "item_similarity"])
def test_a_search_proposes_no_half_life_without_recency(shop, name):
    config = configs(shop)[name]
    assert config.head.search["recency"].choices == ["none", "place"]
    span = config.head.search["recency_half_life"]
    assert (span.low, span.high, span.log) == (0.5, 50, True)
    values = proposal(config, {"recency": "none", "recency_half_life": 3.0})
    assert values == {"recency": "none", "recency_half_life": 10.0}
    changed, problems = with_values(config, proposal(config, {"recency": "place", "recency_half_life": 3.0}))
    assert not problems
    assert changed.head.recency_of_histories() == ("place", 3.0)


@pytest.mark.slow
def test_tuning_finds_the_recency_and_lists_follow_the_latest_history(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "run_dir=run", "head=ease", "tune.trials=4", "device=cpu",
                  "head.search={recency: {choices: [place]}, recency_half_life: {low: 0.5, high: 50, log: true}}")
    assert done.code == 0, done.err
    assert "recency=place recency_half_life=" in done.err
    done = llmrec("finetune", f"prepared={tiny_prepared}", "run_dir=timed", "head=ease", "head.recency=time",
                  "head.recency_half_life=1", "device=cpu")
    assert done.code == 0, done.err
    for history in ("latest", "fit"):
        done = llmrec("evaluate", "model=timed", f"run_dir=tested_{history}", f"history={history}", "device=cpu",
                      "baselines=[]")
        assert done.code == 0, done.err
    Path("asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (
        {"query_id": "known", "user_id": "u0"}, {"query_id": "more", "user_id": "u0", "history": ["i1"]},
        {"query_id": "new", "history": ["i1", "i2", "i5"]},
        {"query_id": "other order", "history": ["i5", "i2", "i1"]})))
    done = llmrec("recommend", "model=timed", "queries=asked.jsonl", "output=lists.parquet", "device=cpu")
    assert done.code == 0, done.err
    Path("rows.jsonl").write_text(json.dumps({"query_id": "q", "history": ["i1", "i2"], "relevant": ["i5"]}))
    for command in (["evaluate", "model=timed", "queries=rows.jsonl", "run_dir=rows", "baselines=[]"],
                    ["finetune", f"prepared={tiny_prepared}", "validation=rows.jsonl", "head=ease", "run_dir=chosen",
                     "head.recency=time", "refit=none"]):
        said = llmrec(*command, "device=cpu")
        assert said.code == 0, said.err
        assert "2 interactions of histories have no time, as they come from a query" in said.err
    # Of u0's added item and of two histories of three.
    assert "7 interactions of histories have no time, as they come from a query" in done.err
    lists = pq.read_table("lists.parquet").to_pandas().groupby("query_id").item_id.agg(list)
    assert lists["new"] == lists["other order"]
    assert lists["known"] != lists["more"]
