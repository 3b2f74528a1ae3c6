"""Parquet tables of an open folder: the bytes that are parsed are the bytes that were checked."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.pinned import PinnedFolder


def read_table(files: PinnedFolder, name: str, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    """Return columns of a Parquet file, all of them by default."""
    return pq.read_table(pa.BufferReader(files.read(name)), columns=None if columns is None else list(columns),
                         **options)


def column_names(files: PinnedFolder, name: str) -> list[str]:
    """Return the names of the columns of a Parquet file."""
    names: list[str] = pq.read_schema(pa.BufferReader(files.read(name))).names
    return names
