"""Requests to `recommend`: new interactions, candidates of each query, delisted items."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrec_cli import cli
from tests.conftest import Done, own_sigterm
from tests.tiny import write_tiny

GONE = ("i5", "i9")
DATA = "data/prepared/tiny"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data whose catalogue lacks two items of the log, and models fitted on train alone."""
    folder = tmp_path_factory.mktemp("requests")
    write_tiny(folder)
    rows = list(csv.reader((folder / "items.csv").open(encoding="utf-8")))
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(row for row in rows if row[0] not in GONE)
    with chdir(folder), own_sigterm():
        cli.run(["prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=interactions.csv",
                 "dataset.items=items.csv", "dataset.item_text={title}", "dataset.min_value=4",
                 "split=leave_last_out"])
        cli.run(["finetune", "head=ease", "refit=none", "run_dir=ease"])
        cli.run(["finetune", "head=mf", "refit=none", "optim.epochs=1", "head.embedding_size=4", "run_dir=mf"])
    return folder


@pytest.fixture
def shop(workshop: Path, tmp_path: Path) -> Path:
    """The test's own copy of the workshop's data and models."""
    for name in ("data", "ease", "mf"):
        shutil.copytree(workshop / name, tmp_path / name, symlinks=True)
    for name in ("interactions.csv", "items.csv"):
        shutil.copy(workshop / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def lists(llmrec: Callable[..., Done], shop: Path) -> Callable[..., Any]:
    """Run `recommend` and return the items of each query, the rows, what was printed and the manifest."""

    def call(*arguments: str, model: str = "ease") -> Any:
        done = llmrec("recommend", f"model={model}", "output=out.jsonl", "device=cpu", *arguments)
        assert done.code == 0, done.err
        rows = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
        result: dict[str, list[str]] = {}
        for row in rows:
            result.setdefault(row["query_id"], []).append(row["item_id"])
        return result, rows, done.err, json.loads(Path("out.jsonl.manifest.json").read_text())

    return call


def did(user: str, *splits: str) -> list[str]:
    """Return the items of a user in the prepared data, oldest first."""
    return [row["item_id"] for row in pq.read_table(f"{DATA}/interactions.parquet").to_pylist()
            if row["user_id"] == user and row["split"] in splits]


def write(name: str, *lines: str) -> str:
    Path(name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return name


def as_query(history: list[str]) -> str:
    return f"query.history=[{','.join(history)}]"


# Histories


@pytest.mark.slow
def test_known_users_are_asked_with_what_the_data_has_beyond_the_fit_and_never_with_its_test(lists):
    result, _, stderr, manifest = lists("queries=all", "k=50")
    assert "histories: 60 of the model's 60 users have interactions newer than the fit" in stderr
    assert (manifest["history"], manifest["newer_histories"]) == ("latest", 60)
    for user in ("u0", "u7", "u33"):
        # EASE uses only the history, so the same history gives the same list.
        expected = lists(as_query(did(user, "train", "valid")), "k=50")[0]["query"]
        assert result[user] == expected
        assert set(did(user, "test")) <= set(result[user])


def test_history_fit_asks_with_what_the_model_was_fitted_on(lists):
    result, _, stderr, manifest = lists("query.user_id=u7", "history=fit", "k=50")
    expected = lists(as_query(did("u7", "train")), "k=50")[0]["query"]
    # Validation interactions are excluded from the list in any case.
    assert result["u7"] == [item for item in expected if item not in did("u7", "valid")]
    assert "newer than the fit" not in stderr
    assert manifest["history"] == "fit"


def test_a_model_without_its_data_uses_the_history_of_the_fit_or_refuses_history_latest(lists, llmrec):
    with_data = lists("query.user_id=u7", "history=fit")[0]
    shutil.rmtree("data")
    result, _, stderr, manifest = lists("query.user_id=u7")
    assert "histories: only interactions of the fit are used, since the model's prepared data is missing" in stderr
    assert (result, manifest["history"]) == (with_data, "fit")
    assert "histories" not in lists("query.user_id=u7", "history=fit")[2]
    done = llmrec("recommend", "model=ease", "query.user_id=u7", "history=latest")
    assert done.code == 3
    assert "history=latest: the model's prepared data is missing (data/prepared/tiny); copy the data there" in done.err


def test_queries_without_known_users_need_no_data(lists):
    shutil.rmtree("data")
    assert "histories" not in lists("query.history=[i1,i2]")[2]


def test_data_of_other_users_is_not_taken_for_the_models(lists, llmrec):
    write("other.csv", "user_id,item_id,timestamp", "x,i1,1", "x,i2,2", "y,i1,1", "y,i2,2", "y,i3,3")
    assert llmrec("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=other.csv", "split=none",
                  "force=true").code == 0
    _, _, stderr, manifest = lists("query.user_id=u7")
    assert "it has none of the model's users" in stderr
    assert manifest["history"] == "fit"


@pytest.mark.slow
def test_all_of_data_that_was_prepared_since_is_used_and_new_users_are_answered_by_it(lists, llmrec):
    write("today.csv", "user_id,item_id,value,timestamp", "u7,c1,5,1700000000", "new,i1,5,1700000000",
          "new,i2,5,1700000001", "u8,unheard,5,1700000000")
    assert llmrec("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=today.csv",
                  "dataset.items=items.csv", "dataset.item_text={title}", "dataset.min_value=4",
                  "split=leave_last_out", "mode=append").code == 0
    result, rows, stderr, _ = lists("queries=all", "k=50")
    assert "of the model's 60 users have interactions newer than the fit; 1 new users have" in stderr
    assert "items of data/prepared/tiny left out of histories, unknown to the model: 1 ('unheard')" in stderr
    assert result["u7"] == lists(as_query(did("u7", "train", "valid", "test")), "k=50")[0]["query"]
    assert "c1" not in result["u7"]
    assert {row["source"] for row in rows if row["query_id"] == "new"} == {"history"}
    assert result["new"] == lists(as_query(["i1", "i2"]), "k=50")[0]["query"]


def test_a_head_that_learned_of_each_user_says_that_newer_interactions_change_no_score(lists):
    result, _, stderr, _ = lists("query.user_id=u7", model="mf")
    assert "mf: known users are scored from learned vectors" in stderr
    assert result == lists("query.user_id=u7", "history=fit", model="mf")[0]


# Today's interactions


def test_todays_interactions_come_last_in_histories_and_make_new_users(lists):
    file = write("today.csv", "user_id,item_id,value,timestamp", "u7,c2,5,200", "u7,c1,5,100", "new,i2,5,7")
    result, rows, stderr, manifest = lists("queries=all", f"interactions={file}", "k=50")
    known = did("u7", "train", "valid")
    assert result["u7"] == lists(as_query([*known, "c1", "c2"]), "k=50")[0]["query"]
    assert result["new"] == lists(as_query(["i2"]), "k=50")[0]["query"]
    assert {row["source"] for row in rows if row["query_id"] == "new"} == {"history"}
    assert {row["source"] for row in rows if row["query_id"] == "u7"} == {"model"}
    assert "60 of the model's 60 users have interactions newer than the fit; 1 new users" in stderr
    assert manifest["queries"] == 61
    shutil.rmtree("data")
    without = lists("query.user_id=u7", f"interactions={file}", "k=50")[0]["u7"]
    expected = lists(as_query([*did_before(known), "c1", "c2"]), "k=50")[0]["query"]
    assert without == [item for item in expected if item not in known[-1:]]


def did_before(known: list[str]) -> list[str]:
    """Return the items in training: leave_last_out takes the last but one for validation."""
    return known[:-1]


def test_a_new_user_with_todays_interactions_may_be_a_member_of_a_group(lists):
    file = write("today.csv", "user_id,item_id", "new,i2", "new,i6")
    result, rows, stderr, _ = lists("query.members=[new]", f"interactions={file}", "exclude_seen=false")
    assert {row["source"] for row in rows} == {"group"}
    assert "ignored, unknown to the model" not in stderr
    alone = lists("query.user_id=new", f"interactions={file}", "exclude_seen=false")[0]
    assert result["query"] == alone["new"]


def test_new_interactions_below_the_threshold_are_not_added(lists):
    file = write("today.csv", "user_id,item_id,value", "u7,c1,2", "u7,c2,0", "u7,c3,-5", "u7,i1,4")
    _, _, stderr, _ = lists("query.user_id=u7", f"interactions={file}")
    assert f"interactions={file}: 3 of 4 rows not added to histories" in stderr


def test_unknown_items_of_today_are_counted_or_refused_by_their_line(lists, llmrec):
    file = write("today.csv", "user_id,item_id", "u7,c1", "u7,zz", "u8,zz")
    assert "items ignored, unknown to the model: 1 ('zz')" in lists(
        "query.user_id=u7", f"interactions={file}")[2]
    done = llmrec("recommend", "model=ease", "query.user_id=u7", f"interactions={file}", "on_unknown=error")
    assert (done.code, "today.csv: line 3: 'zz' is not an item of the model" in done.err) == (3, True)
    file = write("other.csv", "user_id,item_id", "u7,x", "u8,y")
    done = llmrec("recommend", "model=ease", "query.user_id=u7", f"interactions={file}")
    assert (done.code, "from the model's catalogue" in done.err) == (3, True)


def test_interactions_have_no_effect_with_the_history_of_the_fit(llmrec, shop):
    done = llmrec("recommend", "model=ease", "query.user_id=u7", "interactions=today.csv", "history=fit")
    assert (done.code, "interactions=today.csv: has no effect with history=fit" in done.err) == (2, True)


# Candidates of each query


@pytest.mark.parametrize(("key", "queries"), [
    ("user_id", ["user_id", "u1", "u2", "u3"]), ("query_id", ["query_id,user_id", "u1,u4", "u2,u5", "u3,u6"])])
def test_each_query_gets_its_own_candidates_alone_and_one_without_any_no_list(lists, key, queries):
    file = write("cand.csv", f"{key},item_id", "u1,c0", "u1,c1", "u2,c2", "u2,zz", "u9,c3")
    result, _, stderr, manifest = lists(f"queries={write('q.csv', *queries)}", f"candidates={file}")
    assert {query: set(items) for query, items in result.items()} == {"u1": {"c0", "c1"}, "u2": {"c2"}}
    assert "queries without candidates in cand.csv get no list: 1 ('u3')" in stderr
    assert f"candidates=cand.csv: {key}s ignored, not in the queries: 1 ('u9')" in stderr
    assert "ids ignored, not items of the model: 1 ('zz')" in stderr
    assert (manifest["queries"], manifest["empty_lists"], sum(manifest["sources"].values())) == (3, 1, 2)
    assert "lists made: 2 by" in stderr
    assert "2 lists shorter than k=10: no more items may be recommended" in stderr
    assert manifest["short_lists"] == 2


@pytest.mark.slow
def test_users_without_interactions_omitted_by_queries_all_are_counted(llmrec, prepare_tiny):
    llmrec("prepare", *prepare_tiny, "split=cold_users", "output=new")
    llmrec("finetune", "prepared=new", "head=popularity", "refit=none", "run_dir=fit")
    done = llmrec("recommend", "model=fit", "queries=all", "history=fit", "output=lists.csv")
    manifest = json.loads(Path("lists.csv.manifest.json").read_text())
    assert (manifest["queries"] + manifest["users_left_out"], manifest["users_left_out"] > 0) == (60, True)
    assert f"{manifest['users_left_out']} users left out by queries=all: no interactions" in done.err


def test_new_users_with_items_that_the_model_does_not_know_are_counted_as_left_out(llmrec, lists):
    left_out = lists("queries=all")[3]["users_left_out"]
    write("new.csv", "user_id,item_id,value,timestamp", "fresh,brand_new,5,1700000000", "other,brand_new,5,1700000000",
          "third,i1,5,1700000001")
    prepared = llmrec("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=new.csv", "mode=append",
                      "dataset.item_text={title}", "dataset.min_value=4", "split=leave_last_out")
    assert prepared.code == 0, prepared.err
    result, _, stderr, manifest = lists("queries=all")
    assert ("third" in result, "fresh" in result, "other" in result) == (True, False, False)
    assert manifest["users_left_out"] == left_out + 2
    assert "2 new users left out by queries=all: no interaction with an item of the model; add the items with" in stderr
    file = write("today.csv", "user_id,item_id", "fresh,i1", "fourth,newest")
    result, _, stderr, manifest = lists("queries=all", f"interactions={file}")
    assert ("fresh" in result, "fourth" in result) == (True, False)
    assert manifest["users_left_out"] == left_out + 2


def test_if_no_query_gets_a_list_an_empty_file_is_reported(lists):
    result, _, stderr, manifest = lists(f"queries={write('q.csv', 'user_id', 'u1')}",
                                        f"candidates={write('cand.csv', 'user_id,item_id', 'u1,zz', 'u9,c1')}")
    assert "lists made: none, so the file has no rows" in stderr
    assert (result, manifest["empty_lists"]) == ({}, 1)


def test_candidates_by_a_column_that_the_queries_do_not_have_are_refused_by_its_name(llmrec, shop):
    write("q.csv", "query_id,user_id", "q1,u1", "q2,u2")
    write("cand.csv", "group_id,item_id", "u1,c0")
    done = llmrec("recommend", "model=ease", "queries=q.csv", "candidates=cand.csv")
    assert (done.code, "but the queries have no group_id; add group_id to the queries, or use query_id in the "
            "candidates; query_ids: 2 ('q1', 'q2')" in done.err) == (3, True)


def test_candidates_of_a_group_are_for_the_group(lists):
    write("q.jsonl", '{"group_id": "g", "members": ["u1", "u2"]}', '{"group_id": "h", "members": ["u3"]}')
    file = write("cand.jsonl", '{"group_id": "g", "negatives": ["c0", "c1"]}',
                 '{"group_id": "h", "negatives": "c2 c3"}')
    result = lists("queries=q.jsonl", f"candidates={file}")[0]
    assert {query: set(items) for query, items in result.items()} == {"g": {"c0", "c1"}, "h": {"c2", "c3"}}


@pytest.mark.parametrize(("header", "row", "message"), [
    ("item_id,price", "c0,3", "column 'price' has no effect on candidates"),
    ("userid,item_id", "u1,c0", "column 'userid' has no effect on candidates"),
    ("user_id,query_id,item_id", "u1,q,c0", "columns 'user_id' and 'query_id' both name the owner"),
    ("user_id,item_id", "u1,", "line 2: item_id is empty"), ("user_id,item_id", "nobody,c0", "none of the 1 queries")])
def test_contradictory_candidates_are_refused(llmrec, shop, header, row, message):
    done = llmrec("recommend", "model=ease", "query.user_id=u1", f"candidates={write('cand.csv', header, row)}")
    assert (done.code, message in done.err) == (3, True), done.err


def test_an_ineffective_column_of_interactions_is_refused_unless_prepare_uses_it(llmrec, shop):
    file = write("today.csv", "user_id,item_id,device", "u7,c1,phone")
    done = llmrec("recommend", "model=ease", "query.user_id=u7", f"interactions={file}")
    assert (done.code, "the column 'device' has no effect in interactions=" in done.err) == (3, True)
    shutil.copy(f"{DATA}/interactions.parquet", "slice.parquet")
    assert llmrec("recommend", "model=ease", "query.user_id=u7", "interactions=slice.parquet").code == 0


# Delisted items


def test_delisted_items_are_dropped_and_counted(lists):
    stderr = lists("queries=all", "k=50")[2]
    assert "items left out, not in the item file (removed, or not yet listed): 2 ('i5', 'i9'); " \
        "recommend.delisted=keep" in stderr
    shutil.rmtree("data")
    shutil.copytree("ease/model", "elsewhere/model")
    result, _, _, manifest = lists("queries=all", "k=50", model="elsewhere/model")
    assert not {item for items in result.values() for item in items} & set(GONE)
    assert manifest["delisted_items"] == 2


@pytest.mark.parametrize("setting", ["recommend.delisted=keep", "delisted=keep"])
def test_delisted_items_are_kept_on_demand(lists, setting):
    result, _, stderr, manifest = lists("queries=all", "k=50", setting)
    assert set(GONE) <= {item for items in result.values() for item in items}
    assert "not in the item file" not in stderr
    assert manifest["delisted_items"] == 0


def test_an_item_in_the_items_file_is_listed_again(lists):
    file = write("feed.csv", "item_id,title", "i5,Robot and Moon", "n1,Robot and Orbit")
    result, _, stderr, _ = lists("queries=all", "k=50", f"items={file}")
    assert "the model already knows 1 ('i5') of 2 items" in stderr
    assert "items left out, not in the item file (removed, or not yet listed): 1 ('i9')" in stderr
    assert {"i5", "n1"} <= {item for items in result.values() for item in items}


@pytest.mark.slow
def test_evaluate_ranks_delisted_items_and_counts_held_out_ones(llmrec, shop):
    done = llmrec("evaluate", "model=ease", "run_dir=report", "baselines=[]")
    assert done.code == 0
    held = sum(row["split"] == "test" and row["item_id"] in GONE
               for row in pq.read_table(f"{DATA}/interactions.parquet").to_pylist())
    assert held > 0
    protocol = json.loads(Path("report/metrics.json").read_text())["protocol"]
    assert protocol["num_delisted"] == held
    assert f"{held} of the 60 held-out interactions are with items that are not in the item file" in done.err


@pytest.mark.slow
def test_appending_keeps_items_in_the_catalogue_and_lists_those_in_a_file(llmrec, shop):
    append = ["prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=today.csv",
              "dataset.items=more.csv", "dataset.item_text={title}", "dataset.min_value=4", "split=leave_last_out",
              "mode=append"]
    write("today.csv", "user_id,item_id,value,timestamp", "u7,c1,5,1700000000", "u8,n1,5,1700000000")
    write("more.csv", "item_id,title,year,genres", "i5,Robot and Moon,1999,Comedy")
    done = llmrec(*append)
    assert done.code == 0
    unlisted = pq.read_table(f"{DATA}/unlisted_items.parquet")["item_id"].to_pylist()
    assert unlisted == ["i9", "n1"]
    assert "2 items of the interactions are not in the item files" in done.err


# Reasons


def test_reasons_for_users_without_support_are_refused(llmrec, lists):
    done = llmrec("recommend", "model=ease", "query.user_id=u1", "reasons=true")
    assert (done.code, "reasons=true: there are reasons for groups" in done.err) == (2, True)
    write("q.jsonl", '{"user_id": "u1"}', '{"query_id": "g", "members": ["u1", "u2"]}')
    _, rows, stderr, _ = lists("queries=q.jsonl", "reasons=true")
    assert "reasons: for groups only; 1 queries of users have none" in stderr
    assert all(row["reasons"] for row in rows if row["query_id"] == "g")
