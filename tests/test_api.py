"""llmrec from Python: tables in and out, the same results and errors as the commands."""

import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import llmrec_cli as llmrec
from llmrec_cli.config import compose
from tests.conftest import leave_out_audit
from tests.some_slow import some_slow


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clicks(tiny_files):
    return pd.read_csv(tiny_files / "interactions.csv")


@pytest.fixture(scope="module")
def recommender(tmp_path_factory, tiny_prepared):
    """A model whose run directory is in a folder that is not the current one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        return llmrec.finetune(tiny_prepared, **{"head.l2": 20})


def config_of(command):
    return (Path("runs") / command / "latest/config.yaml").read_text("utf-8")


def test_tables_give_the_same_prepared_data_as_their_files(tiny_files, tiny_prepared, clicks, monkeypatch):
    leave_out_audit(monkeypatch)
    prepared = llmrec.prepare(clicks, items=pd.read_csv(tiny_files / "items.csv"), **{
        "dataset.name": "tiny", "dataset.item_text": "{title} ({year}). {genres}",
        "dataset.attributes.genres": "list", "dataset.min_value": 4})
    assert prepared.folder == Path("data/prepared/tiny").resolve()
    assert prepared.manifest["fingerprint"] == json.loads((tiny_prepared / "manifest.json").read_bytes())["fingerprint"]
    assert prepared.counts["users"] == 60


@pytest.mark.slow
def test_ids_follow_the_rules_of_parquet_files():
    """Users are a category; items are whole numbers, and one is missing."""
    users = pd.Series([f"u{n // 6}" for n in range(60)], dtype="category")
    items = pd.Series([n % 6 for n in range(60)], dtype="Int64")
    items[7] = None
    prepared = llmrec.prepare(pd.DataFrame({"user_id": users, "item_id": items}), **{"dataset.max_reject_share": 0.05})
    rows = pd.read_parquet(prepared.folder / "interactions.parquet")
    assert set(rows["user_id"]) == {f"u{n}" for n in range(10)}
    assert set(rows["item_id"]) == {"0", "1", "2", "3", "4", "5"}
    assert prepared.counts["rejected"] == 1
    with pytest.raises(llmrec.DataError, match="the id column 'item_id' holds floating point numbers"):
        llmrec.prepare(pd.DataFrame({"user_id": users, "item_id": items.astype(float)}))


def test_lists_are_those_of_the_command(llmrec_command, recommender):
    lists = recommender.recommend(k=3)
    llmrec_command("recommend", f"model={recommender.folder}", "queries=all", "k=3", "output=lists.parquet")
    pd.testing.assert_frame_equal(lists, pd.read_parquet("lists.parquet"))
    assert list(lists.columns[:6]) == ["query_id", "user_id", "rank", "item_id", "score", "source"]
    assert len(lists) == 60 * 3


@pytest.fixture
def llmrec_command():
    from llmrec_cli import cli
    from tests.conftest import own_sigterm

    def run(*words):
        with own_sigterm():
            assert cli.run(list(words)) == 0

    return run


@pytest.mark.parametrize(("given", "queries"), some_slow([
    ({"users": "u3"}, [{"user_id": "u3"}]),
    ({"users": ["u3", "u4"]}, [{"user_id": "u3"}, {"user_id": "u4"}]),
    ({"users": pd.Series(["u3"], dtype="category")}, [{"user_id": "u3"}]),
    ({"users": 7}, [{"user_id": "7"}]),
    ({"users": np.array([7, 8]), "history": [(1, "i2"), [np.int64(3)]]},
     [{"user_id": "7", "history": ["1", "i2"]}, {"user_id": "8", "history": ["3"]}]),
    ({"users": [7, None]}, [{"user_id": "7"}, {"user_id": None}]),
    ({"history": ["i1", "i2"]}, [{"history": ["i1", "i2"]}]),
    ({"history": [["i1"], []]}, [{"history": ["i1"]}, {"history": []}]),
    ({"users": "u3", "history": ["i1"], "text": "a, {b}"}, [{"user_id": "u3", "history": ["i1"], "text": "a, {b}"}]),
    ({"text": ["a", "b"]}, [{"text": "a"}, {"text": "b"}])]))
def test_each_user_history_or_text_is_a_query(given, queries):
    from llmrec_cli.api import query_table

    table = query_table(**{"users": None, "history": None, "text": None} | given)
    assert table.to_dict("records") == queries


def test_a_history_gives_a_list_without_its_items(recommender):
    lists = recommender.recommend(history=["i1", "i2"], k=4)
    assert list(lists["rank"]) == [1, 2, 3, 4]
    assert not set(lists["item_id"]) & {"i1", "i2"}
    assert set(lists["source"]) == {"history"}


@pytest.mark.slow
def test_empty_histories_and_tables_of_candidates_are_read(recommender):
    lists = recommender.recommend(history=[["i1"], []], k=2, candidates=pd.DataFrame({"item_id": ["i3", "i4", "i5"]}))
    assert set(lists["item_id"]) <= {"i3", "i4", "i5"}
    assert list(lists.groupby("query_id").size()) == [2, 2]


@pytest.mark.slow
def test_queries_and_new_users_are_tables(recommender):
    lists = recommender.recommend(queries=pd.DataFrame({"members": [["u1", "u2"]], "query_id": ["us"]}), k=2)
    assert set(lists["source"]) == {"group"}
    with pytest.raises(llmrec.DataError, match=r"users\.parquet: these users have no text"):
        recommender.recommend(users=["u1", "new"], new_users=pd.DataFrame({"user_id": ["new"]}))


@pytest.mark.slow
def test_evaluate_returns_metrics_and_the_report(recommender):
    result = recommender.evaluate(num_bootstrap=100, baselines=["popularity"], k=10)
    assert result.report.is_file()
    named = result.metrics.set_index(["model", "metric"])
    row = named.loc[("ease", "ndcg@10")]
    written = json.loads(Path("runs/evaluate/latest/metrics.json").read_bytes())
    assert row["mean"] == written["metrics"]["ndcg@10"]["mean"]
    assert [row["low"], row["high"]] == written["metrics"]["ndcg@10"]["ci95"]
    assert named.loc[("popularity", "coverage@10"), "low"] != named.loc[("popularity", "coverage@10"), "low"]
    assert result.content == written


def test_metrics_are_a_row_for_each_model_and_metric():
    from llmrec_cli.api import _metrics_table

    one = {"ndcg@10": {"mean": 0.5, "ci95": [0.4, 0.6]}, "coverage@10": {"mean": 1, "ci95": None}}
    table = _metrics_table("ease", {"metrics": one, "baselines": {"popularity": {"ndcg@10": {"mean": 0.1}}}})
    assert table.fillna(-1).values.tolist() == [
        ["ease", "ndcg@10", 0.5, 0.4, 0.6], ["ease", "coverage@10", 1, -1, -1], ["popularity", "ndcg@10", 0.1, -1, -1]]
    several = {"metrics": one, "models": {"a": {"metrics": one}, "b": {"metrics": one}}, "baselines": {}}
    assert set(_metrics_table("ease", several)["model"]) == {"a", "b"}


def test_the_model_of_load_stays_the_same_when_latest_moves(recommender, monkeypatch):
    Path("runs/finetune").mkdir(parents=True)
    Path("runs/finetune/latest").symlink_to(recommender.folder)
    loaded = llmrec.load()
    Path("runs/finetune/latest").unlink()
    assert loaded == recommender
    assert loaded.manifest["head"] == "ease"
    assert llmrec.load(recommender.folder / "model").manifest == loaded.manifest


def test_settings_have_the_keys_of_the_command_line(recommender):
    assert "l2: 20" in (recommender.folder / "config.yaml").read_text("utf-8")


@pytest.mark.parametrize(("command", "values", "words"), some_slow([
    ("prepare", {"dataset.interactions": "a.csv", "dataset.item_text": "${seed} $HOME", "split": "temporal"},
     ["dataset.interactions=a.csv", "dataset.item_text=${seed} $HOME", "split=temporal"]),
    ("finetune", {"head": "ease", "head.l2": np.int64(20), "seed": 3}, ["head=ease", "head.l2=20", "seed=3"]),
    ("finetune", {"head.members.ease.encoder": "lsa", "head.members.content": None},
     ["head.members.ease.encoder=lsa", "head.members.content=null"]),
    ("prepare", {"dataset.interactions": Path("a,b.csv"), "dataset.columns": {"user_id": "id, {x}"}},
     ["dataset.interactions=a,b.csv", "dataset.columns.user_id=id, {x}"]),
    ("recommend", {"query.history": (50, "null"), "query.user_id": 7, "output": "x.csv", "exclude_seen": False},
     ["query.history=[50,null]", "query.user_id=7", "output=x.csv", "exclude_seen=false"]),
    ("evaluate", {"k": 10, "model": "m"}, ["k=10", "model=m"]),
    ("prepare", {"dataset.attributes.'a.b'": "list", "dataset.interactions": ["a", "b"]},
     ["dataset.attributes.'a.b'=list", "dataset.interactions=[a,b]"])]))
def test_python_values_compose_like_the_words_of_a_command_line(command, values, words):
    assert compose(command, [], python_values=values) == compose(command, words)


def test_python_values_are_above_an_experiment_and_a_settings_file():
    Path("shop.yaml").write_text("head: {kind: ease, l2: 7}\nseed: 5\n")
    composed = compose("finetune", ["settings=shop.yaml"], python_values={"head.l2": 9})
    assert (composed.head.kind, composed.head.l2, composed.seed) == ("ease", 9, 5)
    words = ["experiment=movielens_100k"]
    composed = compose("prepare", words, python_values={"split": "leave_last_out"})
    assert composed == compose("prepare", [*words, "split=leave_last_out"])
    assert composed.split.kind == "leave_last_out"


@pytest.mark.parametrize(("values", "message"), [
    ({"hed": "ease"}, "hed: `llmrec finetune` has no such setting (did you mean 'head'?)"),
    ({"head": {"l2": 20}}, "expected the name of an option; its settings have keys of their own, head.<setting>"),
    ({"head": "esae"}, "head=esae: no such head"),
    ({"head.l2": object()}, "head.l2: a object is no value of a setting"),
    ({"head": "ease", "head.l2": "many"}, "head.l2=many"),
    ({"cache": "\ud800"}, "cache: is not UTF-8"),
    ({"head.kind": "ease"}, "choose an option with head=<name>"),
    ({"head.members": {1: {}}}, "head.members: the key 1 is not text"),
    ({"l2": 100}, "l2: `llmrec finetune` has no such setting (did you mean 'head.")])
def test_a_wrong_setting_is_a_config_error_with_the_next_step(values, message):
    with pytest.raises(llmrec.ConfigError) as raised:
        compose("finetune", [], python_values=values)
    assert message in str(raised.value)
    assert not Path("runs").exists()


def test_a_settings_file_may_name_the_head(monkeypatch, tiny_prepared):
    composed = []
    monkeypatch.setattr("llmrec_cli.api.run_stage", lambda _, cfg: composed.append(cfg) or Path("run"))
    Path("shop.yaml").write_text("head: {kind: item_knn, k: 7}\n")
    llmrec.finetune(tiny_prepared, head=None, settings="shop.yaml")
    assert (composed[0].head.kind, composed[0].head.k) == ("item_knn", 7)


def test_all_problems_come_together():
    with pytest.raises(llmrec.ConfigError) as raised:
        llmrec.finetune("nowhere", **{"head.l3": 1, "sede": 1})
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: llmrec.prepare(pd.DataFrame({0: [1]})), llmrec.DataError, "the column 0 has no text as its name"),
    (lambda: llmrec.prepare(pd.DataFrame({"user_id": [1, "b"]})), llmrec.DataError, "values of one type"),
    (lambda: llmrec.prepare(pd.DataFrame([[1, 2]], columns=["a", "a"])), llmrec.DataError, "a name of its own"),
    (lambda: llmrec.prepare(), llmrec.ConfigError, "dataset.interactions"),
    (lambda: llmrec.prepare("a.csv", **{"dataset.interactions": "b.csv"}), llmrec.ConfigError,
     "dataset.interactions: is given by an argument already"),
    (lambda: llmrec.prepare("none.csv"), llmrec.DataError, "none.csv: no such file"),
    (lambda: llmrec.load("nowhere"), llmrec.ConfigError, "model=nowhere: no such folder"),
    (lambda: llmrec.load("."), llmrec.ArtifactError, "manifest.json"),
    (lambda: llmrec.finetune("p", resume="r"), llmrec.ConfigError, "llmrec finetune resume=<run>"),
    (lambda: llmrec.Recommender(Path("m")).recommend(output="x.csv"), llmrec.ConfigError, "recommend() returns"),
    (lambda: llmrec.Recommender(Path("m")).recommend(users=["a", "b"], text="c"), llmrec.ConfigError,
     "2 of user_id, 1 of text"),
    (lambda: llmrec.Recommender(Path("m")).recommend(users=pd.DataFrame({"user_id": ["a"]})), llmrec.ConfigError,
     "give it as queries="),
    (lambda: llmrec.Recommender(Path("m")).recommend(users=[]), llmrec.ConfigError, "user_id has no entry"),
    (lambda: llmrec.Recommender(Path("m")).recommend(users="a", queries="q.csv"), llmrec.ConfigError,
     "cannot be combined")])
def test_mistakes_raise_the_errors_of_the_commands(call, kind, message):
    with pytest.raises(kind) as raised:
        call()
    assert message in str(raised.value)


def test_named_levels_of_the_index_are_columns(tmp_path):
    from llmrec_cli.api import _write_table

    table = pd.DataFrame({"item_id": ["i"]}, index=pd.Index(["u"], name="user_id"))
    assert list(pd.read_parquet(_write_table("interactions", table, tmp_path)).columns) == ["user_id", "item_id"]


def test_running_out_of_memory_is_a_resource_error(monkeypatch, tiny_prepared):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("llmrec_cli.api.run_stage", fail)
    with pytest.raises(llmrec.ResourceError, match="finetune: out of memory"):
        llmrec.finetune(tiny_prepared)


def test_torchrun_is_refused_with_the_command_that_works(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(llmrec.ConfigError, match="torchrun -m llmrec_cli finetune"):
        llmrec.finetune("p")


def test_plugins_register_their_options_and_are_no_setting(monkeypatch, tiny_prepared):
    loaded = []
    monkeypatch.setattr("llmrec_cli.plugins.load", loaded.append)
    monkeypatch.setattr("llmrec_cli.api.run_stage", lambda *_: Path("run"))
    llmrec.finetune(tiny_prepared, plugins="shop")
    llmrec.finetune(tiny_prepared, plugins=["a", "b"])
    assert loaded == ["shop", "a", "b"]


def test_a_thread_may_call_it(recommender):
    """Signal handlers can only be set in the main thread, and belong to the caller."""
    results = []
    thread = threading.Thread(target=lambda: results.append(recommender.recommend(users="u3", k=2)))
    thread.start()
    thread.join()
    assert len(results[0]) == 2


def test_public_names_are_listed_and_documented():
    page = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8")
    for name in llmrec.__all__:
        assert name in dir(llmrec)
        assert f"{name}" in page, name
        assert getattr(llmrec, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        llmrec.predict  # noqa: B018
