"""Row counts, shape and texts of the audit, against numbers worked out by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from llmrec_cli.settings.split import GivenSettings, LeaveLastOutSettings, NoSplitSettings, RandomSettings
from tests.ingest.audit.folders import REJECTS, Row, audited, write_folder

DAY = 86_400_000
# Users u1 (3 rows), u2 (2) and u3 (only held out); items a (3), b (2), c (only held out).
ROWS: list[Row] = [("u1", "a", 5.0, 0, "train"), ("u1", "b", 3.0, 10 * DAY, "train"), ("u2", "a", 4.0, DAY, "train"),
                   ("u1", "c", 4.0, 20 * DAY, "valid"), ("u3", "a", 5.0, 59 * DAY, "test"),
                   ("u2", "b", 1.0, 60 * DAY - 1, "test")]


@pytest.mark.audited
def test_every_row_read_is_counted_exactly_once(tmp_path: Path) -> None:
    filtered = pa.table({"reason": ["below_core", "below_min_value", "below_core"]})
    folder = write_folder(tmp_path, ROWS, filtered=filtered, negatives=[("u1", "c", 0.0, 5, "train")])
    result, account = audited(folder, read=15, rejected=2, duplicates=3)
    assert result["rows"] == {"read": 15, "earlier": 0, "rejected": 2, "duplicates": 3, "filtered": 3, "negatives": 1,
                             "kept": 6, "train": 3, "valid": 1, "test": 2, "unaccounted": 0,
                             "filtered_by_reason": {"below_core": 2, "below_min_value": 1}}
    assert account.warnings == []


@pytest.mark.audited
def test_an_uncounted_row_gives_a_warning(tmp_path: Path) -> None:
    result, account = audited(write_folder(tmp_path, ROWS), read=10, rejected=1, below_core=2)
    assert (result["rows"]["filtered"], result["rows"]["unaccounted"]) == (2, 1)
    assert account.warnings[0].startswith("1 rows missing: 10 were read, but rejected, merged, filtered, negative and "
                                          "kept rows add up to 9")
    assert "4 rows too many" in audited(tmp_path, read=2)[1].warnings[0]


@pytest.mark.audited
def test_rejects_are_grouped_by_reason_without_quoted_values(tmp_path: Path) -> None:
    lines = [("a.csv", 1, "value", "'x' is not a number"), ("a.csv", 2, "value", "'it's 'q' is' is not a number"),
             ("b.csv", 3, "timestamp", "'now' is not a time in 's'"), ("b.csv", 4, "", "5 fields"),
             ("a.csv", 5, "value", "'two\nlines' is not a number")]
    rejects = pa.Table.from_pylist([dict(zip(REJECTS.names, line, strict=True)) for line in lines], REJECTS)
    result, _ = audited(write_folder(tmp_path, ROWS, rejects=rejects))
    assert result["rejects"] == {
        "total": 5, "by_file": [{"file": "a.csv", "rows": 3}, {"file": "b.csv", "rows": 2}],
        "by_reason": [{"column": "value", "reason": "'…' is not a number", "rows": 3},
                      {"column": "", "reason": "5 fields", "rows": 1},
                      {"column": "timestamp", "reason": "'…' is not a time in '…'", "rows": 1}]}


def test_interactions_and_cold_ids_of_the_splits_are_counted(tmp_path: Path) -> None:
    splits = audited(write_folder(tmp_path, ROWS), unit="ms")[0]["splits"]
    train, valid, test, whole = (splits[name] for name in ("train", "valid", "test", "all"))
    assert (train["interactions"], train["users"], train["items"], train["density"]) == (3, 2, 2, 0.75)
    assert (train["users_with_one_interaction"], whole["users_with_one_interaction"]) == (1, 1)
    assert (valid["cold_users"], valid["cold_items"], valid["cold_items_share"]) == (0, 1, 1.0)
    assert (test["cold_users"], test["cold_users_interactions"], test["cold_users_share"]) == (1, 1, 0.5)
    assert (whole["cold_users"], whole["cold_items"], whole["cold_users_share"]) == (1, 1, round(1 / 6, 6))
    assert whole["per_user"] == {"num": 3, "min": 1, "q1": 1, "median": 2, "q3": 3, "max": 3, "mean": 2.0}
    assert (train["first"], train["last"]) == ("1970-01-01T00:00:00Z", "1970-01-11T00:00:00Z")


def test_the_long_tail_is_that_of_training(tmp_path: Path) -> None:
    popularity = audited(write_folder(tmp_path, ROWS))[0]["popularity"]
    assert popularity["top"]["50"] == round(2 / 3, 6)
    assert [(p["item_id"], p["interactions"], p["share"]) for p in popularity["most_popular"]] == [
        ("a", 2, round(2 / 3, 6)), ("b", 1, round(1 / 3, 6))]


def test_sixty_days_give_sixty_bins(tmp_path: Path) -> None:
    time = audited(write_folder(tmp_path, ROWS), unit="ms")[0]["time"]
    assert len(time["edges"]) == 61
    assert time["edges"][1] == "1970-01-02T00:00:00Z"
    assert {split: [(n, c) for n, c in enumerate(time[split]) if c] for split in ("train", "valid", "test")} == {
        "train": [(0, 1), (1, 1), (10, 1)], "valid": [(20, 1)], "test": [(59, 2)]}


def test_an_order_is_shown_in_numbers_and_missing_times_are_left_out(tmp_path: Path) -> None:
    rows = [(user, item, value, n, split) for n, (user, item, value, _, split) in enumerate(ROWS)]
    result, _ = audited(write_folder(tmp_path, rows), unit="order")
    assert (result["splits"]["all"]["first"], result["splits"]["all"]["last"]) == (0, 5)
    assert result["time"]["edges"] == [0, 1, 2, 3, 4, 5, 6]
    result, _ = audited(tmp_path, unit="")
    assert result["time"] is None
    assert result["splits"]["all"]["first"] is None
    assert "training_after_cutoff" not in {c["name"] for c in result["leakage"]}


def test_few_values_are_counted_each_and_many_in_spans(tmp_path: Path) -> None:
    values = audited(write_folder(tmp_path, ROWS))[0]["values"]
    assert values == {"values": [1.0, 3.0, 4.0, 5.0], "edges": None, "train": [0, 1, 1, 1], "valid": [0, 0, 1, 0],
                      "test": [1, 0, 0, 1]}
    rows = [("u", f"i{n}", float(n), n, "train") for n in range(41)]
    values = audited(write_folder(tmp_path, rows))[0]["values"]
    assert values["edges"] == [2.0 * n for n in range(21)]
    assert values["train"] == [2] * 19 + [3]


@pytest.mark.audited
def test_texts_are_described(tmp_path: Path) -> None:
    items = [{"item_id": "a", "title": "Alien", "text": "Same text"}, {"item_id": "b", "text": "Same text"},
             {"item_id": "c", "title": "c", "text": "Солярис, 1972"}, {"item_id": "d", "text": ""}]
    result, account = audited(write_folder(tmp_path, ROWS, items))
    texts = result["texts"]["item"]
    assert (texts["num"], texts["empty"], texts["empty_share"], texts["title_is_id"]) == (4, 1, 0.25, 3)
    assert texts["lengths"] == {"num": 3, "min": 9, "q1": 9, "median": 9, "q3": 13, "max": 13, "mean": 10.3333}
    assert texts["longest"] == {"item_id": "c", "length": 13}
    assert texts["duplicated"] == {"num": 2, "share": round(2 / 3, 6), "texts": 1, "most": 2, "examples": [
        {"text": "Same text", "num": 2, "item_ids": ["a", "b"]}]}
    assert texts["scripts"]["dominant"] == {"Latin": 2, "Cyrillic": 1}
    assert result["texts"]["user"]["duplicated"] is None
    assert "2 items (67% of the items with a text) have the same text as another item" in account.notes


@pytest.mark.audited
def test_scripts_of_many_texts_are_looked_at_in_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"item_id": f"i{n:02}", "text": f"text {n}"} for n in range(30)]
    folder = write_folder(tmp_path, ROWS, items)
    monkeypatch.setattr("llmrec_cli.ingest.audit.texts.MOST_TEXTS", 10)
    scripts = audited(folder)[0]["texts"]["item"]["scripts"]
    assert (scripts["every"], scripts["looked_at"]) == (3, 10)


def test_groups_and_knowledge_are_counted(tmp_path: Path) -> None:
    groups = pa.table({"group": [0, 0, 1], "group_id": ["g", "g", "h"], "user": [0, 1, 1], "user_id": ["a", "b", "b"]})
    by_group = pa.table({"group": [0, 1], "item": [0, 0], "split": ["train", "test"]})
    triples = pa.table({"head": ["e1", "e1", "e2"], "relation": ["by", "in", "by"], "tail": ["p", "q", "p"]})
    links = pa.table({"item": [0, 1], "item_id": ["a", "b"], "entity_id": ["e1", "e9"]})
    result, _ = audited(write_folder(tmp_path, ROWS, groups=groups, group_interactions=by_group, triples=triples,
                                    links=links))
    assert result["groups"] == {"groups": 2, "members": 2, "memberships": 3, "interactions": {"train": 1, "valid": 0,
                               "test": 1}, "members_per_group": {"num": 2, "min": 1, "q1": 1, "median": 1, "q3": 2,
                                                                 "max": 2, "mean": 1.5}, "standing": 1, "occasional": 1,
                               "members_without_history": 0, "held_out_without_history": 0, "synthetic": ""}
    assert result["knowledge"] == {
        "triples": 3, "relations": 2, "entities": 4, "items_linked": 2, "items_linked_share": round(2 / 3, 6),
        "linked_without_triples": 1, "largest_relations": [{"relation": "by", "triples": 2},
                                                           {"relation": "in", "triples": 1}]}


@pytest.mark.audited
def test_probable_faults_give_warnings(tmp_path: Path) -> None:
    rows = [(f"u{n}", "empty", 1.0, 7, "train") for n in range(150)]
    rows += [(f"other{n}", f"i{n}", 1.0, 7, "test") for n in range(120)]
    items = [{"item_id": f"i{n}", "text": "No description"} for n in range(120)]
    _, account = audited(write_folder(tmp_path, rows, items), RandomSettings(), unit="s")
    output = "\n".join(account.warnings)
    for words in ("all 270 interactions have the same time (1970-01-01T00:00:00.007Z)",
                  "item 'empty' has 100% of the training interactions",
                  "100% of the held-out interactions have users that",
                  "100% of the held-out interactions have items that", "120 of 120 items have the same text",
                  "split 'valid' has no rows, so settings cannot be tuned on validation; give it a larger share"):
        assert words in output
    assert len(account.warnings) == 6


@pytest.mark.audited
@pytest.mark.parametrize(("users", "warned"), [(4, True), (40, False)])
def test_a_few_users_with_most_of_the_items_are_perhaps_no_users(tmp_path: Path, users: int, warned: bool) -> None:
    rows = [(f"u{user}", f"i{n}", 1.0, 86_400_000 + n, "test" if n > 49 else "valid" if n > 44 else "train")
            for user in range(users) for n in range(80) if n % 4]
    output = audited(write_folder(tmp_path, rows), unit="ms")[1].warnings
    assert [line for line in output if "average user" in line] == (
        ["there are 4 users, and the average user has 100% of the 60 items; check that dataset.columns.user_id is the "
         "right column"] if warned else [])


@pytest.mark.audited
@pytest.mark.parametrize(("first", "warned"), [(1_500_000_000, True), (86_400_000, False), (1_500_000_000_000, False)])
def test_seconds_that_are_read_as_milliseconds_are_seen(tmp_path: Path, first: int, warned: bool) -> None:
    rows = [(user, item, value, first + n, split) for n, (user, item, value, _, split) in enumerate(ROWS)]
    output = audited(write_folder(tmp_path, rows), unit="ms")[1].warnings
    assert [w for w in output if "January 1970" in w] == (
        ["all interactions are in January 1970 (1970-01-18T08:40:00Z to 1970-01-18T08:40:00.005Z), probably because "
         "seconds were read as milliseconds; see dataset.timestamp_unit"] if warned else [])


@pytest.mark.slow
@pytest.mark.audited
def test_small_clean_data_gives_no_warning(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ROWS)
    for split in (GivenSettings(), RandomSettings(), LeaveLastOutSettings(), NoSplitSettings()):
        assert audited(folder, split, unit="ms")[1].warnings == []


def test_the_audit_is_plain_json_and_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    first, _ = audited(write_folder(tmp_path, ROWS))
    second, _ = audited(write_folder(tmp_path, ROWS[::-1]))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert json.loads(json.dumps(first)) == first
