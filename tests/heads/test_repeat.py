"""Repeat consumption: hand-worked numbers, a loop over interactions as the oracle, and lists with seen items."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.settings.head import FusionSettings, ModelConfig
from llmrec_cli.settings.heads.repeat import RepeatSettings
from llmrec_cli.settings.search import proposal
from llmrec_cli.testing.shop import copies
from tests.heads.by_hand import fit, queries, training
from tests.heads.conftest import configs

# Times that users had items: item 0 by four users, two of them again; item 1 by one user, who did; item 2 by one, not.
TIMES = np.array([[1, 3, 0, 0], [2, 0, 0, 0], [5, 0, 0, 0], [1, 0, 1, 0]])


def counted(matrix=TIMES, kind="strength"):
    return replace(training(np.asarray(matrix, float)), value_kind=kind, has_order=True)


def share_of(data=None, **settings):
    return fit(RepeatSettings(**({"weight": "none"} | settings)), counted() if data is None else data).share_N


def test_the_share_is_that_of_the_users_who_had_it_again_drawn_to_the_average():
    assert share_of(shrinkage=0).tolist() == [0.5, 1, 0, 0.5]
    # On average 3 of 6 had an item again: 2 more users with half.
    np.testing.assert_allclose(share_of(shrinkage=2), [(2 + 1) / 6, (1 + 1) / 3, (0 + 1) / 3, 0.5], rtol=1e-6)


def test_only_the_history_is_scored_by_share_recency_and_the_users_own_number_of_times():
    head = fit(RepeatSettings(recency_half_life=1.0, shrinkage=0, weight="none"), counted())
    first = head.score(queries(np.array([[1, 1, 0, 0], [0, 0, 0, 1]]))).numpy()
    assert first.tolist() == [[0.5 * 0.5, 1, 0, 0], [0, 0, 0, 0.5]]
    valued = fit(RepeatSettings(recency="none", shrinkage=0, weight="value"), counted())
    # The mean of the values is 13/6.
    np.testing.assert_allclose(valued.score(queries(np.array([[2, 1, 0, 0]])))[0], [2 * 6 / 13 / 2, 6 / 13, 0, 0],
                               rtol=1e-6)


@given(seed=st.integers(0, 10**6), shrinkage=st.sampled_from([0.0, 1.0, 7.5]))
def test_shares_are_those_of_a_loop_over_the_interactions(seed, shrinkage):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 4, (6, 5))
    matrix[0, 0] = 2
    pairs = [(item, times >= 2) for row in matrix for item, times in enumerate(row) if times]
    mean = sum(again for _, again in pairs) / len(pairs)
    for item, share in enumerate(share_of(counted(matrix), shrinkage=shrinkage)):
        own = [again for which, again in pairs if which == item]
        users = len(own) + shrinkage
        assert share == pytest.approx((sum(own) + shrinkage * mean) / users if users else mean, rel=1e-5)


def test_values_that_are_no_numbers_of_times_leave_equal_shares_and_a_note():
    assert fit(RepeatSettings(), counted()).unused_values(counted()) == []
    for data in (counted(kind="rating"), counted(TIMES > 0), counted(TIMES * 1.5)):
        assert (share_of(data) == 1).all()
        notes = fit(RepeatSettings(weight="none"), data).unused_values(data)
        assert any("the values of the data are not numbers of times" in note for note in notes)
    assert share_of(counted(kind="rating"), counts="values", shrinkage=0).tolist() == [0.5, 1, 0, 0.5]
    assert (share_of(counts="none") == 1).all()


def test_an_item_added_later_has_the_average_share_in_a_history(shop, case):
    head = case("repeat").copy()
    head.add_items(copies(shop.data.items, (0,)))
    assert head.share_N[-1] == head.mean_share


def test_as_a_member_of_a_fusion_it_adds_to_the_items_of_the_history(shop):
    ease = replace(configs(shop)["ease"].head, search={})
    members = {"ease": ModelConfig(head=ease), "again": ModelConfig(head=RepeatSettings())}
    query, train = shop.known_users([0, 7]), shop.data.training("train")
    fusion = fit(FusionSettings(members=members, weights={"ease": 1.0, "again": 2.0}, normalise="raw"), train)
    plain, both = fit(ease, train).score(query), fusion.score(query)
    seen = torch.from_numpy(query.history.toarray() > 0)
    assert (both[seen] > plain[seen]).all()
    torch.testing.assert_close(both[~seen], plain[~seen])
    assert fusion.config.note_on_seen_items(True).startswith("again scores only items of the history")
    assert fusion.config.note_on_seen_items(False) == ""


@pytest.mark.slow
def test_lists_have_what_was_had_where_seen_items_are_kept_and_say_so_where_not(llmrec, tiny_prepared):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "run_dir=run", "head=repeat", "device=cpu")
    assert done.code == 0, done.err
    assert "note: repeat scores only items of the history, which validation leaves out of lists" in done.err
    Path("asked.jsonl").write_text(json.dumps({"query_id": "q", "history": ["i1", "i2", "i5"]}))
    done = llmrec("recommend", "model=run", "queries=asked.jsonl", "output=kept.parquet", "exclude_seen=false", "k=3",
                  "device=cpu")
    assert done.code == 0, done.err
    assert pq.read_table("kept.parquet").to_pandas().item_id.tolist() == ["i5", "i2", "i1"]
    assert "leave these out" not in done.err
    done = llmrec("recommend", "model=run", "queries=asked.jsonl", "output=new.parquet", "k=3", "device=cpu")
    assert "repeat scores only items of the history, and lists leave these out" in done.err
    done = llmrec("evaluate", "model=run", "run_dir=tested", "device=cpu", "baselines=[]")
    assert done.code == 0, done.err
    assert "repeat scores only items of the history, and lists leave these out" in done.err


@pytest.mark.parametrize(("settings", "words"), [
    ({"counts": "all"}, "counts=all: choose one of auto, values, none"), ({"shrinkage": -1}, "shrinkage=-1"),
    ({"counts": "none", "shrinkage": 5}, "shrinkage=5: has no effect with counts=none")])
def test_a_setting_out_of_range_or_without_effect_is_refused(settings, words):
    (problem,) = RepeatSettings(**settings).problems()
    assert words in problem


def test_a_search_over_its_recency_proposes_no_half_life_without(shop):
    values = proposal(configs(shop)["repeat"], {"recency": "none", "recency_half_life": 3.0, "shrinkage": 4.0})
    assert values == {"recency": "none", "recency_half_life": 10.0, "shrinkage": 4.0}
