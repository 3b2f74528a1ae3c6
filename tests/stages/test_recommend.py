"""The recommend stage: sources of the lists, files, printed lists and messages."""

import csv
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llmrec_cli import cli
from llmrec_cli.data.manifest import sha256
from llmrec_cli.errors import ConfigError, DataError, DivergedError, ResourceError
from llmrec_cli.report import lists
from llmrec_cli.requests import answers
from llmrec_cli.settings.base import Builder
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.recommend import RecommendConfig
from tests.tiny import NUM_COLD, NUM_ITEMS, NUM_USERS, write_tiny
from tests.tiny_models import save_tiny

COLUMNS = ["query_id", "user_id", "rank", "item_id", "score", "source", "title"]
# 20 scripts, right to left, emoji with a joiner, NFC and NFD, and what looks like numbers or nothing.
STRANGE = ["Ελληνικά", "русский", "հայերեն", "עברית", "العربية", "فارسی", "हिन्दी", "বাংলা", "ਪੰਜਾਬੀ", "ગુજરાતી",
           "தமிழ்",
           "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "සිංහල", "ไทย", "ລາວ", "မြန်မာ", "ქართული", "አማርኛ", "ខ្មែរ", "한국어", "日本語",
           "👩\u200d🚀", "caf\u00e9", "cafe\u0301", "007", "7", "NA", "null", "../x", "=1+1", "9007199254740993"]


def llmrec(*arguments: str) -> None:
    """Run a command in this process."""
    cli.run(list(arguments))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tiny data, prepared, and the models `knn` (no text) and `ease` (reads texts)."""
    folder = tmp_path_factory.mktemp("workshop")
    with chdir(folder):
        write_tiny(folder)
        save_tiny(folder / "encoder")
        llmrec("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=interactions.csv",
               "dataset.items=items.csv", "dataset.item_text={title} ({year}). {genres}",
               "dataset.attributes.genres=list", "dataset.min_value=4")
        llmrec("finetune", "head=item_knn", "run_dir=knn")
        llmrec("finetune", "head=ease", "head.features.text=6", "head.features.attributes=6", "encoder=hf",
               "encoder.path=encoder", "run_dir=ease", "head.l2=20", "encoder.max_length=16")
    return folder


@pytest.fixture(autouse=True)
def own_folder(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("knn", "ease"):
        (tmp_path / name).symlink_to(workshop / name)


def write(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return name


def recommend(model: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the rows that `llmrec recommend` writes to Parquet."""
    llmrec("recommend", f"model={model}", "device=cpu", "output=out.parquet", *arguments)
    table = pq.read_table("out.parquet")
    assert table.column_names == COLUMNS
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def by_query(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the items of each query, after checking that ranks count from 1 and scores never rise."""
    result: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        result.setdefault(row["query_id"], []).append(row)
    for listed in result.values():
        assert [row["rank"] for row in listed] == list(range(1, len(listed) + 1))
        assert all(a["score"] >= b["score"] for a, b in pairwise(listed))
    return {query: [row["item_id"] for row in listed] for query, listed in result.items()}


def sources(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["query_id"]: row["source"] for row in rows}


def liked(workshop: Path, user: str) -> set[str]:
    """Return the items of a user in training and validation."""
    rows = pq.read_table(workshop / "data/prepared/tiny/interactions.parquet").to_pylist()
    return {r["item_id"] for r in rows if r["user_id"] == user and r["split"] != "test"}


# queries=all


def test_everybody_with_a_history_gets_ten_unseen_items(workshop: Path) -> None:
    rows = recommend("knn", "queries=all")
    result = by_query(rows)
    assert len(result) == NUM_USERS
    assert {row["source"] for row in rows} == {"model"}
    assert all(row["query_id"] == row["user_id"] for row in rows)
    assert all(len(items) == 10 for items in result.values())
    assert not set(result["u3"]) & liked(workshop, "u3")


def test_seen_items_are_back_with_exclude_seen_false(workshop: Path) -> None:
    result = by_query(recommend("ease", "query.user_id=u3", "exclude_seen=false", "k=44"))
    assert liked(workshop, "u3") < set(result["u3"])
    assert len(result["u3"]) == NUM_ITEMS + NUM_COLD


def test_titles_stand_beside_ids() -> None:
    titles = {row["item_id"]: row["title"] for row in recommend("knn", "queries=all")}
    assert titles["i4"] == "Galaxy and Alien"


def test_the_block_size_changes_no_list() -> None:
    one, all_at_once = (recommend("ease", "queries=all", f"block_size={n}") for n in (1, 1000))
    assert by_query(one) == by_query(all_at_once)
    np.testing.assert_allclose([r["score"] for r in one], [r["score"] for r in all_at_once], rtol=1e-5)


def test_a_list_is_short_where_fewer_items_are_left_and_never_padded(workshop: Path) -> None:
    result = by_query(recommend("knn", "query.user_id=u3", "k=1000"))
    assert len(result["u3"]) == NUM_ITEMS + NUM_COLD - len(liked(workshop, "u3"))
    assert len(set(result["u3"])) == len(result["u3"])


# Routing


def test_each_query_uses_what_is_known_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    file = write("q.jsonl", {"query_id": "known", "user_id": "u3"},
                 {"query_id": "given", "history": ["i3", "xx", "i3"]},
                 {"query_id": "both", "user_id": "u3", "history": ["i2"]}, {"query_id": "words", "text": "robot moon"},
                 {"query_id": "nobody", "user_id": "who"}, {"query_id": "lost", "history": ["yy", "zz"]},
                 {"query_id": "mixed", "user_id": "u3", "text": "robot moon"})
    rows = recommend("ease", f"queries={file}")
    assert sources(rows) == {"known": "model", "given": "history", "both": "history", "words": "text",
                             "nobody": "popularity", "lost": "popularity", "mixed": "model"}
    stderr = capsys.readouterr().err
    assert "lists made: 2 by model, 2 by history, 1 by text, 2 by popularity" in stderr
    assert "history items ignored, unknown to the model: 3 ('xx', 'yy', 'zz')" in stderr
    manifest = json.loads(Path("out.parquet.manifest.json").read_text())
    assert manifest["sources"] == {"model": 2, "history": 2, "group": 0, "text": 1, "popularity": 2}
    assert manifest["unknown_history_items"] == 3
    result = by_query(rows)
    assert result["nobody"] == result["lost"]
    assert "i3" not in result["given"]
    assert result["mixed"] != result["known"]


def test_a_given_history_makes_the_list_of_a_known_user_with_that_history(workshop: Path) -> None:
    known = by_query(recommend("ease", "query.user_id=u5"))["u5"]
    history = [r["item_id"] for r in pq.read_table(workshop / "data/prepared/tiny/interactions.parquet").to_pylist()
               if r["user_id"] == "u5" and r["split"] != "test"]
    assert by_query(recommend("ease", f"query.history=[{','.join(history)}]"))["query"] == known


def test_popularity_is_the_order_of_the_models_own_counts(workshop: Path) -> None:
    rows = recommend("knn", "query.user_id=who", "k=5")
    counts: dict[str, int] = {}
    for r in pq.read_table(workshop / "data/prepared/tiny/interactions.parquet").to_pylist():
        counts[r["item_id"]] = counts.get(r["item_id"], 0) + (r["split"] != "test")
    assert [row["score"] for row in rows] == sorted(counts.values(), reverse=True)[:5]
    assert [counts[row["item_id"]] for row in rows] == [row["score"] for row in rows]


def test_text_queries_without_an_encoder_get_popularity_and_a_warning(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert sources(recommend("knn", "query.text=robots, please")) == {"query": "popularity"}
    stderr = capsys.readouterr().err
    assert "warning: 1 texts were not used, because head=item_knn has no text encoder" in stderr
    assert "two_tower" in stderr


def test_a_new_user_is_answered_by_the_text_that_the_users_file_has() -> None:
    users = write("users.jsonl", {"user_id": "fresh", "text": "robot moon"}, {"user_id": "u3", "text": "ignored"})
    rows = recommend("ease", "query.user_id=fresh", f"users={users}")
    assert sources(rows) == {"fresh": "text"}
    assert by_query(rows)["fresh"] == by_query(recommend("ease", "query.text=robot moon"))["query"]
    everybody = sources(recommend("ease", "queries=all", f"users={users}"))
    assert len(everybody) == NUM_USERS + 1
    assert everybody["fresh"] == "text"
    assert everybody["u3"] == "model"


class Stub:
    """A head that scores by fixed vectors: the history's items point at their neighbours, a text at its length."""

    supports_text_queries = True
    uses_user_profiles = False

    def __init__(self, history: float = 1.0, text: float = 1.0) -> None:
        self.history, self.text = history, text

    def score(self, queries: Any) -> torch.Tensor:
        return self.history * torch.from_numpy(np.roll(queries.history.toarray(), 1, axis=1))

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        return self.text * torch.stack([torch.arange(4.0) == len(text) for text in texts]).float()


def matched(*rows: tuple[list[int], str]) -> Any:
    import scipy.sparse as sp

    from llmrec_cli.data.queries import Queries

    names = np.array([f"q{n}" for n in range(len(rows))], object)
    history = sp.csr_array(np.array([[float(n in items) for n in range(4)] for items, _ in rows], np.float32))
    texts = np.array([text for _, text in rows], object)
    users = np.full(len(rows), -1)
    return Queries(names, names, users, history, history, texts, gave_history=np.diff(history.indptr) > 0)


POPULARITY = np.array([1, 2, 3, 9], np.float32)


def test_history_and_text_are_added_each_scaled_to_mean_0_and_deviation_1() -> None:
    scores, source, with_text = answers.score(Stub(history=1000.0, text=0.001), matched(([0], "aa")), POPULARITY)
    # One of four is 1 and the others 0: mean 1/4, deviation sqrt(3)/4, so sqrt(3) there and -1/sqrt(3) elsewhere.
    high, low = 3**0.5, -(3**-0.5)
    np.testing.assert_allclose(scores.numpy(), [[2 * low, high + low, high + low, 2 * low]], rtol=1e-5)
    assert list(source) == ["history"]
    assert list(with_text) == [True]


def test_a_history_or_text_with_equal_scores_counts_as_none() -> None:
    blocks = matched(([0], ""), ([0], "aa"), ([], "aa"))
    _, source, _ = answers.score(Stub(history=0.0), blocks, POPULARITY)
    assert list(source) == ["popularity", "text", "text"]
    scores, source, with_text = answers.score(Stub(text=0.0), blocks, POPULARITY)
    assert list(source) == ["history", "history", "popularity"]
    assert scores[2].tolist() == POPULARITY.tolist()
    assert not with_text.any()


def test_scores_that_are_not_finite_are_never_ranked() -> None:
    with pytest.raises(DivergedError, match="query 'q0' to 'q1'"):
        answers.score(Stub(history=float("nan")), matched(([0], ""), ([1], "")), POPULARITY)
    with pytest.raises(DivergedError, match="query 'q0'"):
        answers.score(Stub(text=float("inf")), matched(([], "aa")), POPULARITY)


# New items, candidates


def test_new_items_are_recommended_by_their_text_and_attributes() -> None:
    items = write("new.jsonl", {"item_id": "n1", "title": "Robot Moon", "year": 2001, "genres": "Science Fiction"},
                  {"item_id": "n2", "title": "Robot Orbit", "year": 2002, "genres": ["Science Fiction"]})
    result = by_query(recommend("ease", "query.user_id=u0", "k=100", f"items={items}"))["u0"]
    plain = by_query(recommend("ease", "query.user_id=u0", "k=100"))["u0"]
    assert {"n1", "n2"} <= set(result)
    assert [item for item in result if item not in ("n1", "n2")] == plain
    # u0 loves science fiction: before most of what is left.
    assert result.index("n1") < len(result) / 2
    # The encoder's weights are random, so only the text itself is surely like the text.
    words = "query.text=Robot Moon (2001). Science Fiction"
    assert by_query(recommend("ease", words, "k=20", f"items={items}"))["query"][0] == "n1"


def test_a_new_item_has_no_popularity_and_a_seen_one_is_excluded() -> None:
    items = write("new.jsonl", {"item_id": "n1", "title": "Robot Moon", "genres": "Science Fiction"})
    rows = recommend("knn", "query.history=[n1]", "k=100", f"items={items}")
    assert sources(rows) == {"query": "popularity"}
    assert "n1" not in by_query(rows)["query"]
    rows = recommend("knn", "query.user_id=who", "k=100", f"items={items}")
    assert next(row["score"] for row in rows if row["item_id"] == "n1") == 0


def test_only_candidates_are_recommended_and_a_list_may_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cold.txt").write_text("c0\nc1\nn1\n")
    items = write("new.jsonl", {"item_id": "n1", "title": "Robot Moon", "genres": "Science Fiction"})
    result = by_query(recommend("ease", "queries=all", "candidates=cold.txt", f"items={items}"))
    assert all(set(listed) == {"c0", "c1", "n1"} for listed in result.values())
    Path("one.csv").write_text("item_id\ni2\n")
    capsys.readouterr()
    assert recommend("ease", "query.history=[i2]", "candidates=one.csv") == []
    assert "1 queries without a list: they have seen every item" in capsys.readouterr().err


def test_candidates_that_are_nobodys_are_counted_and_the_known_ones_used(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.txt").write_text("i1\nx1\nx2\nx3\nx4\n")
    result = by_query(recommend("knn", "queries=all", "candidates=c.txt"))
    assert {item for listed in result.values() for item in listed} == {"i1"}
    assert "candidates=c.txt: ids ignored, not items of the model: 4 ('x1', 'x2', 'x3', ...)" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"c\.txt: line 2: 'x1' is not an item of the model.*on_unknown=error"):
        recommend("knn", "queries=all", "candidates=c.txt", "on_unknown=error")
    Path("none.txt").write_text("x1\nx2\n")
    with pytest.raises(DataError, match=r"none of the 2 ids is an item of the model: 2 \('x1', 'x2'\); check that"):
        recommend("knn", "queries=all", "candidates=none.txt")


# Files


def test_ids_and_titles_of_any_script_come_back_exactly(capfd: pytest.CaptureFixture[str]) -> None:
    items = write("new.jsonl", *({"item_id": name, "title": f"{name}\x1b[31m", "genres": "Comedy"} for name in STRANGE))
    queries = write("q.jsonl", *({"query_id": f"q{name}", "user_id": name} for name in STRANGE))
    Path("c.txt").write_text("".join(f"{name}\n" for name in STRANGE), "utf-8")
    shared = ("model=ease", f"queries={queries}", f"items={items}", "candidates=c.txt", "k=100", "device=cpu")
    for output in ("o.parquet", "o.jsonl", "o.csv"):
        llmrec("recommend", *shared, f"output={output}")
    with Path("o.csv").open(newline="", encoding="utf-8") as stream:
        from_csv = list(csv.DictReader(stream))
    from_parquet = pq.read_table("o.parquet").to_pylist()
    from_jsonl = [json.loads(line) for line in Path("o.jsonl").read_text("utf-8").splitlines()]
    for rows in (from_parquet, from_jsonl, from_csv):
        assert list(rows[0]) == COLUMNS
        assert {row["query_id"] for row in rows} == {f"q{name}" for name in STRANGE}
        assert {row["item_id"] for row in rows} == {row["user_id"] for row in rows} == set(STRANGE)
        assert [int(row["rank"]) for row in rows] == [row["rank"] for row in from_parquet]
        assert [np.float32(row["score"]) for row in rows] == [np.float32(row["score"]) for row in from_parquet]
    assert {row["title"] for row in from_jsonl} == {row["title"] for row in from_parquet}
    assert "\x1b" not in capfd.readouterr().err


def test_a_title_that_a_spreadsheet_would_run_is_quoted_in_csv_alone() -> None:
    items = write("new.jsonl", *({"item_id": f"{sign}n", "title": f"{sign}1+cmd", "genres": ""} for sign in "=+-@"))
    for output in ("o.csv", "o.jsonl"):
        llmrec("recommend", "model=ease", "query.text=robot", f"items={items}", "k=100", f"output={output}")
    with Path("o.csv").open(newline="") as stream:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(stream)}
    assert {titles[f"{sign}n"] for sign in "=+-@"} == {f"'{sign}1+cmd" for sign in "=+-@"}
    lossless = {row["title"] for row in map(json.loads, Path("o.jsonl").read_text().splitlines())}
    assert {f"{sign}1+cmd" for sign in "=+-@"} < lossless


FORMULAS = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "＝1", "'=1", "''+1", "'plain", "plain=1", "1-1", "'", "007"]


def unescaped(value: str) -> str:
    """Undo escape_formulas as docs/recommend.md says."""
    return re.sub("^'(?='*[=+\\-@\t\r\n＝＋－＠])", "", value)


def test_68_ids_are_escaped_in_csv_where_that_is_requested_and_come_back_as_they_were() -> None:
    items = write("new.jsonl", *({"item_id": name, "title": name, "genres": ""} for name in FORMULAS))
    queries = write("q.jsonl", *({"query_id": name, "user_id": name, "text": "robot"} for name in FORMULAS))
    result = {}
    for output, escape in (("plain.csv", "false"), ("escaped.csv", "true")):
        llmrec("recommend", "model=ease", f"queries={queries}", f"items={items}", "k=100", f"output={output}",
               f"output.escape_formulas={escape}")
        with Path(output).open(newline="", encoding="utf-8") as stream:
            result[escape] = list(csv.DictReader(stream))
        assert json.loads(Path(f"{output}.manifest.json").read_text())["escape_formulas"] == (escape == "true")
    assert {row["user_id"] for row in result["false"]} == set(FORMULAS) < {row["item_id"] for row in result["false"]}
    for plain, escaped in zip(result["false"], result["true"], strict=True):
        for column in ("query_id", "user_id", "item_id"):
            assert not re.match("[=+\\-@\t\r\n＝＋－＠]", escaped[column])
            assert unescaped(escaped[column]) == plain[column]
        assert {**escaped, **{column: plain[column] for column in ("query_id", "user_id", "item_id")}} == plain
    assert len({row["item_id"] for row in result["true"]}) == len({row["item_id"] for row in result["false"]})


@pytest.mark.parametrize("output", ["o.parquet", "o.jsonl", ""])
def test_escaping_is_refused_where_it_has_no_effect(output: str) -> None:
    with pytest.raises(ConfigError, match=r"output.escape_formulas=true: has no effect .*set output=<file>.csv"):
        llmrec("recommend", "model=ease", "query.text=robot", "output.escape_formulas=true", f"output={output}")


def test_an_output_option_file_can_be_chosen_by_name() -> None:
    plain = {"query": {"user_id": "u1"}, "output": "o.csv"}
    assert Builder(CONFIG_GROUPS).settings(RecommendConfig, plain).output.path == "o.csv"


def test_the_manifest_beside_the_lists_says_which_model_and_data_they_are_from(workshop: Path) -> None:
    recommend("knn", "queries=all", "k=3")
    manifest = json.loads(Path("out.parquet.manifest.json").read_text())
    model = json.loads((workshop / "knn/model/manifest.json").read_text())
    assert manifest["model_sha256"] == sha256(workshop / "knn/model/manifest.json")
    assert manifest["data_cutoff"] == model["data_cutoff"] > 1_600_000_000_000
    assert manifest["files"] == {"out.parquet": sha256(Path("out.parquet"))}
    assert (manifest["queries"], manifest["rows"], manifest["k"]) == (NUM_USERS, 3 * NUM_USERS, 3)
    run = json.loads(Path("runs/recommend/latest/manifest.json").read_text())
    assert run["model_sha256"] == manifest["model_sha256"]


def test_a_run_that_fails_half_way_leaves_the_lists_that_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    recommend("knn", "queries=all")
    before = {file.name: file.read_bytes() for file in Path().glob("out.*")}
    written = []

    def fail(self: Any, table: Any) -> None:
        written.append(len(table))
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(lists._Parquet, "write", fail)
    with pytest.raises(ResourceError, match=r"out\.parquet: cannot be written \(No space left"):
        recommend("knn", "queries=all", "k=3", "block_size=10")
    assert {file.name: file.read_bytes() for file in Path().glob("out.*")} == before
    assert not list(Path().glob(".out*"))


def test_a_reader_polling_while_lists_are_replaced_never_sees_a_torn_file() -> None:
    recommend("knn", "queries=all", "k=1")
    stop, seen, torn = threading.Event(), set(), []

    def poll() -> None:
        while not stop.is_set():
            try:
                # Opened once: by its name pyarrow opens it twice, for footer and rows, which may be two files.
                with Path("out.parquet").open("rb") as stream:
                    seen.add(len(pq.read_table(stream)))
            except Exception as error:
                torn.append(error)

    reader = threading.Thread(target=poll)
    reader.start()
    for k in (2, 3, 1):
        recommend("knn", "queries=all", f"k={k}", "block_size=7")
    stop.set()
    reader.join()
    assert torn == []
    assert seen <= {NUM_USERS, 2 * NUM_USERS, 3 * NUM_USERS}


# The terminal


def test_without_an_output_a_plain_table_is_printed_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    llmrec("recommend", "model=ease", "query.text=robot moon", "k=3")
    printed = capfd.readouterr().out
    assert printed.splitlines()[0] == "“robot moon”"
    assert "  text: from the query text" in printed
    assert re.search(r"1 +\S.* and .* +[ic]\d+ +\d\.\d{3}", printed)
    assert "\x1b" not in printed


def test_the_first_few_of_many_queries_are_printed_and_the_rest_counted(capfd: pytest.CaptureFixture[str]) -> None:
    llmrec("recommend", "model=knn", "queries=all", "k=2")
    printed = capfd.readouterr()
    assert printed.out.count("from the known history of the user or group") == 5
    assert "shown: 5 of 60 queries; output=<file>.parquet" in printed.err


def test_titles_ids_and_texts_cannot_act_on_a_terminal(capfd: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "[red]\x1b[2J\u202e\r\nhi"
    items = write("new.jsonl", {"item_id": f"n{evil}", "title": evil, "genres": "Comedy"})
    Path("c.csv").write_text('item_id\n"n' + evil + '"\n', newline="")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        llmrec("recommend", "model=ease", f"query.text={evil}", f"query.user_id={evil}", f"items={items}", "k=50")
        printed = capfd.readouterr().out
        assert "\u202e" not in printed
        assert "\x1b[2J" not in printed
        assert "[red]\\x1b" in printed
    assert "\x1b[1m" in printed


def test_a_closed_stdout_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    llmrec("recommend", "model=knn", "query.user_id=u1", "k=1")
    assert Path("runs/recommend/latest/manifest.json").is_file()


# Settings


@pytest.fixture
def problems() -> Iterator[Any]:
    def result(**settings: Any) -> str:
        builder = Builder(CONFIG_GROUPS)
        builder.settings(RecommendConfig, settings)
        return "; ".join(builder.problems)

    return result


def test_asking_for_nobody_says_what_to_set(problems: Any) -> None:
    assert "queries: missing; set queries=all" in problems()
    assert "queries: missing" in problems(query={"query_id": "a"})
    assert problems(queries="all") == problems(query={"text": "war"}) == problems(query={"history": ["1"]}) == ""
    assert "cannot be combined with query.text" in problems(queries="all", query={"text": "war"})
    assert "k=0: must be at least 1" in problems(queries="all", k=0)
    assert "must end in .parquet, .jsonl or .csv" in problems(queries="all", output="recs.txt")


def test_an_output_that_is_a_folder_is_refused() -> None:
    os.mkdir("folder.csv")
    with pytest.raises(ConfigError, match=r"output=folder\.csv: is a folder"):
        llmrec("recommend", "model=knn", "queries=all", "output=folder.csv")


def test_a_missing_model_says_what_to_run() -> None:
    with pytest.raises(ConfigError, match="run `llmrec finetune` first"):
        llmrec("recommend", "queries=all")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here that nobody may write into")
def test_lists_that_are_only_printed_need_no_folder_to_write_into(workshop: Path, monkeypatch: pytest.MonkeyPatch,
                                                                 capfd: pytest.CaptureFixture[str]) -> None:
    items = Path(write("new.jsonl", {"item_id": "n1", "title": "Robot and Moon", "genres": "Action"})).resolve()
    query = (f"model={workshop}/ease", f"items={items}", "query.text=robot", "k=5")
    llmrec("recommend", *query)
    expected = capfd.readouterr()
    assert "this run is not recorded" not in expected.err
    # Nobody can make a file there, root neither.
    monkeypatch.chdir("/proc")
    llmrec("recommend", *query)
    printed = capfd.readouterr()
    assert printed.out == expected.out != ""
    assert "note: this run is not recorded: runs: cannot be written" in printed.err
    assert "wrote" not in printed.err
    for wanted in (f"output={workshop}/lists.csv", "run_dir=runs/here"):
        with pytest.raises(ResourceError, match="cannot be written"):
            llmrec("recommend", *query, wanted)
    assert not (workshop / "lists.csv").exists()


def test_without_a_place_for_temporary_files_it_says_what_to_set(workshop: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    items = write("new.jsonl", {"item_id": "n1", "title": "Robot and Moon", "genres": ""})

    def refused(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    with pytest.raises(ResourceError, match=r"No usable temporary directory found .*; set TMPDIR=<folder>"):
        llmrec("recommend", "model=ease", f"items={items}", "query.text=robot", "k=5")
