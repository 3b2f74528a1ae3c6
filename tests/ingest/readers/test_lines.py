"""Text files as lines: encodings, compression, damage."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers import lines as module
from llmrec_cli.ingest.readers.lines import lines
from tests.ingest.preparing import source


def test_lines_keep_their_ends_and_other_unicode_line_breaks(tmp_path: Path) -> None:
    assert list(lines(source(tmp_path, "a\r\nb\u2028c\x0b\nd"))) == ["a\r\n", "b\u2028c\x0b\n", "d"]


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    assert list(lines(source(tmp_path, b"\xef\xbb\xbfuser_id\n"))) == ["user_id\n"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"UTF-16.*convert it to UTF-8"):
        list(lines(source(tmp_path, "user_id,item_id\n".encode(encoding))))


def test_bad_utf_8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clicks\.csv: line 3, byte 8 \(counted from 0\): 0xe9 is not utf-8"):
        list(lines(source(tmp_path, b"ab\ncd\nef\xe9\n")))


def test_the_byte_is_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 5)
    with pytest.raises(DataError, match="line 3, byte 8 "):
        list(lines(source(tmp_path, b"ab\ncd\nef\xe9\n")))


def test_other_encodings_are_read_when_they_are_named(tmp_path: Path) -> None:
    assert list(lines(source(tmp_path, "Café\n".encode("latin-1"), encoding="latin-1"))) == ["Café\n"]
    assert list(lines(source(tmp_path, "五台山\n".encode("gb18030"), encoding="gb18030"))) == ["五台山\n"]


def test_gzip_and_zstandard_are_unpacked(tmp_path: Path) -> None:
    content = b"a,b\n" * 1000
    assert "".join(lines(source(tmp_path, gzip.compress(content), "x.csv.gz"))).encode() == content
    packed = pa.compress(content, "zstd", asbytes=True)
    assert "".join(lines(source(tmp_path, packed, "x.csv.zst"))).encode() == content


@pytest.mark.parametrize(("name", "codec"), [("x.csv.gz", "gzip"), ("x.csv.zst", "zstd")])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    packed = pa.compress(bytes(range(256)) * 4000, codec, asbytes=True)
    with pytest.raises(DataError, match=r"is not an intact \.(gz|zst) file"):
        list(lines(source(tmp_path, packed[:len(packed) // 2], name, encoding="latin-1")))


def test_a_file_that_is_not_compressed_despite_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not an intact \.gz file \(.*\); .* or name it without \.gz"):
        list(lines(source(tmp_path, "a,b\n", "x.csv.gz")))


def test_one_endless_line_stops_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1 << 20)
    with pytest.raises(DataError, match="a line longer than 1 MiB"):
        list(lines(source(tmp_path, gzip.compress(b"a" * (4 << 20)), "bomb.csv.gz")))


@pytest.mark.parametrize(("content", "message"), [
    (b"PAR1\x15\x04\x15\x00\n", r"clicks\.csv: is a Parquet file; name it \.parquet"),
    (b"PK\x03\x04\x14\x00\x00\n", r"clicks\.csv: is a zip archive, as Excel's files are; export it as CSV"),
    (gzip.compress(b"a,b\n", mtime=0), r"clicks\.csv: is packed by gzip; give its name \.gz at the end")])
def test_another_format_under_a_text_file_s_name_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(lines(source(tmp_path, content)))


def test_a_file_packed_twice_is_to_be_unpacked_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.csv\.gz: contains packed by gzip; unpack it, and give its name"):
        list(lines(source(tmp_path, gzip.compress(gzip.compress(b"a,b\n")), "x.csv.gz")))


def test_text_may_begin_as_another_format_does(tmp_path: Path) -> None:
    assert list(lines(source(tmp_path, "PAR1,item_id\n"))) == ["PAR1,item_id\n"]
