"""Formats of text files: what is detected is said, what is given is obeyed."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.sniffing import sniff
from llmrec_cli.ingest.readers.sources import TextFormat
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.formats import FormatSettings
from tests.ingest.preparing import prepare_with, source, write


def sniffed(folder: Path, content: str | bytes, name: str = "x.csv", **settings: Any) -> TextFormat:
    return sniff(source(folder, content, name, **settings))


def test_a_usual_file_has_nothing_to_say(tmp_path: Path) -> None:
    assert sniffed(tmp_path, "a,b\n1,2\n") == TextFormat()
    assert sniffed(tmp_path, "a\tb\n1\t2\n", "x.tsv") == TextFormat("\t")


@pytest.mark.parametrize(("text", "said"), [
    ("a;b\n1;2\n", "';' between fields"), ("a\tb\n1\t2,5\n", "tab between fields, decimal comma in b"),
    ("a|b\n1|2\n", "'|' between fields"),
    ("sep=;\na;b\n1;2\n", "';' between fields, 1 line before the header"),
    ("Sales 2024\n\na,b\n1,2\n", "2 lines before the header"),
    ("Bericht;;\nStand;14.03.2024;\n\nNr;Name;Preis\n1;x;4\n",
     "';' between fields, 3 lines before the header"),
    ("Report;;\n;;\nid;item;n\n1;x;2\n", "';' between fields, 2 lines before the header"),
    # A decimal comma in each row gives rows of two fields too.
    ("Orders\nid;item;price;day\n1;x;1,5;2\n2;y;2,5;3\n",
     "';' between fields, decimal comma in price, 1 line before the header"),
    ("a,b\n1,12\" disc\n", ""), ('a,b\n1,"12 x\n2,"13 x\n3,y\n', "no quotes around fields"),
    ('a,b\n1,"say \\"hi\\", now"\n', "\\ before quotes"),
    ("a;price\n1;4,50\n2;1.234,5\n3;7\n", "';' between fields, decimal comma in price"),
    ("a;b\n1;1,234\n", "';' between fields"), ("a;tags\n1;4,5\n2;1,2,3\n", "';' between fields"),
    ("a,year\n1,1999\n2,NULL\n", "NULL for a missing value in year"),
    ("a,value\n1,5\n2,NULL\n", ""),
    ("a,name\n1,x\n2,None\n", ""), ("a,name\n1,x\n2,\\N\n", "\\N for a missing value in name"),
    ("a;b\nx;[y, z]\n", "';' between fields"), ("item_id\n1\n2\n", ""), ("item_id\n1,2\n3,4\n", "")])
def test_what_is_detected_is_said(tmp_path: Path, text: str, said: str) -> None:
    assert ", ".join(sniffed(tmp_path, text).detected) == said


def test_what_is_given_is_obeyed_and_not_said(tmp_path: Path) -> None:
    found = sniffed(tmp_path, "x\na;b\n1;4,5\nNULL;NULL\n".encode("cp1252"), delimiter=",",
                    encoding="latin-1", quote="", escape="", decimal=".", skip_rows=0, null=["x"])
    assert found == TextFormat(",", "latin-1", "", "", 0, (), {"": ("x",)}, ())


def test_packed_json_lines_have_an_encoding_too(tmp_path: Path) -> None:
    packed = gzip.compress('{"标题": "三体：地球往事"}\n{"标题": "平凡的世界"}\n'.encode("gb18030"))
    assert sniffed(tmp_path, packed, "x.jsonl.gz").detected == ("gb18030",)


def test_an_uncertain_encoding_is_an_error_with_candidates_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.csv: line 2, byte 7 .*: 0xe9 is not utf-8, and the encoding is uncertain; "
                                        r"it may be windows-1252, .*; set dataset\.formats\.items\.encoding=windows"):
        sniffed(tmp_path, b"a,b\nu,\xe9\n"[:4] + b"u, \xe9\n", format_key="dataset.formats.items")


def test_detected_formats_are_printed_and_change_fields_but_no_ids(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Report\nitem_id;price;name\n1,5;4,50;a\nNULL;1.234,5;b\n7;NULL;4,5 stars\n"
    staged = stage([source(tmp_path, text)], tmp_path / "staged", ("item_id",), (), rest=True)
    rows = pq.read_table(staged.path)
    assert rows["line"].to_pylist() == [3, 4, 5]
    assert rows["c0"].to_pylist() == ["1,5", "NULL", "7"]
    assert rows["c1"].to_pylist() == ["4.50", "1234.5", ""]
    assert rows["c2"].to_pylist() == ["a", "b", "4,5 stars"]
    assert capsys.readouterr().err == (f"{tmp_path}/clicks.csv: ';' between fields, decimal comma in price, 1 line "
                                       "before the header, NULL for a missing value in price\n")


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f"])
def test_blanks_between_the_thousands_of_a_value_with_a_decimal_comma_are_read(tmp_path: Path, blank: str) -> None:
    text = f"user_id;item_id;value\nu;i;7{blank}460,00\nu;j;735,50\nv;i;1{blank}234{blank}567\n"
    staged = stage([source(tmp_path, text)], tmp_path / "staged", ("user_id", "item_id"), ("value",))
    assert pq.read_table(staged.path)["c2"].to_pylist() == ["7460.00", "735.50", "1234567"]


def test_given_null_texts_hold_for_ids_too(tmp_path: Path) -> None:
    staged = stage([source(tmp_path, "item_id,x\nNULL,n/a\na,b\n", null=["NULL", "n/a"])], tmp_path / "staged",
                   ("item_id",), (), rest=True)
    assert pq.read_table(staged.path)["c0"].to_pylist() == ["", "a"]


def test_formats_differ_by_file_and_are_in_the_manifest(tmp_path: Path) -> None:
    items = write(tmp_path, "Stand heute\nNr;Größe\ni1;4,5\ni2;5,5\n".encode("cp1252"), "items.csv")
    clicks = write(tmp_path, "user_id,item_id,value\nu,i1,1.5\nu,i2,2\n", "x.csv")
    prepared = prepare_with(tmp_path, FilesSettings(
        name="test", interactions=str(clicks), items=str(items), item_columns={"item_id": "Nr"},
        attributes={"Größe": "number"}, formats={"items": FormatSettings(encoding="windows-1252")}))
    assert prepared.manifest["formats"] == {
        str(items): "';' between fields, decimal comma in Größe, 1 line before the header"}
    assert [row["Größe"] for row in prepared.rows("items")] == ["4.5", "5.5"]
    assert prepared.column("interactions", "value") == [2.0, 1.5]
