"""Ids that are lists give a warning; names and compound ids do not."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.ingest.engine import engine, read_staged
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.texts.column_checks import list_warnings
from llmrec_cli.settings.engine import DuckDbSettings

LISTS = ["{0}0{1}{0}1{1}{0}2", "{0}1{1}{0}2{1}{0}3", "{0}2{1}{0}3{1}{0}0"]


def warned(folder: Path, ids: list[str], name: str = "x.csv") -> list[str]:
    pq.write_table(pa.table({"item_id": ids}), folder / "ids.parquet")
    with engine(DuckDbSettings(threads=1), folder) as connection:
        table = read_staged(connection, folder / "ids.parquet")
        return list(list_warnings("items", table, "item_id", [Source(Path(name))]))


@pytest.mark.parametrize(("prefix", "written", "separator"), [
    ("s", ", ", ","), ("商品s", "|", "|"), ("s", ";", ";"), ("s", " ", " "), ("10", ",", ",")])
def test_lists_in_id_columns_give_a_warning_with_the_setting_that_reads_them(
        tmp_path: Path, prefix: str, written: str, separator: str) -> None:
    ids = [text.format(prefix, written) for text in LISTS]
    [warning] = warned(tmp_path, [*ids, "s9"])
    name = "blanks" if separator == " " else f"'{separator}'"
    assert warning == (f"3 of the 4 items have {name} in their id ('{ids[0]}'); each may be a list but counts as "
                       f"one item; if so, set dataset.explode=item_id and dataset.list_separator='{separator}', which "
                       "turn each entry into a row")


def test_lists_of_different_lengths_are_lists_though_no_part_comes_again(tmp_path: Path) -> None:
    assert "have '|' in their id" in warned(tmp_path, ["a|b", "c|d|e"])[0]


@pytest.mark.parametrize("ids", [["Tolkien, John", "Lewis, Clive", "Lewis, John"], ["shirt|red", "shirt|blue"],
                                 ["The Matrix", "Matrix Reloaded", "Heat"], ["a|b", "c", "d", "e"], ["a", "b"]])
def test_names_titles_and_compound_ids_are_no_lists(tmp_path: Path, ids: list[str]) -> None:
    assert warned(tmp_path, ids) == []


@pytest.mark.parametrize(("ids", "name"), [(["[s0, s1]", "[s1, s2, s3]"], "x.csv"), (["s0,s1", "s1,s2,s3"], "x.jsonl")])
def test_lists_that_no_separator_reads_are_to_be_written_as_json(tmp_path: Path, ids: list[str], name: str) -> None:
    [warning] = warned(tmp_path, ids, name)
    assert warning.endswith('if so, write them as JSON arrays, ["a", "b"], and set dataset.explode=item_id')
