"""Typical user files through the whole stage: rows read, rows rejected, files refused."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.readers.sources import find
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.formats import FormatSettings
from tests.ingest.preparing import HEADER, prepare_text, prepare_with, source, write

IDS = ["007", "7", "NA", "null", "None", "nan", "9007199254740993", "9007199254740992", "1e3", " 7", "Ünïcode", "é",
       "e\u0301", "用户", "مستخدم", "🎬", "a,b", 'say "hi"', "../x", "=1+1", "<b>", "two\nlines"]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_ids_that_look_like_numbers_or_nothing_stay_apart_and_unchanged(tmp_path: Path) -> None:
    rows = "".join(f"{quoted(name)},i{n}\n" for n, name in enumerate(IDS))
    prepared = prepare_text(tmp_path, "user_id,item_id\n" + rows)
    assert sorted(prepared.column("users", "user_id")) == sorted(IDS)
    assert {(r["user_id"], r["item_id"]) for r in prepared.rows("interactions")} == \
        {(name, f"i{n}") for n, name in enumerate(IDS)}


@pytest.mark.slow
@pytest.mark.audited
def test_the_same_rows_in_any_format_give_the_same_data(tmp_path: Path) -> None:
    rows = [("u1", "007", 3, 1_600_000_000), ("u2", "7", 4, 1_600_000_001), ("u1", "NA", 5, 1_600_000_002)]
    csv = HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)
    names = HEADER.strip().split(",")
    jsonl = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    parquet = pa.BufferOutputStream()
    columns = list(zip(*rows, strict=True))
    pq.write_table(pa.table(dict(zip(names, [pa.array(c) for c in columns], strict=True))), parquet)
    files = {"x.csv": csv.encode(), "x.tsv": csv.replace(",", "\t").encode(), "x.dat": csv.replace(",", "|").encode(),
             "x.csv.gz": gzip.compress(csv.encode()), "x.jsonl": jsonl.encode(),
             "x.jsonl.zst": pa.compress(jsonl.encode(), "zstd", asbytes=True),
             "x.parquet": parquet.getvalue().to_pybytes(), "bom.csv": b"\xef\xbb\xbf" + csv.encode()}
    prepared = [prepare_text(tmp_path / name, content, name=name) for name, content in files.items()]
    assert len({p.manifest["fingerprint"] for p in prepared}) == 1


def test_parquet_ids_as_integers_are_text_and_as_floats_are_refused(tmp_path: Path) -> None:
    table = pa.table({"user_id": pa.array([2**53 + 1, 7], pa.int64()), "item_id": ["a", "b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    prepared = prepare_with(tmp_path, FilesSettings(interactions="x.parquet"))
    assert prepared.column("users", "user_id") == ["7", "9007199254740993"]
    pq.write_table(table.set_column(0, "user_id", pa.array([1.0, None])), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="the id column 'user_id' holds floating point numbers"):
        prepare_with(tmp_path, FilesSettings(interactions="x.parquet"))


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"] * 1000, "item_id": [f"i{n}" for n in range(1000)]})
    pq.write_table(table, tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    with pytest.raises(DataError, match=r"x\.parquet: is not an intact Parquet file"):
        prepare_text(tmp_path, content[:-20], name="x.parquet")


def test_bad_rows_are_listed_with_file_line_column_and_reason(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, HEADER + "u,a,1,1600000000\nu,b,1,1600000000,9\nu,c\n,d,1,1600000000\n"
                                               "u,,1,1600000000\nu,e,high,1600000000\nu,f,1,-5\nu,g,1,nan\n",
                            max_reject_share=0.9, timestamp_unit="s")
    assert [(r["line"], r["column"], r["reason"]) for r in prepared.rows("rejects")] == [
        (3, "", "5 fields where the header has 4"), (4, "", "2 fields where the header has 4"),
        (5, "user_id", "is empty"), (6, "item_id", "is empty"), (7, "value", "'high' is not a number"),
        (8, "timestamp", "'-5' is not a time in 's', or is before 1970 or after 2100"),
        (9, "timestamp", "'nan' is not a time in 's', or is before 1970 or after 2100")]
    assert set(prepared.column("rejects", "file")) == {str(tmp_path / "clicks.csv")}
    assert (prepared.counts["read"], prepared.counts["rejected"], prepared.counts["train"]) == (8, 7, 1)


def test_more_bad_rows_than_allowed_stop_the_run_with_the_remedy(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n}\n" for n in range(18)) + "u,x,y\n,z\n"
    with pytest.raises(DataError) as caught:
        prepare_text(tmp_path, "user_id,item_id\n" + rows)
    assert str(caught.value) == (
        f"{tmp_path}/clicks.csv: 2 of 20 rows (10.00%) are bad, more than dataset.max_reject_share=0.001 allows. The "
        "first ones:\n  line 20: 3 fields where the header has 2\n  line 21: user_id is empty\n1 of them: 3 fields "
        "where the header has 2; probably a setting is wrong and not the rows: compare the format with the file: "
        "dataset.formats.interactions.delimiter, quote, escape and skip_rows")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("content", "message"), [
    ("", "is empty; it needs a header and rows"),
    ("user_id,item_id\n", "has a header but no rows"),
    ("user,item_id\nu,i\n", r"no column 'user_id'; there are 'user', 'item_id'; map it with "
                            r"dataset\.columns\.user_id=<name> \(did you mean 'user'\?\)"),
    ("user_id,item_id,item_id\nu,i,i\n", "two columns are called 'item_id'"),
    ("user_id,item_id\nu,\xe9\n".encode("latin-1"), "line 2, byte 18 .* is not utf-8, and the encoding is uncertain; "
                                                "it may be windows-1252, windows-1253, .*; set "
                                                "dataset.formats.interactions.encoding=windows-1252")])
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_text(tmp_path, content)


def test_a_mapped_column_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'tiem'; .*columns\.timestamp=<name> \(did you mean 'time'\?\)"):
        prepare_text(tmp_path, "user_id,item_id,time\nu,i,1\n", columns={"timestamp": "tiem"})


def test_one_column_cannot_be_two(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="maps both user_id and item_id to 'x'"):
        prepare_text(tmp_path, "x,y\nu,i\n", columns={"user_id": "x", "item_id": "x"})


def test_an_existing_file_with_glob_characters_is_read_as_a_file(tmp_path: Path) -> None:
    odd = write(tmp_path, "", "my {file} [1] (2).csv")
    write(tmp_path, "", "my {file} 1 (2).csv")
    assert find(str(odd), "dataset.interactions") == [odd]


def test_globs_and_lists_name_files_in_order(tmp_path: Path) -> None:
    files = [write(tmp_path, "", name) for name in ("b.csv", "a.csv", "c.csv")]
    assert find(str(tmp_path / "[ab].csv"), "x") == [files[1], files[0]]
    assert find([str(files[2]), str(tmp_path / "[ab].csv")], "x") == [files[2], files[1], files[0]]


def test_a_file_named_twice_or_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    file = str(write(tmp_path, "", "a.csv"))
    with pytest.raises(ConfigError, match=r"dataset\.items: .*a\.csv is named twice"):
        find([file, str(tmp_path / "*.csv")], "dataset.items")
    with pytest.raises(DataError, match=r"dataset\.items=nothing\*: no such file, and no file matches it"):
        find("nothing*", "dataset.items")
    with pytest.raises(ConfigError, match="is a folder; name its files"):
        find(str(tmp_path), "dataset.items")


def test_files_that_disagree_on_an_optional_column_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "user_id,item_id,value\nu,i,1\n", "a.csv")
    write(tmp_path, "user_id,item_id\nu,j\n", "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: no column 'value', which other files of this data set have"):
        prepare_with(tmp_path, FilesSettings(interactions=["a.csv", "b.csv"]))


def test_a_text_of_one_megabyte_is_kept_short_and_costs_little(tmp_path: Path) -> None:
    long = "word " * 200_000
    prepared = prepare_text(tmp_path, "user_id,item_id\nu,i\n", items=f"item_id,title\ni,{long}\n", item_text="{title}",
                            max_text_length=100)
    assert prepared.column("items", "text") == [long[:100]]
    twenty = source(tmp_path, "item_id,t\n" + f"i,{long}\n" * 20, "x.csv")
    staged = stage([twenty], tmp_path / "s", ("item_id",), (), rest=True)
    groups = pq.ParquetFile(staged.path).num_row_groups
    assert groups > 1, "rows are written as they come, not gathered in memory"


@pytest.mark.slow
def test_if_all_rows_are_bad_the_error_points_at_the_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 1 rows \(100\.00%\) are bad[^$]*All of them: "):
        prepare_text(tmp_path, "user_id,item_id,timestamp\nu,i,1500000000\n", timestamp_unit="iso")


def test_a_name_for_a_column_that_no_file_has_is_refused(tmp_path: Path) -> None:
    unused = r"dataset\.columns\.user_id=uid: no file has a column of that name, so it has no effect"
    with pytest.raises(ConfigError, match=unused):
        prepare_text(tmp_path / "a", "user_id,item_id\nu,a\n", columns={"user_id": "uid"})
    one_of_two = prepare_text(tmp_path / "b", "user_id,sku\nu,a\n", columns={"item_id": "sku"}, items="item_id\na\n")
    assert one_of_two.in_split("train") == {("u", "a")}


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_are_part_of_a_name_are_named(tmp_path: Path, quote: str) -> None:
    write(tmp_path, "user_id,item_id\na,b\n", "new orders.csv")
    named = f"{quote}new orders.csv{quote}"
    with pytest.raises(DataError, match=f"^dataset.interactions={named}: no such file; the quotes are part of the name "
                                        "here, so leave them out: dataset.interactions=new orders.csv$"):
        find(named, "dataset.interactions", str(tmp_path))
    write(tmp_path, "user_id,item_id\na,b\n", named)
    assert find(named, "dataset.interactions", str(tmp_path)) == [tmp_path / named]


@pytest.mark.parametrize(("given", "clause"), [
    ({}, "; reading skipped, as lines before the header, the first 2 lines of this file: if the header is among them"),
    ({"skip_rows": 2}, "; skip_rows=2 skipped the first 2 lines of this file: if the header is among them"),
    ({"skip_rows": 1}, "; skip_rows=1 skipped the first line of this file: if the header is among them"),
    ({"skip_rows": 0}, "")])
def test_a_missing_column_after_skipped_lines_names_them(tmp_path: Path, given: dict[str, int], clause: str) -> None:
    file = "Orders 2025\nas of today\nwho;item_id;qty\nu;i;1\nv;i;2\n"
    with pytest.raises(DataError) as refused:
        prepare_text(tmp_path, file, formats={"interactions": FormatSettings(**given)})
    assert "no column 'user_id'" in str(refused.value)
    remedy = ", set dataset.formats.interactions.skip_rows to the number of lines before it"
    assert str(refused.value).endswith(clause + remedy * bool(clause))
    assert ("skipped" in str(refused.value)) == bool(clause)
