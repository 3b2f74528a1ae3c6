"""evaluate cold_users=true: cold-start users with more and more of their interactions given."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation import models as entrants
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.report.sections import cold_users_lines, cold_users_table
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.evaluation import ColdUsersSettings
from llmrec_cli.settings.head import EaseSettings, ModelConfig
from llmrec_cli.settings.heads.clusters import ClustersSettings
from llmrec_cli.settings.split import ColdUsersSplitSettings
from llmrec_cli.stages import evaluate
from tests.ingest.preparing import prepare_with
from tests.tiny import write_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Prepared data of 60 users of four kinds, named by an attribute; 15 users are held out for test."""
    folder = tmp_path_factory.mktemp("cold")
    write_tiny(folder)
    (folder / "users.csv").write_text("user_id,loves\n" + "".join(f"u{n},kind{n % 4}\n" for n in range(60)))
    settings = FilesSettings(name="cold", path=str(folder), interactions="interactions.csv", items="items.csv",
                             users="users.csv", user_attributes={"loves": "category"}, user_text="{loves}")
    with contextlib.chdir(folder):
        prepare_with(folder, settings, ColdUsersSplitSettings(valid=0, test=0.25))
    return read_prepared(folder / "out")


@pytest.fixture(scope="module")
def models(shop, tmp_path_factory):
    heads = {"clusters": ClustersSettings(num_clusters=4, first_clicks=0, click_weight=0.6, click_smoothing=10, l2=0.3),
             "ease": EaseSettings(l2=20)}
    result = {}
    for name, head in heads.items():
        fitted = build(ModelConfig(head=head))
        fitted.fit(shop.training("train"), Context(torch.device("cpu"), 1))
        result[name] = str(tmp_path_factory.mktemp(name) / "model")
        save_recommender(tmp_path_factory.getbasetemp() / result[name], fitted, shop, ("train",),
                         {"refit": "none", "seed": 1})
    return result


@pytest.fixture
def run(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)

    def one(*names, name="out", cold_users=None, **settings):
        run_dir = RunDir.create("evaluate", str(tmp_path / name))
        cfg = EvaluateConfig(**{"device": "cpu", "k": [5], "num_bootstrap": 100, "baselines": ["popularity"],
                                "cold_users": cold_users or ColdUsersSettings(on=True, first=[3, 0, 1]),
                                "models": [models[one] for one in names], **settings})
        evaluate.run(cfg, run_dir)
        return run_dir

    return one


def content_of(run_dir):
    return json.loads(run_dir.file("metrics.json").read_text())


def test_a_profile_alone_beats_popularity_where_it_says_what_users_love(run, capsys):
    run_dir = run("clusters", "ease")
    result = content_of(run_dir)["cold_users"]
    assert list(result["by_num_given"]) == ["0", "1", "3"]
    assert (result["after"], result["num_users"]) == (3, 15)
    names = result["by_num_given"]["0"]["metrics"]
    assert set(names) == {"clusters", "ease", "popularity"}
    gain = result["by_num_given"]["0"]["comparisons"]["clusters"]["popularity"]["ndcg@5"]
    assert gain["ci95"][0] > 0
    # EASE cannot score a user without a history, so popularity is used.
    assert names["ease"]["ndcg@5"] == names["popularity"]["ndcg@5"]
    assert result["by_num_given"]["0"]["comparisons"]["ease"]["popularity"]["ndcg@5"]["difference"] == 0
    # Popularity ignores the history, so its metrics are the same for every number of given interactions.
    assert len({one["metrics"]["popularity"]["ndcg@5"]["mean"] for one in result["by_num_given"].values()}) == 1
    assert result["by_num_given"]["3"]["metrics"]["ease"] != names["ease"]

    page = run_dir.file("report.html").read_text()
    assert "Cold-start users" in page
    assert "profile only: clusters" in page
    printed = capsys.readouterr().out
    assert "15 cold-start users, given" in printed
    assert "3 interactions: ease" in printed


def held_out(shop):
    return set(shop.users.ids[np.unique(shop.part("test").user)])


def test_the_rest_of_the_report_uses_the_largest_number_of_given_interactions(run, shop):
    run_dir = run("clusters", "ease")
    content = content_of(run_dir)
    most = content["cold_users"]["by_num_given"]["3"]
    assert content["metrics"]["ndcg@5"] == most["metrics"]["clusters"]["ndcg@5"]
    assert content["baselines"]["popularity"]["ndcg@5"] == most["metrics"]["popularity"]["ndcg@5"]
    assert set(pq.read_table(run_dir.file("per_user.parquet"))["query_id"].to_pylist()) == held_out(shop)


def test_one_number_of_given_interactions_gives_the_metrics_that_several_give(run):
    several = content_of(run("clusters"))["cold_users"]["by_num_given"]["1"]
    alone = content_of(run("clusters", name="alone", cold_users=ColdUsersSettings(on=True, first=[1], after=3)))
    assert alone["cold_users"]["by_num_given"]["1"] == several


def test_lists_exclude_the_given_interactions(run, shop):
    run_dir = run("clusters")
    rows = pq.read_table(run_dir.file("recommendations.parquet")).to_pylist()
    mine = {}
    for row in pq.read_table(shop.path / "interactions.parquet").to_pylist():
        mine.setdefault(row["user_id"], []).append(row["item_id"])  # By time.
    assert {row["query_id"] for row in rows} <= set(mine)
    assert not any(row["item_id"] in mine[row["query_id"]][:3] for row in rows)


def test_new_items_of_the_data_are_added_once(run, shop, models, monkeypatch):
    # The model does not know the last items; they must be ranked for every number of given interactions.
    loaded = entrants.load_recommender

    def forgetful(folder, context):
        known = loaded(folder, context)
        few = slice(0, len(known.items) - 4)
        items = Catalogue(known.items.ids[few], known.items.titles[few], known.items.texts[few],
                          known.items.attributes[few], known.items.attribute_names)
        known.head.num_items = len(items)
        known.head.behaviour = replace(known.head.behaviour, share_CN=known.head.behaviour.share_CN[:, few],
                                       click_CN=known.head.behaviour.click_CN[:, few])
        return replace(known, items=items, history=known.history[:, few], seen=known.seen[:, few])

    monkeypatch.setattr(entrants, "load_recommender", forgetful)
    forgot = content_of(run("clusters", baselines=[]))["cold_users"]
    monkeypatch.undo()
    assert list(forgot["by_num_given"]) == ["0", "1", "3"]


def test_without_cold_users_the_error_names_the_remedy(run):
    with pytest.raises(DataError, match=r"of 15 users .* prepare with split=cold_users, or set cold_users"):
        run("clusters", cold_users=ColdUsersSettings(on=True, first=[0], after=100))


def test_cold_users_are_refused_with_groups_and_with_seen_items():
    assert any("exclude_seen=false" in p for p in
               EvaluateConfig(cold_users=ColdUsersSettings(on=True), exclude_seen=False).problems())
    assert any("audience=groups" in p for p in EvaluateConfig(cold_users=ColdUsersSettings(on=True),
                                                              audience="groups").problems())


def test_tables_go_without_baselines():
    metrics = {"ndcg@5": {"mean": 0.5, "ci95": [0.4, 0.6]}, "recall@5": {"mean": 0.25, "ci95": None}}
    result = {"after": 1, "num_users": 7, "by_num_given": {"1": {"metrics": {"m": metrics}, "comparisons": {"m": {}}}}}
    assert cold_users_table(result, 5).columns == ["ndcg@5", "recall@5"]
    assert [row.name for row in cold_users_table(result, 5).rows] == ["1 interaction: m"]
    assert "0.5000" in cold_users_lines(result, 5)
