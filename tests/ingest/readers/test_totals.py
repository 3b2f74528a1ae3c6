"""Last rows of totals are left out and are no bad rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.totals import total_of
from llmrec_cli.settings.dataset import FilesSettings
from tests.ingest.preparing import Prepared, prepare_text, prepare_with, write

TOTAL = "is the last row, with totals"
HEADER = "no;user_id;item_id;day;value\n"
ROWS = "1;u;a;;2\n2;v;a;;1\n3;u;b;;1\n"


def rejects(prepared: Prepared) -> list[tuple[int, str, str]]:
    return [(row["line"], row["column"], row["reason"]) for row in prepared.rows("rejects")]


@pytest.mark.parametrize(("row", "name"), [
    ({"a": "Celkem", "n": "7 460,00 Kč"}, "Celkem"), ({"id": " Summe: ", "n": "4"}, "Summe:"), ({"n": "4,5"}, "4,5"),
    ({"n": "合计"}, "合计"), ({"id": "7", "n": "4"}, ""), ({"a": "Exported today", "n": "4"}, ""), ({"id": ""}, "")])
def test_rows_of_totals_have_numbers_and_a_name_only(row: dict[str, str], name: str) -> None:
    assert total_of(row, ["id"]) == name


@pytest.mark.parametrize("last", ["Celkem;;;;4", ";;;;4", "Celkem;;;;", "4;;Total;;", ";合计;;;4\n;;;;\n"])
def test_a_last_row_of_totals_is_left_out_named_and_not_bad(tmp_path: Path, last: str) -> None:
    prepared = prepare_text(tmp_path, HEADER + ROWS + last)
    assert rejects(prepared) == [(5, "", TOTAL)]
    assert (prepared.counts["read"], prepared.counts["rejected"], prepared.counts["interactions"]) == (4, 1, 3)
    assert [note for note in prepared.manifest["notes"] if "total" in note] == [
        f"the last row of {tmp_path}/clicks.csv is a total; left out, listed in rejects.parquet"]


@pytest.mark.parametrize(("more", "reason"), [
    ("Exported today;;;;\n", "user_id is empty"), ("4;w;;;4\n", "item_id is empty"),
    ("Celkem;;;;4\n4;w;a;;1\n", "user_id is empty"), ("Celkem;;;;4\nExported\n", "user_id is empty"),
    ("Celkem;;;;viz dole\n", "user_id is empty")])
def test_other_rows_without_ids_are_bad_rows(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        prepare_text(tmp_path, HEADER + ROWS + more)


def test_a_last_row_with_a_time_is_no_total(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="user_id is empty"):
        prepare_text(tmp_path, "user_id;item_id;timestamp\nu;a;1700000000\n;;1700000001\n")


def test_totals_of_several_files_are_one_note(tmp_path: Path) -> None:
    files = [str(write(tmp_path, HEADER + ROWS + "Celkem;;;;4\n", f"{n}.csv")) for n in range(2)]
    items = write(tmp_path, "item_id;title;price\na;Pot;1\n;Celkem;1\n", "items.csv")
    table = pa.table({"user_id": ["w", None], "item_id": ["a", None], "value": [1.5, 7.5]})
    pq.write_table(table, tmp_path / "x.parquet")
    prepared = prepare_with(tmp_path, FilesSettings(name="x", interactions=[*files, str(tmp_path / "x.parquet")],
                                                    items=str(items)))
    assert sorted(rejects(prepared)) == [(2, "", TOTAL), (3, "", TOTAL), (5, "", TOTAL), (5, "", TOTAL)]
    assert (prepared.counts["rejected"], prepared.counts["items_rejected"]) == (3, 1)
    assert [note for note in prepared.manifest["notes"] if "total" in note] == [
        f"files whose last row is a total: 4 ('{files[0]}', '{files[1]}', '{tmp_path}/x.parquet', ...); left out, "
        f"listed in rejects.parquet"]


def test_a_daily_file_with_a_total_is_appended(tmp_path: Path) -> None:
    def prepare_day(name: str, rows: str, mode: str) -> Prepared:
        file = str(write(tmp_path, f"Report;;;;\n;;;;\n{HEADER}{rows}Celkem;;;;4\n", name))
        return prepare_with(tmp_path, FilesSettings(name="x", interactions=file), mode=mode)

    prepare_day("1.csv", ROWS, "new")
    prepared = prepare_day("2.csv", "4;w;a;;3\n", "append")
    assert [(row["file"], row["line"]) for row in prepared.rows("rejects")] == [
        (f"{tmp_path}/1.csv", 7), (f"{tmp_path}/2.csv", 5)]
    assert (prepared.counts["earlier"], prepared.counts["rejected"], prepared.counts["interactions"]) == (3, 1, 4)
    assert f"the last row of {tmp_path}/2.csv is a total; left out, listed in rejects.parquet" in \
        prepared.manifest["notes"]
