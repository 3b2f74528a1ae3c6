"""Which of a pair's rows counts, and which rows are kept."""

from pathlib import Path

import pytest

from llmrec_cli.errors import DataError
from tests.ingest.preparing import HEADER, prepare_text

TWICE = HEADER + "u,a,5,300\nu,a,1,100\nu,a,2,300\nu,b,3,200\n"


@pytest.mark.parametrize(("policy", "kept"), [
    ("keep_last", (5.0, 300)), ("keep_first", (1.0, 100)), ("sum", (8.0, 300)), ("max", (5.0, 300))])
def test_duplicates_become_one_by_policy_never_by_file_order(tmp_path: Path, policy: str,
                                                             kept: tuple[float, int]) -> None:
    lines = TWICE.splitlines()
    for n, rows in enumerate((lines[1:], lines[:0:-1])):
        prepared = prepare_text(tmp_path / str(n), "\n".join([lines[0], *rows]), duplicates=policy)
        assert [(r["value"], r["timestamp"]) for r in prepared.rows("interactions") if r["item_id"] == "a"] == [kept]
        assert prepared.counts["duplicates"] == 2


def test_duplicates_can_be_an_error_that_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clicks.csv: line 3: user 'u' has an interaction with item 'a' already"):
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


def test_nothing_left_is_an_error_that_says_what_dropped_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no interaction is left to train on: 4 rows were read, 0 rejected, 2 merged, "
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
    prepared = prepare_text(tmp_path, "user_id,item_id,value\nu,a,-1.5e3\n" + rows, max_reject_share=1.0)
    assert prepared.column("rejects", "reason") == [f"'{value}' is not a number" for value in values]
    assert prepared.column("interactions", "value") == [-1500.0]
