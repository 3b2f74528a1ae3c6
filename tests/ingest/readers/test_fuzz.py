"""Damaged bytes end in data with complete row counts or in one readable error, never in a traceback or a hang."""

import gzip
import json
import random
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError, LlmrecError
from llmrec_cli.ingest.readers.parquet import check_parquet
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import stage
from llmrec_cli.settings.formats import FormatSettings
from tests.ingest.preparing import prepare_text, source
from tests.some_slow import some_slow

CSV = ('user_id,item_id,value,timestamp\n' + "".join(f'u{n % 7},"item {n % 5}, no. {n}",{n % 5},{1_600_000_000 + n}\n'
                                                     for n in range(60))).encode()
JSONL = "".join(json.dumps({"user_id": f"u{n % 7}", "item_id": n, "value": n % 5, "timestamp": 1_600_000_000 + n})
                + "\n" for n in range(60)).encode()
NASTY = [b"\x00", b"\xff", b'"', b"\n", b"\r", b",", b"\t", b"\xef\xbb\xbf", b"{", b"}", b"[" * 2000, b"1e999", b"NaN",
         b"\\ud800", "é".encode("latin-1"), b"\xf0\x9f\x8e\xac", b'""', b"-", b"9" * 400]


def mutated(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            content = content[:place] + rng.choice(NASTY) + content[place:]
        elif kind == 1:
            content = content[:place] + content[place + rng.randint(1, 40):]
        elif kind == 2:
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1:]
        else:
            content = content[:place]
    return content


def parquet(settings: dict[str, str]) -> bytes:
    """Return the rows of CSV as a Parquet file."""
    sink = pa.BufferOutputStream()
    users = [f"u{n % 7}" for n in range(60)]
    pq.write_table(pa.table({"user_id": users, "item_id": range(60), "value": [0.5] * 60}), sink, **settings)
    return sink.getvalue().to_pybytes()


FILES = {"x.csv": CSV, "x.tsv": CSV.replace(b'"', b"").replace(b",", b"\t"), "x.jsonl": JSONL,
         "x.csv.gz": gzip.compress(CSV), "x.jsonl.gz": gzip.compress(JSONL),
         "x.csv.zst": pa.compress(CSV, "zstd", asbytes=True), "x.jsonl.zst": pa.compress(JSONL, "zstd", asbytes=True),
         "x.parquet": parquet({}), "plain.parquet": parquet({"compression": "none"})}


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("name", some_slow(FILES, 3))
def test_damaged_files_are_read_row_by_row_or_refused(tmp_path: Path, name: str, rest: bool) -> None:
    rng, read, refused = random.Random(f"{name} {rest}"), 0, 0
    for _ in range(150):
        start = time.monotonic()
        file = source(tmp_path, mutated(FILES[name], rng), name)
        try:
            staged = stage([file], tmp_path / "staged", ("user_id", "item_id"), ("value", "timestamp"), rest=rest)
        except LlmrecError as error:
            refused += name in str(error)
        else:
            result = pq.read_table(staged.path)
            result.validate(full=True)
            assert staged.num_read[0] == len(result) + len(staged.rejects)
            lines = result["line"].to_pylist() + [reject.line for reject in staged.rejects]
            assert len(set(lines)) == len(lines)
            read += 1
        assert time.monotonic() - start < 30
    assert refused > 20
    assert read + refused == 150, "every refusal names the file"
    assert read > 20 or name not in ("x.csv", "x.tsv", "x.jsonl")


@pytest.mark.slow
def test_damaged_parquet_files_used_in_place_are_checked_or_refused(tmp_path: Path) -> None:
    rng, refused = random.Random(1), 0
    for _ in range(300):
        file = source(tmp_path, mutated(FILES["plain.parquet"], rng), "x.parquet")
        try:
            staged = stage([file], tmp_path / "staged", ("user_id", "item_id"), ("value",), direct=True)
            for direct in staged.direct:
                check_parquet(file, direct.columns.values())
        except LlmrecError as error:
            refused += "x.parquet" in str(error)
    assert refused > 50


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".gz", ".zst", ".parquet"))])
def test_a_packed_file_is_refused_wherever_it_is_cut(tmp_path: Path, name: str) -> None:
    content = FILES[name]
    for size in range(0, len(content), max(1, len(content) // 60)):
        with pytest.raises(DataError, match=name):
            stage([source(tmp_path, content[:size], name)], tmp_path / "staged", ("user_id", "item_id"), ())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content"), [("x.csv", CSV), ("x.jsonl", JSONL)])
def test_damaged_files_go_through_the_whole_stage_or_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    rng = random.Random(f"{name} whole")
    for _ in range(5):
        try:
            counts = prepare_text(tmp_path, mutated(content, rng), name=name, max_reject_share=1.0).counts
        except LlmrecError:
            continue
        assert counts["read"] == (counts["rejected"] + counts["duplicates"] + counts["not_positive"]
                                  + counts["interactions"])


def test_many_quotes_that_are_never_closed_take_no_longer_than_rows(tmp_path: Path) -> None:
    start = time.monotonic()
    text = "user_id,item_id\n" + 'u,"i\nv,j\n' * 3000
    staged = stage([source(tmp_path, text, quote='"')], tmp_path / "staged", ("user_id", "item_id"), ())
    assert (staged.num_read[0], len(staged.rejects)) == (6000, 3000)
    assert time.monotonic() - start < 10


BOOKS = Path(__file__).parents[4] / "shared/data/book_crossing/items_info.dat"


@pytest.mark.skipif(not BOOKS.is_file(), reason="the data set is not here")
def test_book_crossing_books_broken_by_html_entities_are_rejected(tmp_path: Path) -> None:
    books = Source(BOOKS, columns={"item_id": "Book_ID"}, given=FormatSettings(quote=""))
    staged = stage([books], tmp_path / "staged", ("item_id",), (), rest=True)
    assert (staged.num_read, len(staged.rejects)) == ([17384], 973)
    reasons = Counter(reject.reason for reject in staged.rejects)
    assert reasons == {f"{width} fields where the header has 9": number
                       for width, number in ((11, 937), (12, 31), (13, 4), (14, 1))}
