"""A text file, plain or compressed, as decoded lines; what cannot be decoded is named by line and byte."""

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
"""Bytes of the longest line; a compressed bomb is one endless line, and must not fill the memory."""
_BOMS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
UTF8_BOM = b"\xef\xbb\xbf"
_NO_TEXT = {b"PAR1": ("a Parquet file", "name it .parquet"),
            b"PK\x03\x04": ("a zip archive, as Excel's files are", "export it as CSV, or unpack it"),
            b"\xd0\xcf\x11\xe0": ("an Excel file of before 2007", "export it as CSV"),
            b"\x1f\x8b": ("packed by gzip", "give its name .gz at the end"),
            b"\x28\xb5\x2f\xfd": ("packed by zstd", "give its name .zst at the end")}
"""What else files begin with -> what they are, and what to do."""


def lines(source: Source) -> Iterator[str]:
    """Yield the lines of a file with their line ends, without a byte order mark. Raises what `blocks` does."""
    for block in blocks(source):
        found = block.decode().split("\n")
        last = found.pop()
        for line in found:
            yield line + "\n"
        if last:
            yield last


def blocks(source: Source) -> Iterator[bytes]:
    """Yield a file as blocks of whole lines, some MiB of UTF-8 each, without a byte order mark.

    Raises DataError for UTF-16, for bytes that are not in the encoding, for a truncated compressed file, for one that
    is a bomb, and for a line longer than 64 MiB.
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
                                    f"with one record a line?")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(source, error) from error
    if any(rest):
        yield b"".join(rest)


def _open(source: Source) -> IO[bytes]:
    # Not pa.input_stream: it takes a missing file's name for a buffer in some versions.
    plain = pa.OSFile(str(source.path), "rb")
    return pa.CompressedInputStream(plain, source.compression) if source.compression else plain


def unreadable(source: Source, error: Exception) -> DataError:
    """Return the error for a file that the operating system or a decompressor gave up on."""
    if "too much memory" in str(error):
        return DataError(f"{source.path}: asks for a window of more than 128 MiB to be unpacked; pack it again without "
                         f"`zstd --long` or `--ultra`")
    what = f"is not a whole {source.path.suffix} file" if source.compression else "cannot be read"
    plain = source.compression and "header" in str(error)
    return DataError(f"{source.path}: {what} ({error}); export or copy it again"
                     f"{f', or name it without {source.path.suffix} if it is not packed' if plain else ''}")


def _refuse_other_formats(source: Source, block: bytes) -> None:
    no_text = not block[:64].split(b"\n")[0].isascii() or b"\x00" in block[:64].split(b"\n")[0]
    for mark, (what, remedy) in _NO_TEXT.items():
        if no_text and block.startswith(mark):
            packed = f"unpacks to what is {what}; unpack it, and" if source.compression else f"is {what};"
            raise DataError(f"{source.path}: {packed} {remedy}")
    for mark, name in _BOMS.items():
        if block.startswith(mark):
            raise DataError(f"{source.path}: is encoded in {name}; convert it to UTF-8, for example with "
                            f"`iconv -f utf-16 -t utf-8`")
    if b"\x00" in block[:64].split(b"\n")[0]:
        raise DataError(f"{source.path}: line 1 has zero bytes, so it is UTF-16 or not text; convert it to UTF-8")


def _undecodable(source: Source, block: bytes, place: int, start: int, number: int) -> DataError:
    line = number + block.count(b"\n", 0, place)
    remedy = ("set dataset.encoding to the file's own, latin-1 or gb18030 say, or repair it" if source.columns_key
              else "convert it to UTF-8, for example with `iconv -f latin1 -t utf-8`")
    return DataError(f"{source.path}: line {line}, byte {start + place} (counted from 0): 0x{block[place]:02x} is not "
                     f"{source.encoding}; {remedy}")
