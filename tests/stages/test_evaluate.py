"""The evaluate stage: its files, checked with other tools where possible."""

import json
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import Queries, known_users
from llmrec_cli.errors import ArtifactError, ConfigError, DataError, DivergedError
from llmrec_cli.evaluation.predictions import RankedLists
from llmrec_cli.evaluation.report_facts import history_facts
from llmrec_cli.evaluation.results import main_metric
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.popularity import Popularity
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.head import HEADS, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import BceSettings, MseSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.stages import evaluate

NUM_USERS, NUM_ITEMS = 40, 30
NASTY = "<script>alert(1)</script>\x1b[2J =cmd|'/c calc'!A1 千と千尋"


def rows(seed=0, splits=("train",) * 6 + ("valid", "test")):
    """Rows (user, item, split): each user mostly likes items of one of three kinds."""
    generator = np.random.default_rng(seed)
    for user in range(NUM_USERS):
        weights = np.where(np.arange(NUM_ITEMS) % 3 == user % 3, 8.0, 1.0) * np.linspace(2, 1, NUM_ITEMS)
        for item, split in zip(generator.choice(NUM_ITEMS, len(splits), False, weights / weights.sum()), splits,
                               strict=True):
            yield f"u{user:02}", f"i{item:02}", split


def write_prepared(folder, interactions, items=None, title=str):
    """Write prepared data in the form that llmrec_cli.data.prepared describes."""
    folder.mkdir(parents=True)
    interactions = list(interactions)
    users = sorted({user for user, _, _ in interactions})
    items = items or [f"i{n:02}" for n in range(NUM_ITEMS)]
    interactions.sort(key=lambda row: users.index(row[0]))
    size = len(interactions)
    pq.write_table(pa.table({"user_id": [u for u, _, _ in interactions], "item_id": [i for _, i, _ in interactions],
                             "user": [users.index(u) for u, _, _ in interactions],
                             "item": [items.index(i) for _, i, _ in interactions],
                             "value": pa.array([1.0] * size, pa.float32()), "timestamp": list(range(size)),
                             "split": [s for _, _, s in interactions]}), folder / "interactions.parquet")
    for kind, ids in (("user", users), ("item", items)):
        kinds = pa.array([[f"kind={n % 3}"] for n in range(len(ids))], pa.list_(pa.string()))
        pq.write_table(pa.table({kind: list(range(len(ids))), f"{kind}_id": ids, "title": [title(i) for i in ids],
                                 "text": ids, "attributes": kinds}), folder / f"{kind}s.parquet")
    counts = {split: sum(s == split for _, _, s in interactions) for split in ("train", "valid", "test")}
    files = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    manifest = {"format": 1, "name": folder.name, "fingerprint": files["interactions.parquet"], "data_cutoff": None,
                "counts": {"users": len(users), "items": len(items), **counts}, "split": {"kind": "given"},
                "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_model(folder, prepared, head="item_knn", fitted_on=("train", "valid"), refit="train_valid", change=None):
    data = read_prepared(prepared)
    fitted = build(ModelConfig(head=HEADS[head]()))
    fitted.fit(data.training(*fitted_on), Context(torch.device("cpu"), 1))
    if change is not None:
        change(fitted)
    save_recommender(folder, fitted, data, fitted_on, {"refit": refit, "seed": 1})
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("data") / "shop", rows(), title=lambda key: f"{key} {NASTY}")


@pytest.fixture(scope="module")
def done(tmp_path_factory, prepared):
    """The folder of one evaluation with its report, for all tests that only read."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(folder, model=str(write_model(folder / "m", prepared)))
    return folder / "out"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, done):
    """Run in an empty folder, where runs/ goes, without rendering the report, which is slow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")


def run(tmp_path, name="out", **settings):
    run_dir = RunDir.create("evaluate", str(tmp_path / name))
    evaluate.run(EvaluateConfig(**{"device": "cpu", "k": [10, 5], "num_bootstrap": 100, **settings}), run_dir)
    return json.loads(run_dir.file("metrics.json").read_text())


def test_metrics_json_is_as_the_contract_says(done):
    metrics = json.loads((done / "metrics.json").read_text())
    assert list(metrics) == ["format", "protocol", "metrics", "slices", "baselines", "comparisons", "tie_rate",
                             "degenerate_rate", "suspicious", "leaderboard"]
    protocol = metrics["protocol"]
    assert (protocol["split"], protocol["candidates"], protocol["exclude_seen"]) == ("test", "all", True)
    assert (protocol["num_queries"], protocol["num_skipped"]) == (NUM_USERS, 0)
    assert {"recall@5", "ndcg@10", "map@10", "coverage@5", "novelty@10", "tail_share@10", "diversity@5", "gini@10",
            "arp@10", "auc", "gauc", "stratified_recall@10", "ips_recall@5"} <= set(metrics["metrics"])
    assert list(metrics["slices"]) == ["item:head", "item:mid", "item:tail", "item:cold", "item:warm", "user:few",
                                       "user:many", "user:cold", "user:warm"]
    low, high = metrics["metrics"]["ndcg@10"]["ci95"]
    assert low < metrics["metrics"]["ndcg@10"]["mean"] < high
    assert set(metrics["comparisons"]["popularity"]["ndcg@10"]) == {"difference", "ci95", "p", "p_holm"}
    assert list(metrics["baselines"]) == ["popularity"]


def test_metrics_equal_what_pytrec_eval_says_of_the_written_lists(done, prepared):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    metrics = json.loads((done / "metrics.json").read_text())
    interactions = pq.read_table(prepared / "interactions.parquet").to_pylist()
    lists = pq.read_table(done / "recommendations.parquet").to_pylist()
    qrels, runs = {}, {}
    for row in interactions:
        if row["split"] == "test":
            qrels.setdefault(row["user_id"], {})[row["item_id"]] = 1
    for row in lists:
        runs.setdefault(row["query_id"], {})[row["item_id"]] = 1000 - row["rank"]
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.5", "map_cut.10"}).evaluate(runs)
    for ours, their_name in (("ndcg@10", "ndcg_cut_10"), ("recall@5", "recall_5"), ("map@10", "map_cut_10")):
        expected = np.mean([theirs[user][their_name] for user in qrels])
        assert metrics["metrics"][ours]["mean"] == pytest.approx(expected, abs=1e-9)


def test_no_list_has_items_of_the_users_history(tmp_path, prepared):
    run(tmp_path, model=str(write_model(tmp_path / "m", prepared, fitted_on=("train",), refit="none")))
    known = {(row["user_id"], row["item_id"]) for row in pq.read_table(prepared / "interactions.parquet").to_pylist()
             if row["split"] != "test"}
    printed = pq.read_table(tmp_path / "out" / "recommendations.parquet").to_pylist()
    assert not known & {(row["user_id"], row["item_id"]) for row in printed}


def test_per_user_values_average_to_the_metrics(done):
    metrics = json.loads((done / "metrics.json").read_text())
    table = pq.read_table(done / "per_user.parquet")
    assert table["query_id"].to_pylist() == [f"u{n:02}" for n in range(NUM_USERS)]
    for name in ("ndcg@10", "recall@5", "novelty@10"):
        assert np.mean(table[name].to_numpy()) == pytest.approx(metrics["metrics"][name]["mean"])


def test_a_baseline_that_is_the_model_is_left_out_and_another_fit_of_its_head_stays(tmp_path, prepared, capsys):
    """Baselines are fitted on the interactions of the model, so a baseline with the same head gives the same lists."""
    for name, fitted_on, refit in (("a", ("train",), "none"), ("b", ("train", "valid"), "train_valid")):
        model = write_model(tmp_path / f"m{name}", prepared, fitted_on=fitted_on, refit=refit)
        metrics = run(tmp_path, name, model=str(model), baselines=["popularity", "item_knn"])
        assert list(metrics["baselines"]) == list(metrics["comparisons"]) == ["popularity"]
        assert "baseline item_knn is left out: the model item_knn is the same" in capsys.readouterr().err
    first = write_model(tmp_path / "p", prepared, "popularity", fitted_on=("train",), refit="none")
    metrics = run(tmp_path, "c", models=[str(first), str(model)], baselines=["item_knn"])
    assert list(metrics["baselines"]) == ["item_knn baseline"]


def test_models_that_make_the_same_lists_are_named(tmp_path, prepared, capsys):
    data = read_prepared(prepared)
    for k in (400, 500):  # More than there are items.
        head = build(ModelConfig(head=HEADS["item_knn"](k=k)))
        head.fit(data.training("train", "valid"), Context(torch.device("cpu"), 1))
        save_recommender(tmp_path / f"k{k}", head, data, ("train", "valid"), {"refit": "train_valid", "seed": 1})
    run(tmp_path, models=[str(tmp_path / "k400"), str(tmp_path / "k500")], baselines=["popularity"])
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "make the same lists" in line]
    assert all(k in note for k in ("400", "500"))


def test_two_evaluations_give_the_same_numbers(tmp_path, prepared):
    model = str(write_model(tmp_path / "m", prepared))
    assert run(tmp_path, "one", model=model) == run(tmp_path, "two", model=model, block_size=7)


def test_the_model_may_be_named_by_folder_by_run_or_as_the_newest(tmp_path, prepared):
    finetune = RunDir.create("finetune", str(tmp_path / "run"))
    write_model(finetune.model, prepared)
    finetune.finish("finetune", {})
    by_folder, by_run, newest = (run(tmp_path, str(n), model=model) for n, model in
                                 enumerate([str(finetune.model), str(finetune.path), ""]))
    assert by_folder == by_run == newest


@pytest.mark.parametrize(("split", "fitted_on", "refit", "remedy"), [
    ("test", ("train", "valid", "test"), "all", "refit=train_valid"),
    ("valid", ("train", "valid"), "train_valid", "refit=none")])
def test_a_model_is_not_measured_on_what_it_was_fitted_on(tmp_path, prepared, split, fitted_on, refit, remedy):
    model = write_model(tmp_path / "m", prepared, fitted_on=fitted_on, refit=refit)
    with pytest.raises(ConfigError, match=remedy) as error:
        run(tmp_path, model=str(model), split=split)
    assert error.value.exit_code == 2
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_validation_can_be_measured_with_a_model_fitted_on_train_alone(tmp_path, prepared):
    model = write_model(tmp_path / "m", prepared, fitted_on=("train",), refit="none")
    assert run(tmp_path, model=str(model), split="valid")["protocol"]["num_queries"] == NUM_USERS


def test_no_warm_user_to_evaluate_ends_with_3_and_writes_no_metrics(tmp_path):
    warm = [row for row in rows() if row[2] == "train" and row[0] < "u20"]
    cold = [(f"x{user}", item, "test") for user, item, split in rows() if split == "test"]
    data = write_prepared(tmp_path / "cold", [*warm, *cold])
    model = write_model(tmp_path / "m", data, fitted_on=("train",), refit="none")
    with pytest.raises(DataError, match="no history to recommend from") as error:
        run(tmp_path, model=str(model))
    assert error.value.exit_code == 3
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_an_older_model_is_measured_on_newer_data_with_new_users_and_items(tmp_path, prepared):
    items = ["new0", *(f"i{n:02}" for n in range(NUM_ITEMS - 1, 2, -1)), "new1"]
    newer = [row for row in rows(seed=5) if row[1] in items]
    newer += [("stranger", "i05", "train"), ("stranger", "i08", "test"), ("u03", "new0", "test")]
    data = write_prepared(tmp_path / "newer", newer, items)
    model = write_model(tmp_path / "m", prepared, fitted_on=("train", "valid", "test"), refit="all")
    metrics = run(tmp_path, model=str(model), prepared=str(data))
    assert metrics["protocol"]["num_candidates"] == len(items)
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet").to_pylist()
    assert {row["item_id"] for row in lists} <= set(items)
    assert "stranger" in {row["query_id"] for row in lists}


def test_scores_that_are_not_finite_end_with_6(tmp_path, prepared, monkeypatch):
    model = write_model(tmp_path / "m", prepared, "popularity")
    monkeypatch.setattr(Popularity, "score_users", lambda self, queries: torch.full((len(queries), 30), torch.nan))
    with pytest.raises(DivergedError) as error:
        run(tmp_path, model=str(model))
    assert error.value.exit_code == 6


def test_a_model_of_numbers_that_are_not_finite_ends_with_4(tmp_path, prepared):
    def spoil(head):
        head.counts_N[3] = np.nan
    model = write_model(tmp_path / "m", prepared, "popularity", change=spoil)
    with pytest.raises(ArtifactError, match="counts: has nan among its numbers") as error:
        run(tmp_path, model=str(model))
    assert error.value.exit_code == 4


@pytest.mark.parametrize("name", ["item_kn", "two_tower", "fusion"])
def test_a_baseline_that_cannot_be_is_refused_with_the_choices(tmp_path, name):
    with pytest.raises(ConfigError, match="choose among popularity, repeat, item_knn"):
        run(tmp_path, baselines=[name])


def test_a_constant_scorer_gives_a_warning_and_scores_like_random(tmp_path, prepared, capsys):
    def forget(head):
        head.counts_N[:] = 0
    model = write_model(tmp_path / "m", prepared, "popularity", change=forget)
    metrics = run(tmp_path, model=str(model), baselines=[])
    assert metrics["tie_rate"] == 1
    assert "warning: 100% of the lists contain items with equal scores" in capsys.readouterr().err
    # 10 of the 23 items that are left for each user (30 less 7 seen), one of them relevant.
    chance = 10 / 23
    assert abs(metrics["metrics"]["recall@10"]["mean"] - chance) < 4 * np.sqrt(chance * (1 - chance) / NUM_USERS)


def test_stdout_is_a_plain_table_and_nothing_else(tmp_path, prepared, capsys):
    run(tmp_path, model=str(write_model(tmp_path / "m", prepared)))
    out = capsys.readouterr().out
    assert out.startswith("40 users")
    assert out.isascii()
    assert out.replace("\n", "").isprintable()


def test_a_closed_stdout_does_not_stop_the_evaluation(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert run(tmp_path, model=str(write_model(tmp_path / "m", prepared)))["format"] == 1


def test_titles_are_escaped_in_the_report_and_ids_are_lossless_in_parquet(done):
    report = (done / "report.html").read_text("utf-8")
    assert "<script" not in report
    assert "&lt;script&gt;alert(1)" in report
    assert "\x1b" not in report
    items = set(pq.read_table(done / "recommendations.parquet")["item_id"].to_pylist())
    assert items <= {f"i{n:02}" for n in range(NUM_ITEMS)}


def test_k_beyond_the_catalogue_gives_short_lists_and_metrics_within_one(tmp_path, prepared):
    metrics = run(tmp_path, model=str(write_model(tmp_path / "m", prepared)), k=[100])
    assert metrics["metrics"]["recall@100"]["mean"] == 1
    values = chain(metrics["metrics"].items(), metrics["baselines"]["popularity"].items())
    assert all(value["mean"] <= 1 for name, value in values if name.split("@")[0] in ("ndcg", "map", "hit", "f1"))
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet")
    assert len(lists) == NUM_USERS * (NUM_ITEMS - 7)


def test_models_are_compared_on_the_same_users_in_one_report(tmp_path, prepared, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    models = [str(write_model(tmp_path / name, prepared, name)) for name in ("item_knn", "popularity")]
    metrics = run(tmp_path, models=models, baselines=[], slices=["item:kind", "user:history:2"], exposure=["kind"])
    assert list(metrics["models"]) == ["item_knn", "popularity"]
    assert metrics["models"]["item_knn"]["metrics"] == metrics["metrics"]
    assert [row["name"] for row in metrics["leaderboard"]["rows"]] == ["item_knn", "popularity"]
    assert set(metrics["comparisons"]) == {"popularity"}
    assert {"item:kind=0", "item:kind=1", "item:kind=2", "user:history=6"} <= set(metrics["slices"])
    shares = metrics["exposure"]["kind"]
    assert sum(share["exposure"] for share in shares.values()) == pytest.approx(1)
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    for title in ("Leaderboard", "Accuracy against coverage", "Models by slice",
                  "Where item_knn and popularity differ most", "Exposure by kind"):
        assert title in report
    assert "<script" not in report
    assert set(pq.read_table(tmp_path / "out" / "per_user.parquet")["model"].to_pylist()) == set(metrics["models"])


def report_of(monkeypatch, tmp_path, name, **settings):
    """The content of the report of an evaluation, and the content of its metrics.json."""
    contents = []
    monkeypatch.setattr(evaluate, "render", lambda content, language: contents.append((content, language)) or "report")
    metrics = run(tmp_path, name, **settings)
    return *contents[0], metrics


def test_the_report_is_about_the_best_model_or_the_named_one_and_metrics_json_about_the_first(
        tmp_path, prepared, monkeypatch, capsys):
    models = [str(write_model(tmp_path / name, prepared, name)) for name in ("popularity", "item_knn")]
    content, language, metrics = report_of(monkeypatch, tmp_path, "best", models=models, baselines=[])
    assert (content.model, content.is_named, language) == ("item_knn", False, "en")
    assert content.compared_models == ("item_knn", "popularity")
    assert dict(content.facts["Model"])["Head"] == "item_knn"
    assert content.metrics["metrics"] == metrics["models"]["item_knn"]["metrics"]
    assert set(content.metrics["comparisons"]) == {"popularity"}
    assert metrics["metrics"] == metrics["models"]["popularity"]["metrics"]
    assert "p against item_knn (Holm)" in capsys.readouterr().out
    for about in ("popularity", models[0]):
        content, *_ = report_of(monkeypatch, tmp_path, f"named {len(about)}", models=models, baselines=[], about=about)
        assert (content.model, content.is_named) == ("popularity", True)
    with pytest.raises(ConfigError, match="about=item_kn: is none of the compared models, which are popularity, item_"):
        run(tmp_path, "wrong", models=models, about="item_kn")


@pytest.mark.parametrize(("monitors", "metric"), [(("recall@5", "recall@5"), "recall@5"), (("recall@5", ""), "ndcg@10"),
                                                  (("recall@7", "recall@7"), "ndcg@10")])
def test_models_are_ranked_by_the_metric_that_all_were_chosen_by(monitors, metric):
    measured = SimpleNamespace(values={"ndcg@10": 0, "recall@5": 0})
    models = {str(n): [SimpleNamespace(settings={"monitor": name} if name else {})] for n, name in enumerate(monitors)}
    assert main_metric(models, {"0": measured, "1": measured}, 10) == metric


def test_models_that_differ_by_seed_alone_are_one_with_a_spread(tmp_path, prepared):
    models = []
    for seed in (1, 2):
        folder = write_model(tmp_path / f"s{seed}", prepared)
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"seed": seed}))
        models.append(str(folder))
    metrics = run(tmp_path, models=[*models, str(write_model(tmp_path / "p", prepared, "popularity"))], baselines=[])
    assert metrics["models"]["item_knn"]["seeds"] == 2
    assert metrics["metrics"]["ndcg@10"]["sd"] == 0
    with pytest.raises(ConfigError, match="list each model once"):
        run(tmp_path, "twice", models=[models[0], models[0]])


@pytest.mark.parametrize("content", ["- 1", "[" * 3000, "a: !!python/name:os.system", "a: 1\na: 2", ""])
def test_the_config_of_a_run_that_is_compared_is_plain_data(tmp_path, prepared, content):
    models = [str(write_model(tmp_path / name / "model", prepared)) for name in ("a", "b")]
    (tmp_path / "b" / "config.yaml").write_text(content, "utf-8")
    with pytest.raises(ArtifactError, match=r"b/config\.yaml.*; copy the run again$"):
        run(tmp_path, models=models, baselines=[])


def test_models_of_different_data_or_fits_are_not_compared(tmp_path, prepared):
    other = write_prepared(tmp_path / "other", rows(seed=9))
    models = [str(write_model(tmp_path / "a", prepared)), str(write_model(tmp_path / "b", other))]
    with pytest.raises(DataError, match="cannot be compared"):
        run(tmp_path, models=models, baselines=[])
    with pytest.raises(ConfigError, match="fitted on it"):
        run(tmp_path, models=[models[0], str(write_model(tmp_path / "c", prepared, fitted_on=("train", "valid", "test"),
                                                         refit="all"))], baselines=[])


def test_models_of_one_data_set_are_compared_although_it_holds_out_pairs_that_are_in_training_too(tmp_path):
    leaked = [(user, item, "test") for user, item, split in rows() if split == "train" and user < "u10"]
    data = write_prepared(tmp_path / "leaks", [*rows(), *leaked])
    models = [str(write_model(tmp_path / head, data, head)) for head in ("item_knn", "popularity")]
    metrics = run(tmp_path, models=models, baselines=[], exclude_seen=False)
    assert set(metrics["models"]) == {"item_knn", "popularity"}


def test_candidates_of_a_file_are_ranked_as_given_and_the_catalogue_without_seen_items(tmp_path, prepared):
    model = str(write_model(tmp_path / "m", prepared))
    seen = {}
    for user, item, split in rows():
        seen.setdefault(user, set()).update([item] if split != "test" else [])
    lines = ["user_id,item_id", *(f"{user},{item}" for user, items in seen.items() for item in sorted(items))]
    (tmp_path / "seen.csv").write_text("\n".join(lines))
    result = {}
    for name, settings in (("given", {}), ("dropped", {"exclude_seen": True})):
        protocol = run(tmp_path, name, model=model, candidates=str(tmp_path / "seen.csv"), baselines=[],
                       **settings)["protocol"]
        lists = pq.read_table(tmp_path / name / "recommendations.parquet").to_pylist()
        result[name] = (protocol["exclude_seen"], protocol["candidate_counts"]["seen"],
                        protocol["candidate_counts"]["seen_left_out"], len(lists))
    number = len(lines) - 1
    assert result == {"given": (False, number, 0, number + NUM_USERS), "dropped": (True, number, number, NUM_USERS)}


def test_given_and_sampled_candidates_are_ranked_alone_and_labelled(tmp_path, prepared, capsys):
    model = str(write_model(tmp_path / "m", prepared))
    users = [f"u{n:02}" for n in range(NUM_USERS)]
    lines = ["user_id,item_id", *(f"{user},i0{n}" for user in users for n in range(5))]
    (tmp_path / "given.csv").write_text("\n".join(lines))
    metrics = run(tmp_path, model=model, candidates=str(tmp_path / "given.csv"), baselines=[])
    assert metrics["protocol"]["candidates"].startswith("sampled: 5 given per user")
    assert "Only a few candidates per list" in capsys.readouterr().err
    lists = pq.read_table(tmp_path / "out" / "recommendations.parquet").to_pylist()
    assert {row["item_id"] for row in lists if not row["hit"]} <= {f"i0{n}" for n in range(5)}
    metrics = run(tmp_path, "drawn", model=model, candidates="sampled:9", baselines=[])
    assert metrics["metrics"]["recall@10"]["mean"] == 1
    assert len(pq.read_table(tmp_path / "drawn" / "recommendations.parquet")) == NUM_USERS * 10


@pytest.mark.parametrize(("settings", "message"), [
    ({"slices": ["item:colour"]}, "no attribute 'colour'"), ({"exposure": ["colour"]}, "no attribute 'colour'"),
    ({"slices": ["item:popularity"]}, "add the number of quantiles"), ({"candidates": "nowhere.csv"}, "nowhere.csv")])
def test_settings_impossible_for_the_data_are_refused_by_name(tmp_path, prepared, settings, message):
    with pytest.raises((ConfigError, DataError), match=message):
        run(tmp_path, model=str(write_model(tmp_path / "m", prepared)), **settings)


def test_graded_gains_and_expected_ties_change_the_right_metrics(tmp_path, prepared):
    model = str(write_model(tmp_path / "m", prepared))
    plain = run(tmp_path, "plain", model=model, baselines=[])["metrics"]
    # Values are all 1, and so are the gains.
    assert run(tmp_path, "graded", model=model, baselines=[], graded=True)["metrics"] == plain

    def forget(head):
        head.counts_N[:] = 0
    constant = str(write_model(tmp_path / "constant", prepared, "popularity", change=forget))
    expected = run(tmp_path, "ties", model=constant, baselines=[], ties="expected")["metrics"]["recall@10"]
    assert expected["mean"] == pytest.approx(10 / 23)


@pytest.mark.parametrize("target", ["value", "opinion"])
def test_scores_that_predict_are_measured_beside_baselines_that_do_not(tmp_path, target):
    """Pairs of the rating metrics: every held-out pair of the evaluated users, likes and dislikes."""
    from sklearn.metrics import (
        accuracy_score,
        log_loss,
        mean_absolute_error,
        roc_auc_score,
        root_mean_squared_error,
    )

    created = write_prepared(tmp_path / "rated", rows())
    with_values(created, target)
    data = read_prepared(created)
    loss = MseSettings() if target == "value" else BceSettings()
    head = build(ModelConfig(head=HEADS["mf"](embedding_size=4, target=target), loss=loss,
                             optim=AdamWSettings(epochs=2)))
    head.fit(data.training("train", "valid"), Context(torch.device("cpu"), 1))
    save_recommender(tmp_path / "m", head, data, ("train", "valid"), {"refit": "train_valid", "seed": 1})
    metrics = run(tmp_path, model=str(tmp_path / "m"))
    assert metrics["comparisons"]["popularity"]["ndcg@10"]["p_holm"] <= 1

    known = data.part("train", "valid").matrix
    scores_UN = head.score(known_users(np.arange(NUM_USERS), data.users.ids, known, known)).numpy()
    likes, dislikes, ours = data.part("test"), data.negatives("test"), metrics["metrics"]
    score = scores_UN[likes.user, likes.item]
    if target == "value":
        assert len(set(likes.value)) > 1
        assert ours["rmse"]["mean"] == pytest.approx(root_mean_squared_error(likes.value, score), abs=1e-6)
        assert ours["mae"]["mean"] == pytest.approx(mean_absolute_error(likes.value, score), abs=1e-6)
        return
    score = np.concatenate([score, scores_UN[dislikes.user, dislikes.item]])
    liked = np.arange(len(score)) < len(likes)
    assert 0 < ours["logloss"]["mean"] == pytest.approx(log_loss(liked, 1 / (1 + np.exp(-score))), abs=1e-6)
    assert ours["accuracy"]["mean"] == pytest.approx(accuracy_score(liked, score > 0))
    assert ours["auc_pairs"]["mean"] == pytest.approx(roc_auc_score(liked, score))


def with_values(created, target):
    """Give interactions values of 1 to 5, or every user a dislike of each split."""
    table = pq.read_table(created / "interactions.parquet")
    if target == "value":
        values = pa.array(1.0 + (table["item"].to_numpy() * 7 + table["user"].to_numpy()) % 5, pa.float32())
        pq.write_table(table.set_column(table.schema.get_field_index("value"), "value", values),
                       created / "interactions.parquet")
    else:
        known = {(row["user"], row["item"]) for row in table.to_pylist()}
        size = 3 * NUM_USERS
        pairs = [(user, item) for user in range(NUM_USERS) for item in
                 [item for item in range(NUM_ITEMS) if (user, item) not in known][:3]]
        columns = {"user": [user for user, _ in pairs], "item": [item for _, item in pairs],
                   "value": pa.array([1.0] * size, pa.float32()), "timestamp": list(range(size)),
                   "split": ["train", "valid", "test"] * NUM_USERS}
        pq.write_table(pa.table(columns), created / "negatives.parquet")
    manifest = json.loads((created / "manifest.json").read_text())
    manifest["files"] = {file.name: sha256(file) for file in sorted(created.glob("*.parquet"))}
    (created / "manifest.json").write_text(json.dumps(manifest))


def test_a_planted_leak_is_suspicious_and_an_honest_model_is_not(tmp_path):
    """Attributes of items contain their users, also those of the test: EASE with attributes reads the answers."""
    def folder(name, leak):
        created = write_prepared(tmp_path / name, wide(), [f"i{n:03}" for n in range(WIDE)])
        likes = {}
        for user, item, _ in wide():
            likes.setdefault(item, []).append(f"who={user}")
        if leak:
            table = pq.read_table(created / "items.parquet")
            column = pa.array([likes.get(key, []) for key in table["item_id"].to_pylist()], pa.list_(pa.string()))
            pq.write_table(table.set_column(table.schema.get_field_index("attributes"), "attributes", column),
                           created / "items.parquet")
            manifest = json.loads((created / "manifest.json").read_text())
            manifest["files"]["items.parquet"] = sha256(created / "items.parquet")
            (created / "manifest.json").write_text(json.dumps(manifest))
        return created

    result = {}
    for name, leak in (("honest", False), ("leak", True)):
        created = folder(name, leak)
        data = read_prepared(created)
        head = build(ModelConfig(head=HEADS["ease"](l2=1.0, features=FeatureWeightsSettings(attributes=20.0))))
        head.fit(data.training("train", "valid"), Context(torch.device("cpu"), 1))
        save_recommender(tmp_path / f"{name}-model", head, data, ("train", "valid"), {"refit": "train_valid"})
        result[name] = run(tmp_path, f"{name}-out", model=str(tmp_path / f"{name}-model"))["suspicious"]
    assert result["honest"] == []
    assert any("contain the user's id" in reason for reason in result["leak"])
    assert any("times that of the strongest baseline" in reason or "nearly perfect" in reason
               for reason in result["leak"])


WIDE = 300


def wide():
    """Each user likes ten random items of three hundred, so nothing can be learned."""
    generator = np.random.default_rng(3)
    for user in range(NUM_USERS):
        for item, split in zip(generator.choice(WIDE, 10, False), ["train"] * 8 + ["valid", "test"], strict=True):
            yield f"u{user:02}", f"i{item:03}", split


def test_a_model_fitted_on_train_is_queried_with_validation_items_unless_history_fit(tmp_path):
    """A user whose last training item is n has n + 1 in validation and n + 2 in the test. A head that learns which item
    follows which can find the test item only if the history ends with the validation item."""
    chain_of = [(f"u{user:02}", f"i{(user + step) % NUM_ITEMS:02}", split) for user in range(NUM_USERS)
                for step, split in enumerate(("train",) * 6 + ("valid", "test"))]
    prepared = write_prepared(tmp_path / "chain", chain_of)
    model = str(write_model(tmp_path / "m", prepared, "ease", ("train",), "none"))
    latest = run(tmp_path, model=model, baselines=[])
    fit = run(tmp_path, "old", model=model, history="fit", baselines=[])
    assert (latest["protocol"]["history"], fit["protocol"]["history"]) == ("latest", "fit")
    assert latest["protocol"]["num_newer_histories"] == NUM_USERS
    assert fit["protocol"]["num_newer_histories"] == 0
    assert latest["protocol"]["without_fold_in"] == {}
    assert latest["metrics"]["ndcg@5"]["mean"] > fit["metrics"]["ndcg@5"]["mean"] + 0.1
    lengths = {name: set(pq.read_table(tmp_path / name / "per_user.parquet")["history_length"].to_pylist())
               for name in ("out", "old")}
    assert lengths == {"out": {7}, "old": {6}}
    # Both leave out validation items and have the same relevant items.
    assert latest["protocol"]["num_queries"] == fit["protocol"]["num_queries"]


def test_a_model_refitted_on_train_and_validation_gives_the_same_lists_with_either_history(tmp_path, prepared):
    model = str(write_model(tmp_path / "m", prepared))
    for history in ("latest", "fit"):
        run(tmp_path, history, model=model, history=history, baselines=[])
    lists = [pq.read_table(tmp_path / name / "recommendations.parquet") for name in ("latest", "fit")]
    assert lists[0].equals(lists[1])


def test_a_head_with_user_vectors_reports_that_newer_interactions_change_nothing(tmp_path, prepared):
    data = read_prepared(prepared)
    fitted = build(ModelConfig(head=HEADS["mf"](embedding_size=4), loss=MseSettings(), optim=AdamWSettings(epochs=1)))
    fitted.fit(data.training("train"), Context(torch.device("cpu"), 1))
    save_recommender(tmp_path / "m", fitted, data, ("train",), {"refit": "none", "seed": 1})
    model = str(tmp_path / "m")
    latest = run(tmp_path, model=model, baselines=[])
    assert latest["protocol"]["without_fold_in"] == {"mf": ["mf"]}
    assert latest["protocol"]["num_newer_histories"] == NUM_USERS
    fit = run(tmp_path, "old", model=model, history="fit", baselines=[])
    assert fit["metrics"]["ndcg@10"] == latest["metrics"]["ndcg@10"]


def test_the_report_names_the_interactions_used_as_histories():
    protocol = {"history": "latest", "num_newer_histories": 1200, "num_queries": 2000,
                "without_fold_in": {"mf": ["mf"], "fusion": ["mf", "neural"]}}
    assert history_facts(protocol) == [("Histories", (
        "all interactions before the split; 1,200 of 2,000 histories have interactions newer than the fit; known "
        "users scored from learned vectors: mf, fusion (mf, neural)"))]
    assert history_facts(protocol | {"history": "fit", "without_fold_in": {}})[0][1] == (
        "interactions that the model was fitted on")
    assert history_facts({"split": "test"}) == []


def test_users_with_several_candidate_rows_count_once_for_newer_interactions(tmp_path):
    splits = ("train",) * 5 + ("valid", "test", "test")
    prepared = write_prepared(tmp_path / "twice", rows(splits=splits))
    model = str(write_model(tmp_path / "m", prepared, fitted_on=("train",), refit="none"))
    items = {f"i{n:02}" for n in range(NUM_ITEMS)}
    lines = [f"({user},{item})\t{' '.join(sorted(items - {item})[:9])}" for user, item, split in rows(splits=splits)
             if split == "test"]
    (tmp_path / "rows.txt").write_text("\n".join(lines) + "\n")
    protocol = run(tmp_path, model=model, baselines=[], candidates=str(tmp_path / "rows.txt"))["protocol"]
    assert (protocol["num_rows"], protocol["num_queries"]) == (2 * NUM_USERS, NUM_USERS)
    assert protocol["num_newer_histories"] == NUM_USERS


def test_newer_histories_are_counted_among_the_queries_that_are_left():
    relevant = sp.csr_array(np.eye(4, dtype=np.float32))
    names = np.array(list("abcd"), object)
    queries = Queries(names, names, np.arange(4), relevant, relevant, np.full(4, "", object))
    task = HeldOut(queries, relevant, np.ones(4), np.ones(4, np.int64), np.ones(4, bool), 0, 0,
                   owner_Q=np.array(["a", "a", "c", "d"], object))
    lists = Lists(np.zeros((4, 1), np.int32), np.zeros((4, 1), np.float32), np.zeros(4, bool), np.zeros(4, bool),
                  np.zeros(4, np.int32), np.zeros(4, np.float32))
    ranked = RankedLists(task, lists, newer_Q=np.array([True, True, True, False]))
    assert ranked.num_newer == 2
    assert ranked.rows(np.array([0, 1, 3])).num_newer == 1
