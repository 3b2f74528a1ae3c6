"""Candidates of users and of groups: rows of pairs, rows with negatives, and the files that AGREE published."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.candidates import read_candidates
from tests.ingest.preparing import write


def pairs_of(file: Path, who: str = "group") -> list[tuple[str, str]]:
    ids, items = read_candidates(str(file), who)
    return list(zip(ids.tolist(), items.tolist(), strict=True))


def test_a_row_is_a_candidate_and_ids_stay_the_text_they_are(tmp_path: Path) -> None:
    file = write(tmp_path, "user_id,item_id\nu,007\nu,7\nNA,b\n")
    assert pairs_of(file, "user") == [("u", "007"), ("u", "7"), ("NA", "b")]
    assert pairs_of(write(tmp_path, "group_id,item_id\ng,a\n", "g.csv")) == [("g", "a")]


NEGATIVES = [("g", "b"), ("g", "c"), ("h", "a")]


def test_a_row_may_have_all_negatives_of_a_held_out_pair_whose_own_item_is_not_one(tmp_path: Path) -> None:
    assert pairs_of(write(tmp_path, "group_id,item_id,negatives\ng,held,b c\nh,held, a \n", "1.csv")) == NEGATIVES
    assert pairs_of(write(tmp_path, 'group_id,negatives\ng,"[""b"", ""c""]"\nh,"[""a""]"\n', "2.csv")) == NEGATIVES
    rows = [{"group_id": "g", "item_id": "held", "negatives": ["b", "c"]}, {"group_id": "h", "negatives": ["a"]}]
    assert pairs_of(write(tmp_path, "\n".join(map(json.dumps, rows)) + "\n", "3.jsonl")) == NEGATIVES
    pq.write_table(pa.table({"group_id": ["g", "h"], "negatives": [["b", "c"], ["a"]]}), tmp_path / "4.parquet")
    assert pairs_of(tmp_path / "4.parquet") == NEGATIVES


def test_a_negative_whose_id_has_a_space_is_written_in_a_list(tmp_path: Path) -> None:
    assert pairs_of(write(tmp_path, '{"user_id": "u", "negatives": ["new york", "7"]}\n', "1.jsonl"), "user") == [
        ("u", "new york"), ("u", "7")]


def test_published_text_files_are_read_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path, "(4,759)\t283 323\n(5,602) 386\r\n\n", "groupRatingNegative.txt")
    assert pairs_of(file) == [("4", "283"), ("4", "323"), ("5", "386")]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("1.csv", "user_id,item_id\nu,a\n", r"1\.csv: no column 'group_id'; there are .* candidates of groups are rows of"),
    ("1.csv", "group_id,item\nu,a\n", r"no column 'item_id'; there are group_id, item; .*did you mean 'item'"),
    ("1.csv", "group_id,item_id\ng,a\n,b\n", r"1\.csv: line 3: group_id is empty; every row needs one"),
    ("1.csv", "group_id,item_id\ng,\n", r"1\.csv: line 2: item_id is empty"),
    ("1.csv", "group_id,negatives\ng,a\nh,\n", r"1\.csv: line 3: negatives is empty"),
    ("1.csv", "group_id,negatives\ng,[1 2]\n", r"1\.csv: line 2: negatives '\[1 2\]' is not a JSON list"),
    ("1.dat", "group_id;negatives\ng;[1, null]\n", r"line 2: negatives '\[1, null\]' is not a list of item ids alone"),
    ("1.txt", "(4,759)\t283\n4 759 283\n", r"1\.txt: line 2: '4 759 283' is not `\(id,item\) negative"),
    ("1.txt", "(4,759)\n", r"1\.txt: line 1: '\(4,759\)' is not"), ("1.txt", "", r"1\.txt: is empty")])
def test_a_file_that_is_none_is_refused_by_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_candidates(str(write(tmp_path, content, name)), "group")
