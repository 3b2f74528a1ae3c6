"""Groups through all stages, as a user runs them: files in, a report and lists with reasons out."""

import csv
import json
from contextlib import chdir
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec_cli import cli
from llmrec_cli.errors import ConfigError, DataError
from tests.tiny import write_tiny

GROUPS = 16
ENTITY = "m.{}"


def llmrec(*arguments: str) -> None:
    """Run a command in this process."""
    cli.run(list(arguments))


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_groups(folder: Path) -> None:
    """Write groups of four users with one taste, their group interactions, and a graph with the genres.

    All members of group g15 are unknown to the other files, and one member of g14 is.
    """
    names = ["小组 0", *(f"g{n}" for n in range(1, GROUPS))]
    members = [[f"u{4 * ((3 * n + m) % 15) + n % 4}" for m in range(4)] for n in range(GROUPS)]
    members[14] = [*members[14][:2], "nobody"]
    members[15] = ["nobody", "no one"]
    write(folder / "groups.csv", ["group_id", "user_id"],
          [[name, user] for name, among in zip(names, members, strict=True) for user in among])
    chosen = [[f"i{4 * ((5 * n + k) % 10) + n % 4}" for k in range(4)] for n in range(GROUPS)]
    write(folder / "together.csv", ["group_id", "item_id"],
          [[name, item] for name, items in zip(names, chosen, strict=True) for item in items])
    write(folder / "links.csv", ["item_id", "entity_id"], [[f"i{n}", ENTITY.format(n)] for n in range(40)])
    write(folder / "triples.csv", ["head", "relation", "tail"],
          [[ENTITY.format(n), "film.director", f"director {n % 4}"] for n in range(40)])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with prepared groups, a model of them and its report."""
    folder = tmp_path_factory.mktemp("groups")
    with chdir(folder):
        write_tiny(folder)
        write_groups(folder)
        llmrec("prepare", "dataset=files", "dataset.name=tiny", "dataset.interactions=interactions.csv",
               "dataset.items=items.csv", "dataset.item_text={title} ({year}). {genres}", "dataset.min_value=4",
               "dataset.groups=groups.csv", "dataset.group_interactions=together.csv", "dataset.knowledge=triples.csv",
               "dataset.links=links.csv", "split.valid=0.2", "split.test=0.2")
        llmrec("finetune", "head=group_aggregate", "head.strategy=least_misery", "head.members.base.l2=20",
               "run_dir=model")
        llmrec("evaluate", "model=model", "run_dir=report", "k=[5,10]")
    return folder


@pytest.fixture(autouse=True)
def own_folder(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)


def lists(*arguments: str, model: str = "model") -> list[dict[str, object]]:
    """Return the rows that `recommend` writes."""
    llmrec("recommend", f"model={model}", "output=lists.jsonl", *arguments)
    return [json.loads(line) for line in Path("lists.jsonl").read_text("utf-8").splitlines()]


def told() -> dict[str, object]:
    result: dict[str, object] = json.loads(Path("lists.jsonl.manifest.json").read_text("utf-8"))
    return result


def items(rows: list[dict[str, object]], query: str) -> list[object]:
    return [row["item_id"] for row in rows if row["query_id"] == query]


@pytest.mark.slow
def test_a_group_model_is_measured_on_groups_slices_and_member_metrics() -> None:
    metrics = json.loads(Path("report/metrics.json").read_text("utf-8"))
    assert metrics["protocol"]["audience"] == "groups"
    assert 0 < metrics["protocol"]["num_queries"] <= GROUPS
    assert {"group:standing", "group:occasional", "group:members=all known", "item:tail"} <= metrics["slices"].keys()
    assert any(name.startswith("group:size=") for name in metrics["slices"])
    assert any(name.startswith("group:cohesion=") for name in metrics["slices"])
    values = metrics["metrics"]
    assert values["least_member_ndcg@10"]["mean"] <= values["member_ndcg@10"]["mean"] <= 1
    assert metrics["baselines"].keys() == {"popularity", "item_knn"}
    report = Path("report/report.html").read_text("utf-8")
    assert "小组" in report or "g1" in report
    assert "Example groups" in report
    assert "for each of 1" in report
    assert "of the users" not in report


@pytest.mark.slow
def test_the_same_model_can_be_measured_on_users() -> None:
    llmrec("evaluate", "model=model", "audience=users", "run_dir=users_report", "k=[5]")
    metrics = json.loads(Path("users_report/metrics.json").read_text("utf-8"))
    assert metrics["protocol"]["audience"] == "users"
    assert "user:few" in metrics["slices"]


def test_queries_all_covers_all_groups_and_excludes_seen_items() -> None:
    rows = lists("queries=all", "k=5")
    prepared = pq.read_table("data/prepared/tiny/group_interactions.parquet").to_pylist()
    had = {(row["group_id"], row["item_id"]) for row in prepared if row["split"] != "test"}
    assert {row["query_id"] for row in rows} == {row["group_id"] for row in prepared}
    assert not had & {(row["query_id"], row["item_id"]) for row in rows}
    assert {row["source"] for row in rows} == {"group"}
    assert told()["sources"]["group"] == len({row["query_id"] for row in rows})  # type: ignore[index]


def test_fault_44_an_unknown_group_gets_popular_items_with_that_source() -> None:
    rows = lists("query.group_id=unheard of", "k=3")
    assert [row["source"] for row in rows] == ["popularity"] * 3
    assert told()["unknown_members"] == 1


def test_fault_45_a_group_of_one_gets_that_users_list() -> None:
    Path("q.jsonl").write_text('{"query_id": "alone", "members": ["u1"]}\n{"query_id": "user", "user_id": "u1"}\n')
    rows = lists("queries=q.jsonl", "k=10", "exclude_seen=false")
    assert items(rows, "alone") == items(rows, "user")
    assert {row["query_id"]: row["source"] for row in rows} == {"alone": "group", "user": "model"}


def test_fault_46_unknown_members_are_ignored_and_counted_duplicates_are_one_and_all_unknown_is_the_cold_path() -> None:
    Path("q.jsonl").write_text('{"query_id": "two", "members": ["u1", "u2"]}\n'
                               '{"query_id": "more", "members": ["u2", "stranger", "u1", "u2", "nobody"]}\n'
                               '{"query_id": "none", "members": ["stranger"]}\n')
    rows = lists("queries=q.jsonl", "k=5")
    assert items(rows, "two") == items(rows, "more")
    assert {row["source"] for row in rows if row["query_id"] == "none"} == {"popularity"}
    # Each is counted once, however many groups have it; "nobody" is in the file of groups, so it is a user
    # without interactions.
    assert told()["unknown_members"] == 1
    assert told()["members_without_history"] == 1
    assert told()["sources"] == {"model": 0, "history": 0, "group": 2, "text": 0, "popularity": 1}


def test_reasons_name_members_contributions_compromises_and_graph_paths() -> None:
    Path("q.jsonl").write_text('{"query_id": "g", "members": ["u0", "u4", "u1"]}\n')
    rows = lists("queries=q.jsonl", "k=10", "reasons=true")
    reasons = [reason for row in rows for reason in row["reasons"]]  # type: ignore[attr-defined]
    assert {one["id"] for one in reasons if one["kind"] == "member"} == {"u0", "u4", "u1"}
    paths = [one for one in reasons if one["kind"] == "knowledge"]
    assert any("film.director director 0" in one["text"] and "of 3 members had" in one["text"] for one in paths)
    # u0 and u4 like genre 0 and u1 genre 1: no list suits all three, so some member is compromised.
    compromised = [one for one in reasons if one["kind"] == "compromised"]
    assert compromised
    assert all(one["amount"] < 0.5 for one in compromised)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_reasons_are_in_files_of_every_kind(suffix: str) -> None:
    llmrec("recommend", "model=model", "query.group_id=g1", "reasons=true", "k=3", f"output=why.{suffix}")
    if suffix == "csv":
        with Path("why.csv").open(encoding="utf-8", newline="") as stream:
            result = [json.loads(row["reasons"]) for row in csv.DictReader(stream)]
    else:
        result = pq.read_table("why.parquet")["reasons"].to_pylist()
    assert [bool(one) for one in result] == [True] * 3
    assert {"kind", "id", "amount", "text"} == result[0][0].keys()


def test_reasons_are_shown_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    llmrec("recommend", "model=model", "query.group_id=小组 0", "reasons=true", "k=2")
    out = capsys.readouterr().out
    assert "小组 0 · group of u" in out
    assert "joint history of the group" in out


def test_any_head_can_be_chosen_for_groups() -> None:
    llmrec("finetune", "head=item_knn", "audience=groups", "run_dir=knn")
    assert {row["source"] for row in lists("query.members=[u1,u2]", "k=3", model="knn")} == {"group"}


@pytest.mark.slow
def test_groups_are_refused_where_the_data_has_none() -> None:
    llmrec("prepare", "dataset=files", "dataset.name=plain", "dataset.interactions=interactions.csv")
    with pytest.raises(DataError, match=r"audience=groups, and the data has no groups; .*dataset\.groups"):
        llmrec("finetune", "prepared=data/prepared/plain", "head=group_aggregate")


@pytest.mark.parametrize(("argument", "message"), [
    ("head.strategy=consensus", "strategy=consensus: choose one of average"),
    ("head.depth=5", "depth=5: has no effect with strategy=average"),
    ("head.members.base.head=fusion", "a fusion cannot be a member of a fusion"), ("audience=group", "audience=group")])
def test_settings_of_groups_without_sense_are_refused(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        llmrec("finetune", "head=group_aggregate", argument)


def test_a_query_for_a_user_and_a_group_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"query\.user_id=u1: cannot be combined"):
        llmrec("recommend", "query.user_id=u1", "query.members=[u2]")
