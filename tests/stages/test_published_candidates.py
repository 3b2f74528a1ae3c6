"""Candidates as papers publish them, through the command line: a row, its held-out item and its own negatives.

The rows are made up in the shape of CAMRa2011 (Cao et al. 2018): five test rows a group, a hundred negatives each,
among them items that the group has in training and items that another row of the group holds out.
"""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from llmrec_cli import cli
from llmrec_cli.errors import ConfigError, DataError

pytestmark = pytest.mark.slow

GROUPS, ITEMS, TESTS, NEGATIVES = 40, 400, 5, 100
Row = tuple[str, str, list[str]]


def write_camra(folder: Path) -> None:
    """Write a folder in the format of AGREE. Every group has its own member; one user has seen all items."""
    rng = np.random.default_rng(3)
    weight = 1 / (np.arange(ITEMS) + 5.0)
    texts: dict[str, list[str]] = {name: [] for name in (
        "groupMember", "groupRatingTrain", "groupRatingTest", "userRatingTrain", "userRatingTest",
        "groupRatingNegative")}
    texts["userRatingTrain"] = [f"collector i{n} 80" for n in range(ITEMS)]
    for group in range(GROUPS):
        texts["groupMember"].append(f"g{group} u{group}")
        chosen = rng.choice(ITEMS, 30 + TESTS, replace=False, p=weight / weight.sum())
        test, train = chosen[:TESTS], chosen[TESTS:]
        for item in train:
            texts["groupRatingTrain"].append(f"g{group} i{item} 80")
            texts["userRatingTrain"].append(f"u{group} i{item} 80")
        # As in the published files, one of the test pairs is in training too.
        texts["groupRatingTrain"].append(f"g{group} i{test[0]} 80")
        texts["userRatingTest"].append(f"u{group} i{test[1]} 80")
        for item in test:
            texts["groupRatingTest"].append(f"g{group} i{item} 80")
            others = np.setdiff1d(np.arange(ITEMS), [item])
            negatives = [f"i{n}" for n in rng.choice(others, NEGATIVES, replace=False)]
            texts["groupRatingNegative"].append(f"(g{group},i{item})\t" + " ".join(negatives))
    folder.mkdir()
    for name, rows in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def llmrec(*arguments: str) -> None:
    cli.run(list(arguments))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the published files, prepared data and a popularity model for groups."""
    folder = tmp_path_factory.mktemp("camra")
    with chdir(folder):
        write_camra(folder / "published")
        llmrec("prepare", "experiment=camra2011", "dataset.path=published")
        llmrec("finetune", "experiment=camra2011", "head=popularity", "audience=groups", "run_dir=model")
    return folder


@pytest.fixture(autouse=True)
def own_folder(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)


def evaluate(name: str, *arguments: str) -> dict[str, Any]:
    llmrec("evaluate", "experiment=camra2011", "model=model", "audience=groups", "baselines=[]", f"run_dir={name}",
           "num_bootstrap=200", *arguments)
    result: dict[str, Any] = json.loads(Path(name, "metrics.json").read_text())
    return result


def published() -> list[Row]:
    """Return the rows of groupRatingNegative.txt, read by hand."""
    rows = []
    for line in Path("published/groupRatingNegative.txt").read_text().splitlines():
        pair, negatives = line.split("\t")
        group, item = pair[1:-1].split(",")
        rows.append((group, item, negatives.split()))
    return rows


def training() -> list[tuple[str, str]]:
    lines = Path("published/groupRatingTrain.txt").read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


def popularity_hits(rows: list[Row], k: int) -> list[float]:
    """Return hit@k of each row by popularity among groups, in expectation over the order of ties."""
    counts: dict[str, int] = {}
    for _, item in training():
        counts[item] = counts.get(item, 0) + 1
    result = []
    for _, item, negatives in rows:
        ours, theirs = counts.get(item, 0), [counts.get(other, 0) for other in negatives]
        above, tied = sum(n > ours for n in theirs), sum(n == ours for n in theirs)
        result.append(min(1.0, max(0.0, (k - above) / (tied + 1))))
    return result


def test_popularity_has_the_hits_that_the_published_protocol_gives_it() -> None:
    metrics = evaluate("rows", "candidates=published/groupRatingNegative.txt")
    rows = published()
    for k in (5, 10):
        hits = popularity_hits(rows, k)
        assert metrics["metrics"][f"hit@{k}"]["mean"] == pytest.approx(np.mean(hits), abs=1e-9)
        by_group: dict[str, list[float]] = {}
        for (group, _, _), hit in zip(rows, hits, strict=True):
            by_group.setdefault(group, []).append(hit)
        expected = np.mean([np.mean(own) for own in by_group.values()])
        assert metrics["by_query"]["popularity"][f"hit@{k}"]["mean"] == pytest.approx(expected, abs=1e-9)
    protocol = metrics["protocol"]
    assert (protocol["num_rows"], protocol["num_queries"]) == (GROUPS * TESTS, GROUPS)
    assert protocol["candidates"] == ("sampled: 100 given per row (groupRatingNegative.txt), plus the row's held-out "
                                      "item")


def test_candidates_are_ranked_as_given_unless_asked_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    rows, seen = published(), set(training())
    negatives = sum((group, item) in seen for group, _, items in rows for item in items)
    assert negatives > 100
    counts = evaluate("given", "candidates=published/groupRatingNegative.txt")["protocol"]
    assert counts["exclude_seen"] is False
    assert (counts["candidate_counts"]["seen"], counts["candidate_counts"]["seen_left_out"]) == (negatives, 0)
    assert counts["candidate_counts"]["seen_held_out"] == GROUPS
    stderr = capsys.readouterr().err
    assert f"{negatives:,} candidates are in their user's or group's history and are ranked" in stderr
    metrics = evaluate("dropped", "candidates=published/groupRatingNegative.txt", "exclude_seen=true")
    protocol = metrics["protocol"]
    assert protocol["exclude_seen"] is True
    # The rows whose own item is in training go too.
    assert protocol["num_rows"] == GROUPS * (TESTS - 1)
    kept = [(group, item, [n for n in items if (group, n) not in seen])
            for group, item, items in rows if (group, item) not in seen]
    assert protocol["candidate_counts"]["seen_left_out"] == sum(
        (group, n) in seen for group, item, items in rows if (group, item) not in seen for n in items)
    assert metrics["metrics"]["hit@5"]["mean"] == pytest.approx(np.mean(popularity_hits(kept, 5)), abs=1e-9)
    assert "are excluded (exclude_seen=true)" in capsys.readouterr().err


def test_repeated_unknown_and_target_candidates_are_counted_and_not_ranked(
        capsys: pytest.CaptureFixture[str]) -> None:
    rows = published()[:10]
    lines = [f"({group},{item})\t{' '.join([*items, *more])}"
             for (group, item, items), more in zip(rows, [[rows[0][1]], [rows[1][2][0]] * 2, ["nothing"], *[[]] * 7],
                                                   strict=True)]
    lines += ["(nobody,i1)\ti2 i3", f"({rows[0][0]},nothing)\ti2", f"({rows[0][0]},{rows[0][1]})\tunknown"]
    Path("changed.txt").write_text("\n".join(lines) + "\n")
    metrics = evaluate("changed", "candidates=changed.txt")
    assert metrics["protocol"]["num_rows"] == 10
    counts = metrics["protocol"]["candidate_counts"]
    assert counts == {"file": "changed.txt", "candidates": 1008, "unknown_items": 2, "lists": 13, "least_per_list": 1,
                      "most_per_list": 102, "repeated": 2, "lists_of_unknown_groups": 1, "lists_without_candidates": 1,
                      "equal_to_target": 1, "lists_repeated": 1, "lists_not_held_out": 1,
                      "held_out_without_list": GROUPS * TESTS - 10, "seen": counts["seen"], "seen_left_out": 0,
                      "seen_held_out": 2}
    assert metrics["metrics"]["hit@5"]["mean"] == pytest.approx(np.mean(popularity_hits(rows, 5)), abs=1e-9)
    stderr = capsys.readouterr().err
    for part in ("candidates=changed.txt: 2 of 1,008 candidates ignored: not items of the data",
                 "2 candidates are repeated in their list", "1 candidates equal the held-out item of their row",
                 "1 lists ignored: unknown group", "1 rows ignored: their interaction is not in the "
                 "evaluated split", f"{GROUPS * TESTS - 10} held-out interactions not evaluated: no row in the file"):
        assert part in stderr


def test_tables_and_report_name_the_user_or_group_of_each_row() -> None:
    evaluate("tables", "candidates=published/groupRatingNegative.txt")
    rows = published()
    per_row = pq.read_table("tables/per_user.parquet").to_pylist()
    assert {(row["owner_id"], row["item_id"]) for row in per_row} == {(group, item) for group, item, _ in rows}
    assert len({row["query_id"] for row in per_row}) == len(per_row) == GROUPS * TESTS
    allowed = {f"{group} [{n}]": {item, *items} for n, (group, item, items) in enumerate(rows, start=1)}
    lists = pq.read_table("tables/recommendations.parquet").to_pylist()
    assert all(row["item_id"] in allowed[row["query_id"]] for row in lists)
    assert all(row["query_id"].startswith(row["owner_id"] + " [") for row in lists)
    page = Path("tables/report.html").read_text("utf-8")
    for part in ("for each of 200 rows of 40 groups", "These are means over rows. With equal weight for every group, "
                 "ndcg@", "200, each with a list of its own"):
        assert part in page


def test_intervals_are_over_groups_so_repeated_rows_do_not_narrow_them() -> None:
    rows = published()[::TESTS]
    for name, times in (("once", 1), ("fivefold", 5)):
        lines = [f"({group},{item})\t{' '.join(items)}" for group, item, items in rows for _ in range(times)]
        Path(f"{name}.txt").write_text("\n".join(lines) + "\n")
    once, fivefold = (evaluate(name, f"candidates={name}.txt") for name in ("once", "fivefold"))
    assert fivefold["protocol"]["num_rows"] == 5 * once["protocol"]["num_rows"]
    for name in ("hit@5", "ndcg@10"):
        assert fivefold["metrics"][name]["ci95"] == pytest.approx(once["metrics"][name]["ci95"], abs=1e-6)
        assert fivefold["by_query"]["popularity"][name]["ci95"] == pytest.approx(once["metrics"][name]["ci95"],
                                                                                abs=1e-6)


def test_a_file_of_item_ids_is_one_list_for_all_as_in_recommend() -> None:
    items = [f"i{n}" for n in range(0, ITEMS, 4)]
    Path("ids.csv").write_text("\n".join(["item_id", *items, "unknown"]) + "\n")
    Path("ids.txt").write_text("\n".join([*items, "unknown"]) + "\n")
    metrics = evaluate("shared", "candidates=ids.csv")
    protocol = metrics["protocol"]
    assert protocol["candidates"] == "given: 100 items (ids.csv)"
    assert (protocol["num_candidates"], protocol["exclude_seen"], "num_rows" in protocol) == (100, False, False)
    held = [(group, item) for group, item, _ in published()]
    assert protocol["candidate_counts"]["held_out_not_candidates"] == sum(item not in items for _, item in held)
    assert protocol["candidate_counts"]["unknown_items"] == 1
    assert protocol["num_queries"] == len({group for group, item in held if item in items})
    lists = pq.read_table("shared/recommendations.parquet").to_pylist()
    assert {row["item_id"] for row in lists} <= {*items}
    assert evaluate("text", "candidates=ids.txt")["metrics"] == metrics["metrics"]


def test_rows_of_pairs_are_one_list_a_group_by_group_id_or_query_id(capsys: pytest.CaptureFixture[str]) -> None:
    held: dict[str, list[str]] = {}
    for group, item, _ in published():
        held.setdefault(group, []).append(item)
    pairs = [(group, f"i{n}") for group in held if group != "g7" for n in range(10)]
    pairs += [(group, item) for group, items in held.items() if group != "g7" for item in items[1:]
              if (group, item) not in pairs]
    result = []
    for column in ("group_id", "query_id"):
        Path(f"{column}.csv").write_text("\n".join([f"{column},item_id", *(f"{g},{i}" for g, i in pairs)]) + "\n")
        result.append(evaluate(column, f"candidates={column}.csv"))
    assert result[0]["metrics"] == result[1]["metrics"]
    protocol = result[0]["protocol"]
    assert "by_query" not in result[0]
    assert protocol["candidates"].startswith("sampled: ")
    assert protocol["num_queries"] == GROUPS - 1
    assert protocol["candidate_counts"]["groups_without_list"] == 1
    assert protocol["candidate_counts"]["held_out_added"] == sum(
        int(items[0][1:]) >= 10 for group, items in held.items() if group != "g7")
    assert "1 groups with held-out interactions not evaluated: no candidates" in capsys.readouterr().err


def test_a_candidates_file_unrelated_to_the_data_is_refused() -> None:
    Path("items.csv").write_text("item_id\nx\ny\n")
    Path("groups.csv").write_text("group_id,item_id\nu0,i1\n")
    Path("held.csv").write_text("group_id,item_id,negatives\ng0,i399,i1 i2\n")
    Path("column.csv").write_text("user_id,item_id\nu0,i1\n")
    for name, message in (("items", "none of the 2 item_ids is in .*; the first is 'x'"),
                          ("groups", "none of the 1 group_ids is a group of .*; the first is 'u0'.*audience=users"),
                          ("held", "none of the 1 rows has an interaction of the evaluated split.*set split="),
                          ("column", "column 'user_id' has no effect on candidates.*audience=users")):
        with pytest.raises((ConfigError, DataError), match=message):
            evaluate(f"refused-{name}", f"candidates={name}.csv")


@pytest.mark.parametrize("model", ["model", "without_tensors"])
def test_rows_about_test_interactions_are_refused_with_knowledge_before_a_model_is_loaded(model: str) -> None:
    damaged = shutil.copytree("model", "without_tensors", dirs_exist_ok=True)
    Path(damaged, "model/model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"^candidates=published/groupRatingNegative.txt: cannot be combined with "
                                          r"knowledge=true, because each row of the file is about one interaction of "
                                          r"split=test, and knowledge=true measures on validation; leave out one"):
        evaluate(f"refused-{len(model)}", "candidates=published/groupRatingNegative.txt", "knowledge=true",
                 f"model={model}")
    with pytest.raises(ConfigError, match=r"candidates=nowhere\.txt: no such file"):
        evaluate(f"nowhere-{len(model)}", "candidates=nowhere.txt", "knowledge=true")


def test_rows_without_a_held_out_item_are_not_refused_with_knowledge() -> None:
    Path("anyone.csv").write_text("item_id\n" + "".join(f"i{n}\n" for n in range(50)))
    with pytest.raises(DataError) as refused:  # The data has no knowledge graph.
        evaluate("with-knowledge", "candidates=anyone.csv", "knowledge=true")
    assert "cannot be combined" not in str(refused.value)
