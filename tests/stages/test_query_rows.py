"""Rows of a file: evaluate queries= ranks them as given, finetune validation= chooses on them."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

COUNTS = {"a": 6, "b": 5, "c": 4, "d": 3, "e": 2}
"""Interactions of each item: u1 has all five, u2 the first four, and so on, in this order."""


@pytest.fixture
def shop(llmrec) -> None:
    """A prepared shop without a split: the popularity of its items is a > b > c > d > e."""
    rows = [(f"u{user}", item, place) for place, (item, num) in enumerate(COUNTS.items())
            for user in range(1, num + 1)]
    Path("clicks.csv").write_text("user_id,item_id,timestamp\n" + "".join(
        f"{user},{item},{place}\n" for user, item, place in rows))
    done = llmrec("prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=clicks.csv",
                  "dataset.timestamp_unit=order", "split=none")
    assert done.code == 0, done.err


def write_rows(*rows: dict[str, object], file: str = "rows.jsonl") -> str:
    Path(file).write_text("".join(json.dumps({"query_id": f"q{n}", **row}) + "\n" for n, row in enumerate(rows)))
    return file


ROWS = ({"user_id": "u1", "history": ["a"], "relevant": ["b"]},
        {"user_id": "u1", "history": ["a", "b"], "relevant": ["c"]},
        {"user_id": "u9", "history": [], "relevant": ["a"]})


def measured(llmrec, *words: str) -> tuple[dict[str, object], str]:
    done = llmrec("evaluate", *words, "k=[3]", "baselines=[]", "num_bootstrap=100")
    assert done.code == 0, done.err
    return json.loads(Path("runs/evaluate/latest/metrics.json").read_text()), done.err + done.out


def test_each_row_is_ranked_as_given_and_intervals_are_by_user(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    content, output = measured(llmrec, f"queries={write_rows(*ROWS)}")
    # Popularity ranks a, b, c first: the relevant items are at ranks 2, 3 and 1.
    expected = [1 / math.log2(3), 0.5, 1.0]
    assert content["metrics"]["ndcg@3"]["mean"] == pytest.approx(np.mean(expected))
    assert content["by_query"]["popularity"]["ndcg@3"]["mean"] == pytest.approx((np.mean(expected[:2]) + 1) / 2)
    table = pq.read_table("runs/evaluate/latest/per_user.parquet").to_pylist()
    assert [(row["query_id"], row["owner_id"], row["history_length"]) for row in table] == [
        ("q0", "u1", 1), ("q1", "u1", 2), ("q2", "u9", 0)]
    assert [row["ndcg@3"] for row in table] == pytest.approx(expected)
    assert content["protocol"]["queries"]["ranked_by"] == {"history": 2, "popularity": 1}
    assert "3 rows of 2 users" in output
    assert "1 rows without a history or text that the model reads are ranked by popularity" in output
    assert "3 rows of 2 users in rows.jsonl, with 3 relevant items" in " ".join(
        Path("runs/evaluate/latest/report.html").read_text().split())


def test_seen_items_are_left_out_when_asked_for(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    content, _ = measured(llmrec, f"queries={write_rows(*ROWS)}", "exclude_seen=true")
    assert content["metrics"]["ndcg@3"]["mean"] == 1.0


def test_a_file_without_histories_uses_those_of_the_data(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    rows = write_rows({"user_id": "u4", "relevant": ["d"]}, {"user_id": "u3", "relevant": ["e"]},
                      {"user_id": "u2", "relevant": ["d"]})
    content, output = measured(llmrec, f"queries={rows}", "exclude_seen=true")
    # u4 has a, b and c, so d is first; u3 has a to d, so e is first. u2 has a to e.
    assert content["metrics"]["ndcg@3"]["mean"] == 1.0
    assert content["protocol"]["queries"]["ranked_by"] == {"model": 2}
    assert "1 of 3 rows left out: none of their relevant items may be recommended" in output


def test_what_is_not_ranked_as_given_is_counted_and_said(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    rows = write_rows({"history": ["a", "a", "zz"], "relevant": ["b", "b", "yy"]},
                      {"history": ["a"], "relevant": ["yy"]}, {"history": ["a", "b"], "relevant": ["b"]})
    content, output = measured(llmrec, f"queries={rows}")
    assert content["protocol"]["num_queries"] == 2
    for sentence in ("1 of 3 rows left out: none of their relevant items is an item of the data",
                     "2 relevant items ignored: not items of the data",
                     "1 relevant items are repeated in their row", "1 items of histories ignored",
                     "1 items are repeated in their history; each counts at its last place",
                     "1 relevant items are in their row's history and are ranked as given",
                     "2 rows "):
        assert sentence in output


@pytest.mark.parametrize(("rows", "said"), [
    ([{"history": ["a"]}], "no column 'relevant'"),
    ([{"history": ["a"], "relevant": []}], "line 1: relevant is empty"),
    ([{"history": ["a"], "relevant": ["zz"]}], "none of the 1 relevant items is an item of the data; the first is "
                                               "'zz'"),
    ([{"user_id": "u1", "relevant": ["a"]}, {"members": ["u1"], "relevant": ["a"]}],
     "line 2: is of a group, unlike the first row"),
    ([{"query_id": "same", "relevant": ["a"]}, {"query_id": "same", "relevant": ["b"]}], "query_id 'same'"),
    ([{"histroy": ["a"], "relevant": ["a"]}], "unknown column 'histroy' (did you mean 'history'?)")])
def test_a_file_that_cannot_be_evaluated_names_the_row(llmrec, shop, rows, said: str) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    done = llmrec("evaluate", f"queries={write_rows(*rows)}")
    assert (done.code, said in done.err) == (3, True), done.err


@pytest.mark.parametrize("joined", ["a b", "a, c"])
def test_ids_that_are_joined_in_a_csv_are_refused_with_the_right_spelling(llmrec, shop, joined: str) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    Path("rows.csv").write_text(f'history,relevant\n"{joined}",d\n')
    done = llmrec("evaluate", "queries=rows.csv")
    assert (done.code, f"line 2: history '{joined}' is several items; write a|{joined[-1]}" in done.err) == (3, True)


def test_a_cutoff_above_the_catalogue_is_said(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    done = llmrec("evaluate", f"queries={write_rows(*ROWS)}", "k=[3,10]")
    assert "k=10 is above the number of items, 5: the whole catalogue is on such a list" in done.err


@pytest.mark.parametrize(("words", "said"), [
    ("graded=true", "graded=true: has no effect"), ("split=valid", "split=valid: has no effect"),
    ("cold_users=true", "cold_users=true: cannot be combined"), ("knowledge=true", "knowledge=true: cannot")])
def test_settings_that_rows_make_meaningless_are_refused(llmrec, words: str, said: str) -> None:
    done = llmrec("evaluate", "queries=rows.jsonl", words)
    assert (done.code, said in done.err) == (2, True)


def test_what_cannot_be_ranked_as_a_protocol_says_or_chosen_on_is_refused(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    done = llmrec("evaluate", f"queries={write_rows({'user_id': 'u4', 'relevant': ['d']})}", "protocol=rows")
    assert (done.code, "rows.jsonl has no column history; add it, or leave out the protocol" in done.err) == (2, True)
    seen = write_rows({"history": ["a"], "relevant": ["a"]})
    done = llmrec("evaluate", f"queries={seen}", "exclude_seen=true")
    assert (done.code, "every relevant item is in the history of its row" in done.err) == (3, True)
    done = llmrec("finetune", "head=popularity", f"validation={write_rows({'text': 'red', 'relevant': ['a']})}")
    assert (done.code, "rows without one, such as rows of texts, cannot choose settings" in done.err) == (3, True)
    done = llmrec("finetune", "head=popularity", f"validation={write_rows({'members': ['u1'], 'relevant': ['a']})}")
    assert (done.code, "has rows of groups; choose on rows of users" in done.err) == (3, True)


def test_without_histories_in_the_file_fitted_relevant_items_are_named_too(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    rows = write_rows({"user_id": "u1", "relevant": ["a"]}, {"user_id": "u4", "relevant": ["e"]})
    assert "the model was fitted on 1 of the 2 relevant interactions of the rows" in measured(llmrec,
                                                                                             f"queries={rows}")[1]


def test_a_model_that_was_fitted_on_the_relevant_items_is_said_to_be(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    content, output = measured(llmrec, f"queries={write_rows(*ROWS)}")
    # u1 had b and c in training; what is in the history of a row is no leak.
    sentence = "the model was fitted on 2 of the 3 relevant interactions of the rows"
    assert sentence in content["suspicious"][0]
    assert sentence in output


def test_validation_rows_choose_without_what_came_after_them_and_the_refit_has_all(llmrec, shop) -> None:
    rows = write_rows({"user_id": "u1", "history": ["a", "b"], "relevant": ["c"]},
                      {"user_id": "u1", "history": ["a", "b", "c"], "relevant": ["d"]},
                      {"user_id": "u9", "history": ["a"], "relevant": ["b"]})
    done = llmrec("finetune", "head=popularity", f"validation={rows}", "monitor=ndcg@3")
    assert done.code == 0, done.err
    # c, d and e of u1 are left out: then a has 6 interactions, b 5, c 3, d 2, e 1; c is at rank 3, d at rank 4, b at 2.
    assert "17 training interactions" in done.err
    assert "3 rows of rows.jsonl; while they choose the settings, 3 interactions of their users" in done.err
    manifest = json.loads(Path("runs/finetune/latest/model/manifest.json").read_text())
    assert manifest["metrics"]["valid"]["ndcg@3"] == pytest.approx((0.5 + 0 + 1 / math.log2(3)) / 3)
    assert manifest["fitted_on"] == ["train", "valid"]
    assert manifest["validation"]["file"] == "rows.jsonl"
    assert len(manifest["validation"]["sha256"]) == 64
    content, output = measured(llmrec, f"queries={rows}")
    assert content["protocol"]["queries"]["rows"] == 3
    assert "the settings of the model were chosen on these very rows (rows.jsonl); measure on other rows" in output


def test_a_run_is_not_resumed_with_another_file_of_validation(llmrec, shop) -> None:
    from llmrec_cli.data.prepared import read_prepared
    from llmrec_cli.errors import ArtifactError
    from llmrec_cli.requests.relevant_rows import read_query_rows
    from llmrec_cli.run_dir import RunDir
    from llmrec_cli.stages.resuming import same_inputs

    data = read_prepared("data/prepared/shop")
    rows = read_query_rows(write_rows(*ROWS), "validation.queries", data.items)
    Path("run").mkdir()
    same_inputs(RunDir(Path("run")), data, {}, rows, resumed=False)
    same_inputs(RunDir(Path("run")), data, {}, rows, resumed=True)
    changed = read_query_rows(write_rows(*ROWS[:2]), "validation.queries", data.items)
    with pytest.raises(ArtifactError, match="the file of validation has changed"):
        same_inputs(RunDir(Path("run")), data, {}, changed, resumed=True)


def rows_of_test(folder: Path) -> str:
    """Write the test split of prepared data as rows: the history is everything before it."""
    by_user: dict[str, dict[str, list[str]]] = {}
    for row in pq.read_table(folder / "interactions.parquet").to_pylist():
        one = by_user.setdefault(row["user_id"], {"history": [], "relevant": []})
        one["relevant" if row["split"] == "test" else "history"].append(row["item_id"])
    return write_rows(*({"user_id": user, **one} for user, one in by_user.items()
                        if one["relevant"] and one["history"]))


@pytest.mark.parametrize("head", ["ease", "item_knn"])
def test_the_test_split_as_rows_gives_the_metrics_of_the_test_split(llmrec, tiny_prepared: Path, head: str) -> None:
    assert llmrec("finetune", f"head={head}", f"prepared={tiny_prepared}").code == 0
    usual, _ = measured(llmrec)
    rows, _ = measured(llmrec, f"queries={rows_of_test(tiny_prepared)}", "exclude_seen=true")
    for name in ("ndcg@3", "recall@3", "auc"):
        assert rows["metrics"][name]["mean"] == pytest.approx(usual["metrics"][name]["mean"], abs=1e-12)


def test_candidates_belong_to_the_rows(llmrec, shop) -> None:
    assert llmrec("finetune", "head=popularity").code == 0
    Path("candidates.csv").write_text("query_id,item_id\nq0,d\nq0,e\nq1,a\nq2,b\nq2,c\n")
    content, _ = measured(llmrec, f"queries={write_rows(*ROWS)}", "candidates=candidates.csv")
    # b before d and e; c behind a; a before b and c.
    assert content["metrics"]["ndcg@3"]["mean"] == pytest.approx((1 + 1 / math.log2(3) + 1) / 3)
    sampled, _ = measured(llmrec, "queries=rows.jsonl", "candidates=sampled:1")
    assert sampled["protocol"]["candidates"] == "sampled: 1 at random per query, plus the held-out items"


@pytest.mark.slow
def test_rows_of_groups_and_of_texts_are_ranked(llmrec, tiny_prepared: Path, tiny_encoder: Path) -> None:
    done = llmrec("finetune", "head=item_similarity", "encoder=hf", f"encoder.path={tiny_encoder}",
                  "encoder.max_length=32", f"prepared={tiny_prepared}")
    assert done.code == 0, done.err
    item, title = pq.read_table(tiny_prepared / "items.parquet", columns=["item_id", "title"]).to_pylist()[0].values()
    content, output = measured(llmrec, f"queries={write_rows({'text': title, 'relevant': [item]})}")
    assert content["protocol"]["queries"]["ranked_by"] == {"text": 1}
    assert "1 rows without a known history are ranked by their text" in output
    users = pq.read_table(tiny_prepared / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    content, _ = measured(llmrec, f"queries={write_rows({'members': users[:3], 'relevant': [item]})}")
    assert (content["protocol"]["audience"], content["protocol"]["queries"]["ranked_by"]) == ("groups", {"group": 1})
