"""Unusual files: without a header, in other encodings, compressed, typed, in many parts."""

import gzip
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.sources import Source, find
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.requests.files import read_ids, read_rows
from tests.ingest.preparing import prepare_text, source, write

IDS = ("user_id", "item_id")
NAMES = ("user_id", "item_id", "value")
TEXTS = {"utf-8": "Café,五台山,مستخدم,🎬", "latin-1": "Café,Ünï,¿?,ÿ", "gb18030": "五台山,Café,🎬,ü",
         "cp1252": "Café,€,œ,’", "shift_jis": "ソ,表,ｱ,予"}
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": lambda content: pa.compress(content, "zstd", asbytes=True)}


def rows(file: Source, folder: Path, required: tuple[str, ...] = IDS, rest: bool = False) -> list[tuple[str, ...]]:
    """Return line and columns of the staged rows."""
    staged = stage([file], folder / "staged", required, (), rest=rest)
    assert not staged.rejects
    result = pq.read_table(staged.path).sort_by("line").drop(["file"]).to_pylist()
    return [tuple(row.values()) for row in result]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_other_encodings_are_read_packed_or_not(tmp_path: Path, encoding: str, packing: str, name: str) -> None:
    pairs = [(text, text * 2) for text in TEXTS[encoding].split(",")]
    line = {"x.csv": '{0},"{1}"\n', "x.tsv": "{0}\t{1}\n", "x.jsonl": '{{"user_id": "{0}", "item_id": "{1}"}}\n'}[name]
    text = line.format("user_id", "item_id") * ("json" not in name) + "".join(line.format(*pair) for pair in pairs)
    file = source(tmp_path, PACKED[packing](text.encode(encoding)), name + packing, encoding=encoding)
    start = 1 if "json" in name else 2
    assert rows(file, tmp_path) == [(n, *pair) for n, pair in enumerate(pairs, start=start)]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize(("name", "delimiter"), [("x.csv", ","), ("x.tsv", "\t"), ("r.dat", "|"), ("u.data", "\t")])
def test_files_without_a_header_take_the_names_they_are_given(tmp_path: Path, packing: str, name: str,
                                                              delimiter: str) -> None:
    text = "".join(delimiter.join(row) + "\n" for row in (("u1", "007", "5"), ("u2", "NA", "4")))
    file = source(tmp_path, PACKED[packing](text.encode()), name + packing, names=NAMES)
    assert rows(file, tmp_path, NAMES) == [(1, "u1", "007", "5"), (2, "u2", "NA", "4")]


def test_a_file_without_a_header_in_another_encoding_and_packed(tmp_path: Path) -> None:
    packed = gzip.compress("五台山;a;1\n".encode("gb18030"))
    file = source(tmp_path, packed, "x.txt.gz", names=NAMES, encoding="gb18030")
    assert rows(file, tmp_path, NAMES) == [(1, "五台山", "a", "1")]


def test_a_mark_before_a_header_or_a_first_row_is_no_part_of_it(tmp_path: Path) -> None:
    assert rows(source(tmp_path, b"\xef\xbb\xbfuser_id,item_id\nu,i\n"), tmp_path) == [(2, "u", "i")]
    assert rows(source(tmp_path, b"\xef\xbb\xbfu,i\n", names=IDS), tmp_path) == [(1, "u", "i")]


@pytest.mark.audited
def test_a_list_of_globs_in_several_formats_is_one_data_set(tmp_path: Path) -> None:
    write(tmp_path, "user_id,item_id\na,1\n", "part-0.csv")
    write(tmp_path, gzip.compress(b"item_id,user_id\n2,b\n"), "part-1.csv.gz")
    write(tmp_path, '{"user_id": "c", "item_id": 3}\n', "more.jsonl")
    pq.write_table(pa.table({"item_id": [4], "user_id": ["d"]}), tmp_path / "more.parquet")
    paths = find([str(tmp_path / "part-*"), str(tmp_path / "more.*")], "dataset.interactions")
    staged = stage([Source(path) for path in paths], tmp_path / "staged", IDS, ())
    assert staged.num_read == [1, 1, 1, 1]
    table = pq.read_table(staged.path)
    assert sorted(zip(table["c0"].to_pylist(), table["c1"].to_pylist(), strict=True)) == [
        ("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]


def test_the_types_in_a_header_of_recbole_are_no_part_of_the_names(tmp_path: Path) -> None:
    text = "user_id:token\titem_id:token\tgenres:token_seq\tx:float_seq\thttp:title\nu\ti\tA B\t1 2\tt\n"
    staged = stage([source(tmp_path, text, "x.inter")], tmp_path / "staged", IDS, (), rest=True)
    assert staged.names == ["user_id", "item_id", "genres", "x", "http:title"]
    text = "user_id:token,item_id:token,rating:float,timestamp:float\nu,i,4,1600000000\n"
    prepared = prepare_text(tmp_path / "p", text, columns={"value": "rating"})
    assert prepared.column("interactions", "value") == [4.0]


def test_an_exact_column_name_wins_over_one_with_a_type(tmp_path: Path) -> None:
    text = "user_id:token,user_id,item_id\nno,yes,i\n"
    staged = stage([source(tmp_path, text)], tmp_path / "staged", IDS, (), rest=True)
    assert staged.names == ["user_id", "item_id", "user_id:token"]
    assert pq.read_table(staged.path)["c0"].to_pylist() == ["yes"]


def test_two_typed_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "user_id:token,user_id:float,item_id\n1,2,i\n"
    with pytest.raises(DataError, match=r"clicks\.csv: two columns are called 'user_id', as 'user_id:token' and as "
                                        r"'user_id:float'; rename one of them in the header"):
        stage([source(tmp_path, text)], tmp_path / "staged", IDS, ())


def test_a_missing_column_names_the_nearest_without_its_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'user_id'; there are 'userid', 'item_id'; map it with "
                                        r"dataset\.columns\.user_id=<name> \(did you mean 'userid'\?\)"):
        stage([source(tmp_path, "userid:token,item_id:token\nu,i\n")], tmp_path / "staged", IDS, ())


def test_advice_beside_a_model_names_no_setting_of_prepare(tmp_path: Path) -> None:
    contents = {"a.csv": b"user_id,text\nu,\xe9\n", "b.csv": b'user_id,te"xt\r"\rx\nu,a\n', "c.txt": b"\xe9\n",
                "d.csv": b"user_id,user_id\nu,v\n", "e.csv": b""}
    for name, content in contents.items():
        path = str(write(tmp_path, content, name))
        with pytest.raises(DataError) as caught:
            read_ids(path, "candidates", "item_id") if "txt" in name else read_rows(path, "queries", ("user_id",))
        assert "dataset." not in str(caught.value), name
        assert name in str(caught.value)
    with pytest.raises(DataError, match=r"line 2, byte 15 .*; convert it to UTF-8, for example with `iconv"):
        read_rows(str(tmp_path / "a.csv"), "queries", ("user_id",))


def test_rows_beside_a_model_stay_in_the_order_of_their_files(tmp_path: Path) -> None:
    lines = [f"u{n}," if n % 3 else f"u{n}" for n in range(50)]
    result = read_rows(str(write(tmp_path, "user_id\n" + "\n".join(lines), "q.csv")), "queries", ("user_id",))
    assert result.columns["user_id"] == [f"u{n}" for n in range(50)]
    assert result.line == list(range(2, 52))


@pytest.mark.parametrize(("text", "remedy"), [
    ("user_id\titem_id\nu\ti\n", r"separated by '\\t'; set dataset\.delimiter='\\t'"),
    ("user_id;item_id\nu;i\n", r"separated by ';'; set dataset\.delimiter=';'"),
    ("u1,7\nu2,8\n", r"if the file has no header, name its columns with dataset\.header=\[user_id,\.\.\.\]")])
def test_a_missing_header_or_wrong_delimiter_is_detected(tmp_path: Path, text: str, remedy: str) -> None:
    with pytest.raises(DataError, match=r"clicks\.csv: no column 'user_id'; there are .*; .*" + remedy):
        stage([source(tmp_path, text, delimiter=",")], tmp_path / "staged", IDS, ())


def test_a_header_in_a_file_declared_without_one_is_detected(tmp_path: Path) -> None:
    headerless = replace(source(tmp_path, 'user_id,"item_id"\nu,i\n'), names=("user_id", "item_id"))
    with pytest.raises(DataError, match=r"clicks\.csv: line 1 is a header with the column names of the settings"):
        stage([headerless], tmp_path / "staged", IDS, ())
