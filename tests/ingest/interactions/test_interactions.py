"""Merging of duplicates, and filters of interactions."""

import json
from pathlib import Path

import pytest

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.split import LeaveLastOutSettings
from tests.ingest.preparing import HEADER, prepare_text, write
from tests.some_slow import some_slow

TWICE = HEADER + "u,a,5,300\nu,a,1,100\nu,a,2,300\nu,b,3,200\n"


@pytest.mark.parametrize(("policy", "kept"), some_slow([
    ("keep_last", (5.0, 300)), ("keep_first", (1.0, 100)), ("sum", (8.0, 300)), ("max", (5.0, 300))]))
def test_duplicates_become_one_by_policy_never_by_file_order(tmp_path: Path, policy: str,
                                                             kept: tuple[float, int]) -> None:
    lines = TWICE.splitlines()
    for n, rows in enumerate((lines[1:], lines[:0:-1])):
        prepared = prepare_text(tmp_path / str(n), "\n".join([lines[0], *rows]), duplicates=policy)
        assert [(r["value"], r["timestamp"]) for r in prepared.rows("interactions") if r["item_id"] == "a"] == [kept]
        assert prepared.counts["duplicates"] == 2


def test_duplicates_can_be_an_error_that_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clicks.csv: line 3: repeats user 'u' with item 'a', and"):
        prepare_text(tmp_path, TWICE, duplicates="error")


def test_the_last_opinion_counts_against_min_value_not_the_best(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, HEADER + "u,a,5,1\nu,a,2,2\nu,b,4,3\n", min_value=4)
    assert prepared.in_split("train") == {("u", "b")}
    assert (prepared.counts["duplicates"], prepared.counts["below_min_value"]) == (1, 1)


def test_the_core_is_found_by_going_on_until_nothing_changes(tmp_path: Path) -> None:
    # c has two users, but z goes for having one item; then c has one user and goes; then y has one item and goes.
    rows = "x,a\nx,b\nw,a\nw,b\ny,a\ny,c\nz,c\n"
    prepared = prepare_text(tmp_path, "user_id,item_id\n" + rows, min_user_interactions=2, min_item_interactions=2,
                            items="item_id\na\nb\nc\nd\n")
    assert prepared.in_split("train") == {("x", "a"), ("x", "b"), ("w", "a"), ("w", "b")}
    assert prepared.counts["below_core"] == 3
    assert prepared.column("items", "item_id") == ["a", "b"]


def test_no_remaining_interactions_is_an_error_with_the_counts_of_dropped_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no interaction is left for training: 4 rows were read, 0 rejected, 2 merged, "
                                        r"2 below dataset\.min_value"):
        prepare_text(tmp_path, TWICE, min_value=9)


def test_without_value_and_timestamp_every_interaction_counts_one(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, "user_id,item_id\nu,a\nu,a\n")
    assert [(r["value"], r["timestamp"]) for r in prepared.rows("interactions")] == [(1.0, 0)]
    assert prepared.manifest["timestamp_unit"] == ""
    assert prepared.manifest["data_cutoff"] is None


def test_what_is_no_number_is_rejected(tmp_path: Path) -> None:
    values = ["nan", "inf", "1e16", "", "0x10", "1_0", "5 stars"]
    rows = "".join(f"u,i{n},{value}\n" for n, value in enumerate(values))
    prepared = prepare_text(tmp_path, "user_id,item_id,value\nu,a,-1.5e3\n" + rows, max_reject_share=1.0,
                            min_value=-1e4)
    assert prepared.column("rejects", "reason") == [f"'{value}' is not a number" for value in values]
    assert prepared.column("interactions", "value") == [-1500.0]


@pytest.mark.slow
@pytest.mark.audited
def test_values_of_0_and_below_are_filtered_by_default_and_listed(tmp_path: Path) -> None:
    rows = HEADER + "u,a,2,1\nu,b,0,2\nu,c,-2,3\nv,a,2,1\nv,a,-2,9\nv,b,1,2\n"
    prepared = prepare_text(tmp_path, rows, LeaveLastOutSettings())
    assert {(r["user_id"], r["item_id"]) for r in prepared.rows("interactions")} == {("u", "a"), ("v", "b")}
    assert [(r["user_id"], r["item_id"], r["value"], r["reason"]) for r in prepared.rows("filtered")] == [
        ("u", "b", 0.0, "not_positive"), ("u", "c", -2.0, "not_positive"), ("v", "a", -2.0, "not_positive")]
    assert prepared.counts["not_positive"] == 3
    assert any(note.startswith("3 interactions have a value of 0 or below") for note in prepared.manifest["notes"])
    assert ("2 of these values are negative; if they are returns, dataset.duplicates=sum subtracts them from what the "
            "same user bought of the item") in prepared.manifest["notes"]
    for least, num in ((0.0, 3), (-5.0, 5)):
        prepared_ = prepare_text(tmp_path / str(num), rows, LeaveLastOutSettings(), min_value=least)
        assert len(prepared_.rows("interactions")) == num


def test_a_returned_purchase_is_relevant_only_if_its_sum_is_positive(tmp_path: Path) -> None:
    rows = HEADER + "u,a,2,1\nu,a,-2,2\nu,b,3,1\nu,b,-1,2\n"
    prepared = prepare_text(tmp_path, rows, duplicates="sum")
    assert [(r["item_id"], r["value"]) for r in prepared.rows("interactions")] == [("b", 2.0)]
    assert [(r["item_id"], r["value"], r["reason"]) for r in prepared.rows("filtered")] == [("a", 0.0, "not_positive")]


def test_dislikes_of_0_and_below_are_dislikes_with_explicit_feedback(tmp_path: Path) -> None:
    rows = HEADER + "u,a,5,1\nu,b,0,2\nu,c,-3,3\nv,b,5,1\nv,c,5,1\n"
    prepared = prepare_text(tmp_path, rows, feedback="explicit", min_value=4.0)
    assert [r["item_id"] for r in prepared.rows("negatives")] == ["b", "c"]
    assert prepared.counts["not_positive"] == 0


EVENTS = "user_id,item_id,event,timestamp\nu,a,view,1\nu,a,buy,2\nu,a,buy,3\nu,a,view,4\nu,b,view,1\n"


@pytest.mark.slow
@pytest.mark.audited
def test_with_event_weights_the_earliest_strongest_event_is_kept(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, EVENTS, event_weights={"view": 1.0, "buy": 5.0})
    assert [(r["item_id"], r["value"], r["event"], r["timestamp"]) for r in prepared.rows("interactions")] == [
        ("b", 1.0, "view", 1), ("a", 5.0, "buy", 2)]
    assert any("the row with the largest value is kept" in note for note in prepared.manifest["notes"])


def test_with_a_negative_event_weight_values_are_summed(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, EVENTS, event_weights={"view": 1.0, "buy": -2.0})
    assert [(r["item_id"], r["value"]) for r in prepared.rows("interactions")] == [("b", 1.0)]


@pytest.mark.audited
def test_rows_of_an_event_with_weight_0_are_dropped_and_counted_even_without_an_item_or_value(tmp_path: Path) -> None:
    rows = "user_id,item_id,event,value,timestamp\nu,a,play,1,1\nu,,open,1,2\nu,,open,,\nu,b,open,1,3\n,,open,x,4\n"
    prepared = prepare_text(tmp_path, rows, event_weights={"play": 1.0, "open": 0.0}, duplicates="error")
    assert prepared.in_split("train") == {("u", "a")}
    assert (prepared.counts["read"], prepared.counts["ignored_events"], prepared.counts["rejected"]) == (5, 4, 0)
    assert [(r["item_id"], r["reason"]) for r in prepared.rows("filtered")] == [("b", "event_without_weight")]
    rows_by_outcome = json.loads((prepared.folder / "audit.json").read_text("utf-8"))["rows"]
    assert (rows_by_outcome["filtered_by_reason"], rows_by_outcome["unaccounted"]) == ({"event_without_weight": 4}, 0)


def test_rows_of_other_events_are_still_rejected_without_an_item(tmp_path: Path) -> None:
    rows = "user_id,item_id,event\nu,a,play\nu,,play\nu,,open\nu,c,\n"
    prepared = prepare_text(tmp_path, rows, event_weights={"play": 1.0, "open": 0.0}, max_reject_share=0.5)
    assert [(r["line"], r["column"]) for r in prepared.rows("rejects")] == [(3, "item_id"), (5, "event")]
    assert (prepared.counts["ignored_events"], prepared.counts["duplicates"]) == (1, 0)


def test_an_event_of_the_weights_that_no_row_has_is_noted_with_the_nearest_that_occurs(tmp_path: Path) -> None:
    rows = "user_id,item_id,event\nu,a,like\nu,b,play\n"
    weights = {"play": 1.0, "like": 2.0, "likes": 2.0, "BUY": 5.0}
    assert [note for note in prepare_text(tmp_path, rows, event_weights=weights).manifest["notes"]
            if "event_weights" in note] == [
        "no row has the event 'likes' of dataset.event_weights; the nearest in the files is 'like'",
        "no row has the event 'BUY' of dataset.event_weights; there are 'like', 'play'"]


@pytest.mark.audited
def test_users_and_items_of_which_no_row_is_left_are_counted_and_named(tmp_path: Path) -> None:
    rows = HEADER + "u,a,1,1\nreturner,a,-1,1\nbad,a,x,1\nv,b,0,1\nv,a,1,1\nlisted,a,0,1\n"
    users = write(tmp_path, "user_id,city\nlisted,Ulm\n", "users.csv")
    prepared = prepare_text(tmp_path, rows, max_reject_share=0.5, users=str(users))
    notes = prepared.manifest["notes"]
    assert "2 users of the files of interactions are not in the data, since each of their rows was rejected or " \
        "filtered ('bad', 'returner')" in notes
    assert "1 users have no interactions left ('listed')" in notes
    assert "1 items of the files of interactions are not in the data, since each of their rows was rejected or " \
        "filtered ('b')" in notes
    assert (prepared.counts["users"], prepared.counts["users_gone"], prepared.counts["items_gone"]) == (3, 2, 1)


@pytest.mark.parametrize(("rows", "settings", "returned"), [
    ("u,a,1,1\nu,b,1,2\nu,a,-1,3\nu,c,0,4\nv,c,1,5\nv,a,1,6\n", {"duplicates": "sum"}, ["a", "c"]),
    ("u,a,1,1\nu,b,1,2\nu,a,-1,3\nu,c,0,4\nv,c,1,5\nv,a,1,6\n", {"duplicates": "keep_last"}, ["a"]),
    ("u,a,0,1\nv,a,1,1\nu,b,1,2\n", {"duplicates": "sum"}, None),
    ("u,a,-1,1\nv,a,5,1\nu,b,5,2\nu,c,3,4\nv,c,5,5\n", {"min_value": 4.0}, ["a"])])
def test_returned_items_are_written_apart(tmp_path: Path, rows: str, settings: dict[str, object],
                                          returned: list[str] | None) -> None:
    prepared = prepare_text(tmp_path, HEADER + rows, **settings)
    if returned is None:
        assert not (prepared.folder / "returned.parquet").exists()
        assert "returned" not in prepared.counts
        return
    assert [(r["user_id"], r["item_id"]) for r in prepared.rows("returned")] == [("u", name) for name in returned]
    assert prepared.counts["returned"] == len(returned)
    assert any(f"{len(returned)} of the filtered pairs of user and item are returns" in note
               for note in prepared.manifest["notes"])


def test_a_return_at_the_time_of_the_test_is_in_the_test(tmp_path: Path) -> None:
    rows = "u,a,1,1\nu,b,1,2\nu,c,1,4\nu,d,1,6\nu,x,-1,3\nu,y,-1,7\nv,x,1,1\nv,y,1,1\n"
    prepared = prepare_text(tmp_path, HEADER + rows, LeaveLastOutSettings())
    assert {r["item_id"]: r["split"] for r in prepared.rows("returned")} == {"x": "train", "y": "test"}


@pytest.mark.slow
def test_among_rows_at_one_time_the_last_depends_on_neither_value_nor_file(tmp_path: Path) -> None:
    rows = [f"u{n},a,{value},5" for n in range(60) for value in (1, 2)]
    first, other = (prepare_text(tmp_path / str(n), HEADER + "\n".join(lines)) for n, lines in
                    enumerate((rows, rows[::-1])))
    assert first.manifest["fingerprint"] == other.manifest["fingerprint"]
    assert 15 < sum(value == 1 for value in first.column("interactions", "value")) < 45


@pytest.mark.slow
@pytest.mark.audited
def test_dropped_ids_and_times_outside_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    rows = ("user_id,item_id,timestamp\nguest,a,2024-03-05\nu,test,2024-03-05\nu,a,2024-03-09T23:59:59\n"
            "u,b,2024-03-10\nu,c,2024-02-01\n")
    prepared = prepare_text(tmp_path, rows, items="item_id,title\na,A\ntest,T\n", drop_users=["guest", "nobody"],
                            drop_items=["test"], newest="2024-03-09", oldest="2024-03-01")
    assert prepared.in_split("train") == {("u", "a")}
    assert {r["reason"]: r["item_id"] for r in prepared.rows("filtered")} == {
        "dropped_user": "a", "dropped_item": "test", "after_newest": "b", "before_oldest": "c"}
    assert (prepared.counts["dropped_ids"], prepared.counts["outside_times"]) == (2, 2)
    assert prepared.column("items", "item_id") == ["a"]
    assert "dataset.drop_users has ids that are in no row: 'nobody'" in prepared.manifest["notes"]
    with pytest.raises(ConfigError, match=r"dataset\.newest=2024: has no effect on interactions without a column"):
        prepare_text(tmp_path / "2", "user_id,item_id\nu,a\n", newest="2024")


@pytest.mark.parametrize(("settings", "kind"), some_slow([
    ({}, "strength"), ({"min_value": 0.0}, "strength"), ({"min_value": 4.0}, "rating"),
    ({"feedback": "explicit", "min_value": 0.0}, "rating"), ({"duplicates": "sum", "min_value": 4.0}, "strength"),
    ({"event_weights": {"view": 1.0, "buy": 5.0}, "min_value": 1.0}, "event_weight"), ({"values": "rating"}, "rating"),
    ({"values": "strength", "min_value": 4.0}, "strength")], 3))
def test_the_manifest_says_what_values_are(tmp_path: Path, settings: dict[str, object], kind: str) -> None:
    rows = "user_id,item_id,value,event\nu,a,5,view\nu,b,4,buy\n"
    assert prepare_text(tmp_path, rows, **settings).manifest["values"] == kind
