"""The fault matrix, data: what cannot be read, or hardly."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.ingest.readers import decompression_limits as bombs
from tests.faults.common import ROWS, prepared_ids, refused
from tests.some_slow import some_slow


def test_26_bad_utf_8_is_named_by_line_and_byte(llmrec):
    assert refused(llmrec, (ROWS + "é,ü,1,1600000000\nß,i,1,1600000000\n").encode() + b"caf\xe9,i,1,1600000000\n") == (
        f"clicks.csv: line 44, byte {len(ROWS) + 40} (counted from 0): 0xe9 is not utf-8; set "
        "dataset.formats.interactions.encoding to that of the file, such as latin-1 or gb18030, or repair it")


def test_27_a_byte_order_mark_is_accepted_and_utf_16_refused(llmrec):
    assert len(prepared_ids(llmrec, b"\xef\xbb\xbf" + ROWS.encode())) == 40
    assert refused(llmrec, ROWS.encode("utf-16")) == (
        "clicks.csv: is encoded in UTF-16 or UTF-32; convert it to UTF-8, for example with "
        "`iconv -f utf-16 -t utf-8`")
    assert refused(llmrec, ROWS.encode("utf-16-le")) == (
        "clicks.csv: line 1 has zero bytes, so it is UTF-16 or not text; convert it to UTF-8")


def test_28_an_empty_file_and_one_of_only_a_header_are_refused(llmrec):
    assert refused(llmrec, "") == "clicks.csv: is empty; it needs a header and rows"
    assert refused(llmrec, "user_id,item_id\n") == "clicks.csv: has a header but no rows"


def test_29_a_missing_or_duplicate_column_is_refused_with_the_nearest_name(llmrec):
    assert refused(llmrec, "user_id,itemid\nu,i\n") == (
        "clicks.csv: no column 'item_id'; there are 'user_id', 'itemid'; map it with dataset.columns.item_id=<name> "
        "(did you mean 'itemid'?)")
    assert refused(llmrec, "user_id,item_id,user_id\nu,i,v\n") == (
        "clicks.csv: two columns are called 'user_id'; rename one of them in the header")


def test_30_a_wider_row_is_rejected_and_one_empty_trailing_field_is_not_wider(llmrec):
    content = ROWS + "u1,shifted,1,1600000000,9\nu1,trailing,1,1600000000,\n"
    prepared_ids(llmrec, content, "dataset.max_reject_share=0.1")
    items = pq.read_table("data/prepared/fault/interactions.parquet")["item_id"].to_pylist()
    assert "trailing" in items
    assert "shifted" not in items
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 42, "column": "", "reason": "5 fields where the header has 4"}]


@pytest.mark.parametrize("write", [
    lambda names: ("x.csv", "user_id,item_id\n" + "".join(f"{name},i\n" for name in names)),
    lambda names: ("x.jsonl", "".join(json.dumps({"user_id": name, "item_id": "i"}) + "\n" for name in names))])
def test_31_32_ids_like_null_and_ids_with_leading_zeros_are_kept(llmrec, write):
    names = ["NA", "null", "None", "nan", "007", "7", "7.0", "-", "true"]
    name, content = write(names)
    assert sorted(prepared_ids(llmrec, content, name=name)) == sorted(names)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_33_integers_beyond_2_53_beside_a_blank_are_exact(llmrec, name):
    numbers = [2**53, 2**53 + 1, 2**63 - 1, None]
    if name == "x.parquet":
        pq.write_table(pa.table({"user_id": pa.array(numbers, pa.int64()), "item_id": ["i"] * 4}), "it")
        content = Path("it").read_bytes()
    elif name == "x.jsonl":
        content = "".join(json.dumps({"user_id": n, "item_id": "i"}) + "\n" for n in numbers)
    else:
        content = "user_id,item_id\n" + "".join(f"{'' if n is None else n},i\n" for n in numbers)
    ids = prepared_ids(llmrec, content, "dataset.max_reject_share=0.5", name=name)
    assert sorted(ids) == sorted(map(str, numbers[:3]))
    assert [(r["line"], r["column"], r["reason"]) for r in pq.read_table("data/prepared/fault/rejects.parquet")
            .to_pylist()] == [(4 + (name == "x.csv"), "user_id", "is empty")]


@pytest.mark.slow
def test_34_numbers_and_texts_in_one_id_column_are_all_texts(llmrec):
    rows = [7, "7", "x", 1.5, 10**20]
    mixed = "".join(json.dumps({"user_id": n, "item_id": f"i{place}"}) + "\n" for place, n in enumerate(rows))
    texts = "".join(json.dumps({"user_id": str(n), "item_id": f"i{place}"}) + "\n" for place, n in enumerate(rows))
    texts = texts.replace("1e+20", "100000000000000000000")
    result = [prepared_ids(llmrec, content, name="x.jsonl") for content in (mixed, texts)]
    assert sorted(result[0]) == sorted(result[1]) == sorted(["7", "7", "x", "1.5", "100000000000000000000"])
    pq.write_table(pa.table({"user_id": [7, 8], "item_id": ["a", "b"]}), "a.parquet")
    pq.write_table(pa.table({"user_id": ["7", "x"], "item_id": ["c", "d"]}), "b.parquet")
    done = llmrec("prepare", "dataset=files", "dataset.name=both", "dataset.interactions=[a.parquet,b.parquet]",
                  "split=none")
    assert done.code == 0, done.err
    both = pq.read_table("data/prepared/both/interactions.parquet")
    assert sorted(both["user_id"].to_pylist()) == ["7", "7", "8", "x"]


SCRIPTS = ["latin", "ελληνικά", "кириллица", "עברית", "العربية", "فارسی", "हिन्दी", "বাংলা", "தமிழ்", "తెలుగు", "ไทย",
           "ລາວ", "မြန်မာ", "ខ្មែរ", "ქართული", "հայերեն", "አማርኛ", "汉字", "かな", "한국어",
           "🎬🇫🇷👩‍👩‍👧", "\u202eright\u202c",
           "é", "e\u0301", "ﬁ", "fi", "Å", "\u212b", "a\u200db", " padded ", "ß", "ẞ"]


@pytest.mark.parametrize("name", some_slow(["x.csv", "x.jsonl", "x.parquet"]))
def test_43_ids_of_any_script_come_out_as_they_went_in(llmrec, name):
    if name == "x.parquet":
        pq.write_table(pa.table({"user_id": SCRIPTS, "item_id": SCRIPTS}), "it")
        content = Path("it").read_bytes()
    elif name == "x.jsonl":
        content = "".join(json.dumps({"user_id": n, "item_id": n}, ensure_ascii=len(n) % 2 == 0) + "\n"
                          for n in SCRIPTS)
    else:
        content = "user_id,item_id\n" + "".join(f"{n},{n}\n" for n in SCRIPTS)
    assert sorted(prepared_ids(llmrec, content, name=name)) == sorted(SCRIPTS)
    interactions = pq.read_table("data/prepared/fault/interactions.parquet")
    assert interactions["user_id"].to_pylist() == interactions["item_id"].to_pylist()
    for kind in ("user", "item"):
        result = pq.read_table(f"data/prepared/fault/{kind}s.parquet")
        assert sorted(result[f"{kind}_id"].to_pylist()) == sorted(SCRIPTS)


def test_47_truncated_json_lines_are_refused_by_line(llmrec):
    content = "".join(json.dumps({"user_id": f"u{n}", "item_id": "i"}) + "\n" for n in range(30))
    assert refused(llmrec, content[:-4], name="x.jsonl") == (
        "x.jsonl: line 30: the file ends in the middle of a JSON object; it looks truncated, export or copy it again")


def test_47_truncated_parquet_is_refused_wherever_it_ends(llmrec):
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(500)], "item_id": [f"i{n}" for n in range(500)]}), "it")
    content = Path("it").read_bytes()
    for size in (1, 4, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        message = refused(llmrec, content[:size], name="x.parquet")
        assert message.startswith("x.parquet: is not an intact Parquet file (")
        assert message.endswith("); export or copy it again")


def test_47_a_parquet_file_that_is_damaged_inside_is_refused(llmrec):
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(500)], "item_id": [f"i{n}" for n in range(500)]}), "it")
    content = bytearray(Path("it").read_bytes())
    content[40:400] = bytes(360)
    assert refused(llmrec, bytes(content), name="x.parquet").startswith("x.parquet: is not an intact Parquet file (")


def test_48_more_than_one_bad_row_in_a_thousand_stops_the_run_and_fewer_are_listed(llmrec):
    many = "user_id,item_id\n" + "".join(f"u{n},i\n" for n in range(1998))
    assert refused(llmrec, many + "u,i,x\n,i\nu\n") == (
        "clicks.csv: 3 of 2,001 rows (0.15%) are bad, more than dataset.max_reject_share=0.001 allows. The first "
        "ones:\n  line 2000: 3 fields where the header has 2\n  line 2001: user_id is empty\n"
        "  line 2002: 1 fields where the header has 2\n"
        "Repair them, or set dataset.max_reject_share=0.01 to continue without them (rejects.parquet then lists them)")
    assert len(prepared_ids(llmrec, many + "u,i,x\n,i\n")) == 1998
    assert pq.read_table("data/prepared/fault/rejects.parquet").to_pylist() == [
        {"file": "clicks.csv", "line": 2000, "column": "", "reason": "3 fields where the header has 2"},
        {"file": "clicks.csv", "line": 2001, "column": "user_id", "reason": "is empty"}]


@pytest.mark.slow
def test_69_bombs_are_refused_before_they_fill_the_memory(llmrec, monkeypatch):
    monkeypatch.setattr(bombs, "MOST_BYTES", 1 << 20)
    packed = gzip.compress(b"user_id,item_id\n" + b"u,i\n" * (1 << 19))
    assert refused(llmrec, packed, name="x.csv.gz") == (
        f"x.csv.gz: its {len(packed) / 1024:.1f} KiB unpack to 2.0 MiB or more, over 200 times as much, like a "
        "decompression bomb. If the file is right, unpack it yourself, split it into smaller files and name those")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["x" * (10 << 20)])
    pq.write_table(pa.table({"user_id": long, "item_id": range(1_000_000)}), "it")
    assert " unpack to " in refused(llmrec, Path("it").read_bytes(), name="x.parquet")
    assert pa.default_memory_pool().max_memory() < 2 << 30
