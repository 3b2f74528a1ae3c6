"""Small files that unpack to more than any honest file does; they are refused before they fill memory or disk."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.sources import Source

MOST_BYTES = 1 << 30
"""Content of this size is read however small it was packed."""
MOST_TIMES = 200
"""Beyond that, content may be so many times as large as the file; text and numbers rarely reach 50."""
_BATCH = 1 << 16
_VALUE = 8  # Bytes of a number, or of what has to be kept of a text.


def refuse_bomb(source: Source, unpacked: int) -> None:
    """Raise DataError when `unpacked` bytes are too much for the size of the file."""
    packed = source.path.stat().st_size
    if unpacked > MOST_BYTES and unpacked > MOST_TIMES * packed:
        raise DataError(f"{source.path}: its {_shown(packed)} unpack to {_shown(unpacked)} or more, over {MOST_TIMES} "
                        f"times as much; that is no data but a bomb. If you know better, unpack it yourself, split it "
                        f"into smaller files and name those")


def bytes_per_row(source: Source, columns: list[str]) -> int:
    """Return how large a row of these columns of a Parquet file is in memory, at most or on average in a row group.

    Raises DataError for a bomb: more values, or more text by way of a dictionary, than such a file can have.
    """
    with pq.ParquetFile(source.path) as file:
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        chunks = [[_Chunk(group.column(n)) for n in range(group.num_columns)] for group in groups]
        wanted = [[chunk for chunk in group if chunk.is_in(columns)] for group in chunks]
        refuse_bomb(source, sum(max(c.num_values * _VALUE, c.size) for group in wanted for c in group))
    paths = sorted({c.path for group in wanted for c in group if c.is_dictionary_of_text})
    row, total = 0, 0
    with pq.ParquetFile(source.path, memory_map=True, read_dictionary=paths) as file:
        for number, (group, found) in enumerate(zip(groups, wanted, strict=True)):
            size = 0
            for chunk in found:
                size += max(chunk.num_values * _VALUE, chunk.size)
                if chunk.is_dictionary_of_text and chunk.num_values * chunk.size > MOST_BYTES >> 4:
                    size += _expanded(file, number, chunk)
            total += size
            refuse_bomb(source, total)
            row = max(row, size // max(group.num_rows, 1))
    return row


class _Chunk:
    """What the file says about one column of one row group."""

    def __init__(self, found: pq.ColumnChunkMetaData) -> None:
        self.path, self.num_values, self.size = found.path_in_schema, found.num_values, found.total_uncompressed_size
        self.is_dictionary_of_text = found.physical_type == "BYTE_ARRAY" and any(
            "DICTIONARY" in name for name in found.encodings)

    def is_in(self, columns: list[str]) -> bool:
        return any(self.path == name or self.path.startswith(f"{name}.") for name in columns)


def _expanded(file: pq.ParquetFile, group: int, chunk: _Chunk) -> int:
    """Return the bytes of all texts of a chunk, or a number that is larger yet harmless.

    The dictionary comes with the first row, so that in most files no more than that is read.
    """
    longest = 0
    for leaf in _leaves(next(file.iter_batches(1, [group], [chunk.path])).column(0)):
        longest = max(longest, pc.max(pc.binary_length(leaf.dictionary)).as_py() or 0)
    if longest * chunk.num_values <= MOST_BYTES:
        return longest * chunk.num_values
    total = 0
    for batch in file.iter_batches(_BATCH, [group], [chunk.path]):
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


def _shown(size: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,} {unit}"
        size //= 1024
    return f"{size:,} GiB"
