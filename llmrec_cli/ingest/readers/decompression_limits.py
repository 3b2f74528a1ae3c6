"""Limits on decompression, against decompression bombs; detection of zstd checksums.

Decompressors verify the checksum of a zstd frame, and its length if stated. Without a checksum a changed byte can
unpack to other text unnoticed. The command `zstd` writes checksums; most libraries do so only on request.
"""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError, in_bytes
from llmrec_cli.ingest.readers.sources import Source

MOST_BYTES = 1 << 30
"""Content up to this size is always read, whatever the size of the compressed file."""
_MOST_TIMES = 200
"""Larger content may be this many times as large as the file; text and numbers rarely exceed 50 times."""
BROKEN = (pa.ArrowException, duckdb.Error, OSError, UnicodeDecodeError)
"""Exceptions raised for a damaged Parquet file."""
_BATCH = 1 << 16
_VALUE = 8  # Bytes of a number, and fewest bytes of a text.


def refuse_bomb(source: Source, unpacked: int) -> None:
    """Raise DataError if `unpacked` bytes are too many for the size of the file."""
    packed = source.path.stat().st_size
    if unpacked > MOST_BYTES and unpacked > _MOST_TIMES * packed:
        raise DataError(f"{source.path}: its {in_bytes(packed)} unpack to {in_bytes(unpacked)} or more, over "
                        f"{_MOST_TIMES} times as much, like a decompression bomb. If the file is right, "
                        f"unpack it yourself, split it into smaller files and name those")


def bytes_per_row(source: Source, columns: list[str]) -> int:
    """Return the size in memory of a row of these columns of a Parquet file: the largest average of a row group.

    Raises DataError for a damaged file, and for a decompression bomb: more values, or more text through a dictionary,
    than a file of this size should have.
    """
    try:
        chunks = [chunk for chunk in _chunks(source) if chunk.is_in(columns)]
        refuse_bomb(source, sum(chunk.least for chunk in chunks))
        rows: dict[int, int] = {}
        sizes: dict[int, int] = {}
        paths = sorted({chunk.path for chunk in chunks if chunk.is_dictionary_of_text})
        with pq.ParquetFile(source.path, memory_map=True, read_dictionary=paths) as file:
            for chunk in chunks:
                size = chunk.least
                if chunk.is_dictionary_of_text and chunk.num_values * chunk.size > MOST_BYTES >> 4:
                    size += _expanded(file, chunk)
                rows[chunk.group] = chunk.num_rows
                sizes[chunk.group] = sizes.get(chunk.group, 0) + size
                refuse_bomb(source, sum(sizes.values()))
            if sum(rows.values()) != file.metadata.num_rows:
                raise damage_error(source, ValueError("its numbers of rows disagree"))
    except BROKEN as error:
        raise damage_error(source, error) from error
    return max((size // max(rows[group], 1) for group, size in sizes.items()), default=0)


def damage_error(source: Source, error: Exception) -> DataError:
    """Return the DataError for a Parquet file that cannot be read."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{source.path}: is not an intact Parquet file ({first}); export or copy it again")


@dataclass(frozen=True)
class _Chunk:
    """Metadata of one column of one row group; `path` has dots, `names` commas, between nested names."""

    group: int
    num_rows: int
    names: str
    num_values: int
    size: int
    kind: str
    encodings: str

    @property
    def path(self) -> str:
        return self.names.replace(", ", ".")

    @property
    def least(self) -> int:
        """Fewest bytes in memory."""
        return max(self.num_values * _VALUE, self.size)

    @property
    def is_dictionary_of_text(self) -> bool:
        return self.kind == "BYTE_ARRAY" and "DICTIONARY" in self.encodings

    def is_in(self, columns: list[str]) -> bool:
        """Return True if the chunk belongs to one of these columns."""
        return any(self.names == name or self.names.startswith(f"{name}, ") for name in columns)


def _chunks(source: Source) -> list[_Chunk]:
    # Not with pyarrow: a wrong byte in the metadata can crash the process.
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT row_group_id, row_group_num_rows, path_in_schema, num_values, total_uncompressed_size, type, "
            "encodings FROM parquet_metadata(?)", [glob.escape(str(source.path))])
        return [_Chunk(*row) for row in rows.fetchall()]


def _expanded(file: pq.ParquetFile, chunk: _Chunk) -> int:
    """Return the bytes of all texts of a chunk, or an upper bound that is below the limit.

    The dictionary comes with the first row, so in most files only that is read.
    """
    longest = 0
    for leaf in _leaves(next(file.iter_batches(1, [chunk.group], [chunk.path], use_threads=False)).column(0)):
        longest = max(longest, pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0)
    if longest * chunk.num_values <= MOST_BYTES:
        return longest * chunk.num_values
    total = 0
    for batch in file.iter_batches(_BATCH, [chunk.group], [chunk.path]):
        for leaf in _leaves(batch.column(0)):
            lengths = pc.binary_length(leaf.dictionary).cast(pa.int64())
            total += pc.sum(lengths.take(leaf.indices)).as_py() or 0
    return total


def _leaves(column: pa.Array) -> Iterator[pa.DictionaryArray]:
    if pa.types.is_dictionary(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _leaves(child)
    elif pa.types.is_nested(column.type):
        yield from _leaves(column.values)


_FRAME, _SKIPPED = 0xFD2FB528, 0x184D2A50
_CHECKSUM, _SINGLE = 0x04, 0x20
_DICTIONARY_BYTES, _LENGTH_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
_RUN = 1
"""Kind of a block that is one byte, repeated."""


def has_checksums(path: Path) -> bool:
    """Return True if the file is a sequence of zstd frames with checksums."""
    with path.open("rb") as file:
        flags = list(_checksums(file))
    return bool(flags) and all(flags)


def _checksums(file: BinaryIO) -> Iterator[bool]:
    """Yield for each frame True if it has a checksum, and False for data that is not a frame."""
    while start := file.read(4):
        magic = int.from_bytes(start, "little")
        if magic & ~0xF == _SKIPPED:
            file.seek(int.from_bytes(file.read(4), "little"), 1)
            continue
        if magic != _FRAME or not (descriptor := file.read(1)):
            yield False
            return
        flags = descriptor[0]
        single = bool(flags & _SINGLE)
        length = _LENGTH_BYTES[flags >> 6] or int(single)
        file.seek(int(not single) + _DICTIONARY_BYTES[flags & 3] + length, 1)
        last = False
        while not last:
            head = file.read(3)
            block = int.from_bytes(head, "little")
            last = len(head) < 3 or bool(block & 1)
            file.seek(1 if block >> 1 & 3 == _RUN else block >> 3, 1)
        yield bool(flags & _CHECKSUM)
        file.seek(4 if flags & _CHECKSUM else 0, 1)
