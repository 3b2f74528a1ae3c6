"""Reader of text files, plain or compressed, as decoded lines; decoding errors name line and byte."""

import codecs
import zlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.readers.decompression_limits import refuse_bomb
from llmrec_cli.ingest.readers.sources import Source

BLOCK = 1 << 22
LONGEST = 1 << 26
"""Longest line in bytes; a decompression bomb may be one endless line and must not fill the memory."""
_BOMS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
UTF8_BOM = b"\xef\xbb\xbf"
_NO_TEXT = {b"PAR1": ("a Parquet file", "name it .parquet"),
            b"PK\x03\x04": ("a zip archive, as Excel's files are", "export it as CSV, or unpack it"),
            b"\xd0\xcf\x11\xe0": ("an Excel file of before 2007", "export it as CSV"),
            b"\x1f\x8b": ("packed by gzip", "give its name .gz at the end"),
            b"\x28\xb5\x2f\xfd": ("packed by zstd", "give its name .zst at the end")}
"""First bytes of other formats -> their name, and the remedy."""


def lines(source: Source) -> Iterator[str]:
    """Yield the lines of a file with their line ends, without a byte order mark. Raises the errors of `blocks`."""
    for block in blocks(source):
        parts = block.decode().split("\n")
        last = parts.pop()
        for line in parts:
            yield line + "\n"
        if last:
            yield last


def blocks(source: Source) -> Iterator[bytes]:
    """Yield a file as blocks of whole lines, a few MiB of UTF-8 each, without a byte order mark.

    Raises DataError for UTF-16, for bytes that are not in the encoding, for a truncated compressed file, for a
    decompression bomb, and for a line longer than 64 MiB.
    """
    start, number = 0, 1
    is_utf8 = codecs.lookup(source.encoding).name in ("utf-8", "ascii")
    for block in _whole_lines(source):
        if start == 0:
            _refuse_other_formats(source, block)
        skip = len(UTF8_BOM) if start == 0 and block.startswith(UTF8_BOM) else 0
        try:
            text = block[skip:].decode(source.encoding)
        except UnicodeDecodeError as error:
            raise _undecodable(source, block, skip + error.start, start, number) from error
        yield block[skip:] if is_utf8 else text.encode()
        start += len(block)
        number += block.count(b"\n")


def read_head(source: Source, size: int) -> bytes:
    """Return whole lines from the beginning of a file, `size` bytes or a longer first line, not decoded.

    Raises the errors of `blocks` but those of decoding.
    """
    head = next(_whole_lines(source), b"")
    _refuse_other_formats(source, head)
    if len(head) <= size:
        return head
    return head[:head.rfind(b"\n", 0, size) + 1 or head.find(b"\n") + 1 or len(head)]


def _whole_lines(source: Source) -> Iterator[bytes]:
    """Yield blocks of bytes that end where a line ends."""
    rest: list[bytes] = []
    size = total = 0
    try:
        with _open(source) as stream:
            while block := stream.read(BLOCK):
                total += len(block)
                if source.compression:
                    refuse_bomb(source, total)
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield b"".join([*rest, block[:cut]])
                    rest, size = [], 0
                rest.append(block[cut:])
                size += len(block) - cut
                if size > LONGEST:
                    raise DataError(f"{source.path}: has a line longer than {LONGEST >> 20} MiB; is it a text file "
                                    f"with one record per line?")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable_error(source, error) from error
    if any(rest):
        yield b"".join(rest)


def _open(source: Source) -> IO[bytes]:
    # Not pa.input_stream, which in some versions treats the name of a missing file as a buffer.
    plain = pa.OSFile(str(source.path), "rb")
    return pa.CompressedInputStream(plain, source.compression) if source.compression else plain


def unreadable_error(source: Source, error: Exception) -> DataError:
    """Return the DataError for a file that the operating system or a decompressor could not read."""
    if "too much memory" in str(error):
        return DataError(f"{source.path}: needs more than 128 MiB of memory to unpack; compress it again without "
                         f"`zstd --long` or `--ultra`")
    what = f"is not an intact {source.path.suffix} file" if source.compression else "cannot be read"
    plain = source.compression and "header" in str(error)
    return DataError(f"{source.path}: {what} ({error}); export or copy it again"
                     f"{f', or name it without {source.path.suffix} if it is not compressed' if plain else ''}")


def _refuse_other_formats(source: Source, block: bytes) -> None:
    no_text = not block[:64].split(b"\n")[0].isascii() or b"\x00" in block[:64].split(b"\n")[0]
    for mark, (what, remedy) in _NO_TEXT.items():
        if no_text and block.startswith(mark):
            packed = f"contains {what}; unpack it, and" if source.compression else f"is {what};"
            raise DataError(f"{source.path}: {packed} {remedy}")
    for mark, name in _BOMS.items():
        if block.startswith(mark):
            raise DataError(f"{source.path}: is encoded in {name}; convert it to UTF-8, for example with "
                            f"`iconv -f utf-16 -t utf-8`")
    if b"\x00" in block[:64].split(b"\n")[0]:
        raise DataError(f"{source.path}: line 1 has zero bytes, so it is UTF-16 or not text; convert it to UTF-8")


def _is_utf8(block: bytes) -> bool:
    """Return True if a block, whose last character may be cut, is UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(block)
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(source: Source, block: bytes, place: int, start: int, number: int) -> DataError:
    line = number + block.count(b"\n", 0, place)
    if not source.format_key:
        remedy = "convert it to UTF-8, for example with `iconv -f latin1 -t utf-8`"
    elif _is_utf8(block):
        remedy = f"the file is UTF-8; set {source.format_key}.encoding=utf-8"
    else:
        others = " or ".join(name for name in ("utf-8", "latin-1", "gb18030") if name != source.encoding)
        remedy = f"set {source.format_key}.encoding to that of the file, such as {others}, or repair it"
    return DataError(f"{source.path}: line {line}, byte {start + place} (counted from 0): 0x{block[place]:02x} is not "
                     f"{source.encoding}; {remedy}")
