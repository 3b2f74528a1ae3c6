"""CSV and TSV rows: rows that fit the header are text, others are rejected."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.csv_blocks import Block
from llmrec_cli.ingest.readers.delimited import open_delimited
from llmrec_cli.ingest.readers.sources import Record
from tests.ingest.preparing import source


def read(folder: Path, content: str, name: str = "x.csv", **settings: str) -> tuple[list[str], list[Record]]:
    file = open_delimited(source(folder, content, name, **settings))
    return file.names, one_by_one(file.rows(list(range(len(file.names)))))


def one_by_one(rows: Iterable[Block | Record]) -> list[Record]:
    """Return single rows and the rows of blocks, in order."""
    result: list[Record] = []
    for row in rows:
        if isinstance(row, Block):
            columns = [column.to_pylist() for column in row.columns]
            result += zip(row.lines.to_pylist(), map(list, zip(*columns, strict=True)), strict=True)
        else:
            result.append(row)
    return sorted(result, key=lambda row: row[0])


def test_every_field_is_text_as_it_was_written(tmp_path: Path) -> None:
    names, rows = read(tmp_path, "id,x\n007,NA\n7,null\n9007199254740993,\n1e3,None\n")
    assert names == ["id", "x"]
    assert rows == [(2, ["007", "NA"]), (3, ["7", "null"]), (4, ["9007199254740993", ""]), (5, ["1e3", "None"])]


def test_a_wider_row_is_named_and_the_rows_around_it_stay(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "a,b\n1,2\n3,4,5\n6,7\n")
    assert rows == [(2, ["1", "2"]), (3, "3 fields where the header has 2"), (4, ["6", "7"])]


def test_a_narrower_row_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1\n")[1] == [(2, "1 fields where the header has 2")]


def test_one_empty_trailing_field_is_not_wider_but_two_are(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1,2,\n3,4,,\n")[1] == [(2, ["1", "2"]), (3, "4 fields where the header has 2")]


def test_a_header_may_end_in_a_delimiter_too(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b,\n1,2,\n3,4\n") == (["a", "b"], [(2, ["1", "2"]), (3, ["3", "4"])])


def test_quotes_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    _, rows = read(tmp_path, 'a,b\n"x, y","say ""hi"""\n"one\ntwo",3\n4,5\n')
    assert rows == [(2, ["x, y", 'say "hi"']), (3, ["one\ntwo", "3"]), (5, ["4", "5"])]


def test_a_quote_that_is_never_closed_costs_one_line_not_the_rest(tmp_path: Path) -> None:
    _, rows = read(tmp_path, 'a,b\n1,"two\n3,4\n5,6\n')
    assert rows == [(2, "a quote that is misplaced or never closed"), (3, ["3", "4"]), (4, ["5", "6"])]


def test_a_file_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    assert read(tmp_path, 'a\tb\n"x\ty\n', "x.tsv", quote="")[1] == [(2, ['"x', "y"])]


def test_windows_line_ends_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\r\n1,2\r\n\r\n3,4")[1] == [(2, ["1", "2"]), (4, ["3", "4"])]


def test_rows_without_any_filled_field_are_empty_lines(tmp_path: Path) -> None:
    text = ";;;\nid;name;n\n;;\n1;x;2\n;;;\n\"\";\"\";\"\"\n;;0\n2;y;\n;\";;\";\n;;"
    assert read(tmp_path, text, delimiter=";")[1] == [
        (4, ["1", "x", "2"]), (7, ["", "", "0"]), (8, ["2", "y", ""]), (9, ["", ";;", ""])]
    assert read(tmp_path, "a;b\r\n;\r\n1;2\r\n;", delimiter=";")[1] == [(3, ["1", "2"])]


@pytest.mark.parametrize(("name", "delimiter"), [("x.dat", "\t"), ("x.txt", ";"), ("x", "|"), ("x.csv.dat", ",")])
def test_the_delimiter_is_the_most_frequent_one_in_the_header(tmp_path: Path, name: str, delimiter: str) -> None:
    assert read(tmp_path, f"a{delimiter}b c{delimiter}d\n", name)[0] == ["a", "b c", "d"]


def test_a_delimiter_can_be_named(tmp_path: Path) -> None:
    assert read(tmp_path, "a;b\n1;2\n", "x.csv", delimiter=";")[1] == [(2, ["1", "2"])]
    assert read(tmp_path, "a\tb\n", "x.csv", delimiter="\\t")[0] == ["a", "b"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    for content in ("", "\n\n"):
        with pytest.raises(DataError, match="is empty; it needs a header and rows"):
            read(tmp_path, content)


def test_an_unnamed_column_is_called_by_its_place(tmp_path: Path) -> None:
    assert read(tmp_path, ",user_id\n0,u\n")[0] == ["column1", "user_id"]


@pytest.mark.parametrize("again", ["UID,SKU,TS,QTY", "Uid,Sku,Ts,Qty", '"UID"," sku","ts","QTY"'])
def test_a_header_again_in_another_case_is_no_row(tmp_path: Path, again: str) -> None:
    _, rows = read(tmp_path, f"uid,sku,ts,qty\nu,a,1,2\n{again}\nv,b,3,4\n")
    assert rows == [(2, ["u", "a", "1", "2"]), (3, "is the header again"), (4, ["v", "b", "3", "4"])]


@pytest.mark.audited
@pytest.mark.parametrize("again", ["uid,sku,qty,ts", "UID,SKU,QTY,TS"])
@pytest.mark.parametrize("places", [[0, 1, 2, 3], [0, 1, 2], [0, 1, 3]])
def test_a_header_again_with_two_columns_swapped_is_refused_whichever_columns_are_read(
        tmp_path: Path, again: str, places: list[int]) -> None:
    file = open_delimited(source(tmp_path, f"uid,sku,ts,qty\nu,a,1,2\n{again}\nv,b,4,3\n", "x.csv"))
    with pytest.raises(DataError, match="line 3: repeats the header with the columns in another order"):
        one_by_one(file.rows(places))


def test_a_row_with_one_columns_name_in_all_fields_is_a_row(tmp_path: Path) -> None:
    _, rows = read(tmp_path, "user,item\nitem,item\nu,USER\nItem,x\n")
    assert rows == [(2, ["item", "item"]), (3, ["u", "USER"]), (4, ["Item", "x"])]
