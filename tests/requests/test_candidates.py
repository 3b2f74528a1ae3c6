"""Candidates from files: one list for all, rows of pairs, rows with negatives, and the files that AGREE published."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.requests.candidates import read_candidates
from tests.ingest.preparing import write


def lists_of(file: Path, *owners: str) -> list[tuple[str, str, list[str]]]:
    """Return owner, target and items of each list."""
    result = read_candidates(str(file), owners or ("group_id", "query_id"))
    items = np.split(result.items, result.offsets[1:-1])
    return [(one, target, list(own)) for one, target, own in zip(result.ids, result.targets, items, strict=True)]


def test_a_column_of_item_ids_alone_is_one_list_for_all(tmp_path: Path) -> None:
    assert lists_of(write(tmp_path, "item_id\n007\n7\n", "1.csv")) == [("", "", ["007", "7"])]
    assert lists_of(write(tmp_path, "007\n(new) york, n.y.\n", "2.txt")) == [("", "", ["007", "(new) york, n.y."])]


def test_each_row_is_a_candidate_with_its_id_unchanged(tmp_path: Path) -> None:
    file = write(tmp_path, "user_id,item_id\nu,007\nNA,b\nu,7\n")
    assert lists_of(file, "user_id") == [("u", "", ["007", "7"]), ("NA", "", ["b"])]
    for owner in ("group_id", "query_id"):
        assert lists_of(write(tmp_path, f"{owner},item_id\ng,a\n", "g.csv")) == [("g", "", ["a"])]


NEGATIVES = [("g", "held", ["b", "c"]), ("h", "", ["a"])]


def test_a_row_may_contain_the_held_out_item_and_all_its_negatives(tmp_path: Path) -> None:
    assert lists_of(write(tmp_path, "group_id,item_id,negatives\ng,held,b c\nh,, a \n", "1.csv")) == NEGATIVES
    rows = [{"group_id": "g", "item_id": "held", "negatives": ["b", "c"]}, {"group_id": "h", "negatives": ["a"]}]
    assert lists_of(write(tmp_path, "\n".join(map(json.dumps, rows)) + "\n", "3.jsonl")) == NEGATIVES
    without = [(one, "", items) for one, _, items in NEGATIVES]
    assert lists_of(write(tmp_path, 'group_id,negatives\ng,"[""b"", ""c""]"\nh,"[""a""]"\n', "2.csv")) == without
    pq.write_table(pa.table({"group_id": ["g", "h"], "negatives": [["b", "c"], ["a"]]}), tmp_path / "4.parquet")
    assert lists_of(tmp_path / "4.parquet") == without


def test_a_negative_whose_id_has_a_space_is_written_in_a_list(tmp_path: Path) -> None:
    assert lists_of(write(tmp_path, '{"user_id": "u", "negatives": ["new york", "7"]}\n', "1.jsonl"), "user_id") == [
        ("u", "", ["new york", "7"])]


def test_published_text_files_are_read_as_they_are_with_a_list_per_row(tmp_path: Path) -> None:
    file = write(tmp_path, "(4,759)\t283 323\n(4,602) 386\r\n\n", "groupRatingNegative.txt")
    assert lists_of(file) == [("4", "759", ["283", "323"]), ("4", "602", ["386"])]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("1.csv", "user_id,item_id\nu,a\n", r"1\.csv: column 'user_id' has no effect on candidates; columns are group_id, "
                                        r".*audience=users ranks for users"),
    ("1.csv", "group_id,item_id,rank\ng,a,1\n", r"1\.csv: column 'rank' has no effect on candidates"),
    ("1.csv", "item_id,score\na,1\n", r"1\.csv: column 'score' has no effect on candidates"),
    ("1.csv", "group_id,item\ng,a\n", r"column 'item' has no effect on candidates; .*did you mean 'item_id'"),
    ("1.csv", "group_id\ng\n", r"no column 'item_id'; there are group_id; candidates are rows of item_id"),
    ("1.csv", "negatives\na b\n", r"no column 'group_id'; there are negatives; negatives belong to one group"),
    ("1.csv", "group_id,query_id,item_id\ng,q,a\n", r"columns 'group_id' and 'query_id' both name the owner"),
    ("1.csv", "group_id,item_id\ng,a\n,b\n", r"1\.csv: line 3: group_id is empty; every row needs one"),
    ("1.csv", "group_id,item_id\ng,\n", r"1\.csv: line 2: item_id is empty"),
    ("1.csv", "group_id,negatives\ng,a\nh,\n", r"1\.csv: line 3: negatives is empty"),
    ("1.csv", "group_id,negatives\ng,a\nh,b\ng,c\n", r"1\.csv: line 4: group_id 'g' also has candidates in .*line 2, "
                                                     r"and this row does not name its held-out item"),
    ("1.csv", "group_id,item_id,negatives\ng,x,a\ng,,b\n", r"1\.csv: line 3: group_id 'g' also has candidates in"),
    ("1.csv", "group_id,item_id,negatives\ng,,a\ng,x,b\n", r"1\.csv: line 2: group_id 'g' also has candidates in"),
    ("1.csv", "group_id,negatives\ng,[1 2]\n", r"1\.csv: line 2: negatives '\[1 2\]' is not a JSON list"),
    ("1.dat", "group_id;negatives\ng;[1, null]\n",
     r"line 2: negatives '\[1, null\]' has entries that are not item ids"),
    ("1.txt", "(4,759)\t283\n4 759 283\n", r"1\.txt: line 2: '4 759 283' is not `\(id,item\) negative"),
    ("1.txt", "(4,759)\n", r"1\.txt: line 1: '\(4,759\)' is not"), ("1.txt", "", r"1\.txt: is empty")])
def test_an_invalid_candidates_file_is_refused_by_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_candidates(str(write(tmp_path, content, name)), ("group_id", "query_id"))
