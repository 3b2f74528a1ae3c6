"""Detection of .zst files whose frames all end with a checksum."""

import shutil
import subprocess

import pyarrow as pa
import pytest

from llmrec_cli.ingest.readers.decompression_limits import has_checksums

MAGIC = bytes.fromhex("28b52ffd")
RAW, RUN = 0, 1


def frame(*blocks, checksum, single=True):
    """A frame by RFC 8878: descriptor, length or window, blocks of (kind, content, bytes it unpacks to), checksum."""
    head = bytes([0x20 * single + 0x04 * checksum, 0x08])
    packed = b""
    for n, (kind, content, size) in enumerate(blocks, start=1):
        packed += (size << 3 | kind << 1 | int(n == len(blocks))).to_bytes(3, "little") + content
    return MAGIC + head + packed + b"abcd" * checksum


@pytest.mark.parametrize("single", [True, False])
def test_every_frame_needs_a_checksum_except_skippable_ones(tmp_path, single):
    file = tmp_path / "x.zst"
    with_one = frame((RAW, b"u,i\n", 4), (RUN, b"x", 500), checksum=True, single=single)
    without = frame((RUN, b"x", 500), (RAW, b"u,i\n", 4), checksum=False, single=single)
    skipped = bytes.fromhex("532a4d18") + (9).to_bytes(4, "little") + bytes(9)
    for content, expected in ((with_one, True), (without, False), (with_one + with_one, True),
                              (with_one + without, False), (without + with_one, False), (skipped + with_one, True),
                              (with_one + skipped, True), (b"", False), (b"junk", False), (with_one + b"junk", False)):
        file.write_bytes(content)
        assert has_checksums(file) is expected
    for cut in range(1, len(with_one)):
        file.write_bytes(with_one[:cut])
        has_checksums(file)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is missing")
def test_the_command_zstd_adds_checksums_and_pyarrow_does_not(tmp_path):
    content = "".join(f"u{n % 99},i{n * n % 1013}\n" for n in range(100_000)).encode()
    plain = tmp_path / "x.csv"
    plain.write_bytes(content)
    for options, expected in (([], True), (["-19"], True), (["--no-check"], False)):
        subprocess.run(["zstd", "-q", "-f", *options, str(plain)], check=True)
        assert has_checksums(tmp_path / "x.csv.zst") is expected
    (tmp_path / "x.csv.zst").write_bytes(pa.compress(content, "zstd", asbytes=True))
    assert not has_checksums(tmp_path / "x.csv.zst")


@pytest.mark.slow
@pytest.mark.audited
def test_prepare_names_the_files_in_which_damage_can_go_unseen(llmrec, tmp_path):
    rows = "user_id,item_id,timestamp\n" + "".join(f"u{n % 9},i{n % 7},{1_600_000_000 + n}\n" for n in range(60))
    (tmp_path / "clicks.csv.zst").write_bytes(pa.compress(rows.encode(), "zstd", asbytes=True))
    arguments = ["prepare", "dataset=files", "dataset.name=shop", "split=none"]
    done = llmrec(*arguments, "dataset.interactions=clicks.csv.zst")
    assert done.code == 0
    assert "files without a checksum, so damage may go unnoticed: 1 ('clicks.csv.zst')" in " ".join(done.err.split())
    # The length in the header is verified too.
    content = bytearray((tmp_path / "clicks.csv.zst").read_bytes())
    assert content[4] >> 6 or content[4] & 0x20
    content[6 if content[4] & 0x20 == 0 else 5] ^= 1
    (tmp_path / "clicks.csv.zst").write_bytes(content)
    assert llmrec(*arguments, "dataset.interactions=clicks.csv.zst").code == 3
