"""Decompression bombs are refused."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import decompression_limits as bombs
from llmrec_cli.ingest.readers.staging import stage
from tests.ingest.preparing import source

IDS = ("user_id", "item_id")


def parquet(folder: Path, table: pa.Table, **settings: object) -> bytes:
    """Return the bytes of a Parquet file."""
    pq.write_table(table, folder / "it.parquet", **settings)
    return (folder / "it.parquet").read_bytes()


@pytest.mark.parametrize(("name", "codec"), [("x.csv.gz", "gzip"), ("x.csv.zst", "zstd"), ("x.jsonl.gz", "gzip")])
def test_text_that_unpacks_to_far_more_than_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                               name: str, codec: str) -> None:
    monkeypatch.setattr(bombs, "MOST_BYTES", 1 << 20)
    row = '{"user_id": "u", "item_id": "i"}\n' if "json" in name else "u,i\n"
    packed = pa.compress(b"user_id,item_id\n" * ("csv" in name) + row.encode() * (3 << 20), codec, asbytes=True)
    with pytest.raises(DataError, match=rf"{name}: its [\d.]+ KiB unpack to [\d.]+ MiB or more, over 200 times as "
                                        rf"much, like a decompression bomb. If the file is right, unpack it yourself"):
        stage([source(tmp_path, packed, name)], tmp_path / "staged", IDS, ())


def test_what_repeats_itself_is_read_as_long_as_it_is_small(tmp_path: Path) -> None:
    packed = gzip.compress(b"user_id,item_id\n" + b"u,i\n" * (1 << 20))
    assert stage([source(tmp_path, packed, "x.csv.gz")], tmp_path / "staged", IDS, ()).num_read == [1 << 20]


def test_a_zstandard_frame_with_a_huge_window_is_refused(tmp_path: Path) -> None:
    window_of_2_gib = bytes([21 << 3])
    frame = b"\x28\xb5\x2f\xfd\x00" + window_of_2_gib + b"\x21\x00\x00a,b\n"
    with pytest.raises(DataError, match=r"x\.csv\.zst: needs more than 128 MiB of memory to unpack; compress it"):
        stage([source(tmp_path, frame, "x.csv.zst")], tmp_path / "staged", IDS, ())


@pytest.mark.slow
@pytest.mark.parametrize("direct", [False, True])
def test_one_long_text_a_million_times_is_refused_before_it_is_made(tmp_path: Path, direct: bool) -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["x" * (10 << 20)])
    content = parquet(tmp_path, pa.table({"user_id": long, "item_id": range(1_000_000)}))
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError, match=r"x\.parquet: its [\d.]+ MiB unpack to .* GiB or more, over 200 times as much"):
        stage([source(tmp_path, content, "x.parquet")], tmp_path / "staged", IDS, (), direct=direct)
    assert pa.default_memory_pool().max_memory() - before < 1 << 30


def test_a_repeated_long_text_inside_lists_is_refused_too(tmp_path: Path) -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["x" * (10 << 20)])
    lists = pa.ListArray.from_arrays(pa.array(range(1001), pa.int32()), long)
    content = parquet(tmp_path, pa.table({"item_id": range(1000), "tags": lists}))
    with pytest.raises(DataError, match="over 200 times as much"):
        stage([source(tmp_path, content, "x.parquet")], tmp_path / "staged", ("item_id",), (), rest=True)


@pytest.mark.parametrize("direct", [False, True])
def test_more_rows_than_a_file_of_its_size_can_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                direct: bool) -> None:
    monkeypatch.setattr(bombs, "MOST_BYTES", 1 << 20)
    content = parquet(tmp_path, pa.table({"user_id": pa.repeat(7, 1 << 20), "item_id": pa.repeat(7, 1 << 20)}))
    with pytest.raises(DataError, match=r"its [\d.]+ KiB unpack to 16\.0 MiB or more, over 200 times as much"):
        stage([source(tmp_path, content, "x.parquet")], tmp_path / "staged", IDS, (), direct=direct)


def test_a_catalogue_of_long_texts_that_repeat_is_no_bomb(tmp_path: Path) -> None:
    texts = [f"{n % 50} " * 1000 for n in range(2000)]
    content = parquet(tmp_path, pa.table({"item_id": range(2000), "text": texts}))
    staged = stage([source(tmp_path, content, "x.parquet")], tmp_path / "staged", ("item_id",), (), rest=True)
    assert pq.read_table(staged.path)["c1"].to_pylist() == texts
