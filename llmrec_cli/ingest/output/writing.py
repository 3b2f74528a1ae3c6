"""Parquet files and content hashes that depend only on the rows written."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr.types import Table

from llmrec_cli.atomic_files import writing
from llmrec_cli.data.prepared import UNLISTED
from llmrec_cli.ingest.engine import batches, size
from llmrec_cli.ingest.interactions.histories import Histories
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.rejects import SCHEMA, Rejects, in_order
from llmrec_cli.ingest.texts.catalogue import Descriptions, entity_batches, schema
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.language.phrases import Phrase

ROWS = 1 << 17
"""Rows per row group, for batches of any size."""
TABLES = {"item": "items", "user": "users", "group": "group_texts"}
"""File with titles, texts and attributes of each kind; groups.parquet has the members of groups."""
_LONG = 1 << 24
"""Approximate characters per row group of users or items."""


def write_entities(folder: Path, catalogue: Table, described: Descriptions, kind: str, rules: TextRules,
                   account: Account, histories: Histories | None = None) -> str:
    """Write the table of a kind (item | user | group) and return its content hash.

    `histories` are the training histories of the users; required if `rules.needs_history`.
    """
    target = schema(described, kind)
    batches_ = entity_batches(catalogue, described, rules, target, account.counts, histories)
    # Each row is stored twice, as its columns and as its text; a row group, read at once, must fit into memory.
    rows = min(ROWS, max(1, _LONG // (2 * described.width + 1)))
    return write_table(folder / f"{TABLES[kind]}.parquet", target, batches_, rows)


@dataclass(frozen=True)
class Finish:
    """Conversion of a table before it is written; `schema` is the schema of the written table."""

    schema: pa.Schema
    apply: Callable[[pa.Table], pa.Table]


def write_left_out(folder: Path, catalogue: Table, described: Descriptions, kind: str) -> None:
    """Write items_left_out.parquet (or users_): descriptions of items that are not in the catalogue, if any.

    mode=append reads it, since new files may bring them enough interactions.
    """
    key = f"{kind}_id"
    left_out = described.rows.anti_join(catalogue, key) if described.rows is not None else None
    if left_out is None or size(left_out) == 0:
        return
    target = left_out_schema(described.names, kind)
    batches_ = (pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in batch.columns], schema=target)
             for batch in batches(left_out.order_by(key).select(key, *described.columns()), ROWS >> 5))
    write_table(folder / f"{kind}s_left_out.parquet", target, batches_)


def write_unlisted(folder: Path, items: Table, described: Descriptions, before: Table | None, account: Account) -> None:
    """Write unlisted_items.parquet, the items missing from the item files; add their count and a note to `account`.

    `before` (item_id) are the items listed by earlier files; with mode=append they stay listed. Nothing is written
    without item files, or if they list all items.
    """
    if described.rows is None:
        return
    gone = items.anti_join(described.rows, "item_id")
    gone = gone if before is None else gone.anti_join(before, "item_id")
    number = size(gone)
    if number:
        target = pa.schema([("item_id", pa.string())])
        batches_ = (pa.RecordBatch.from_arrays([batch.column(0).cast(pa.string())], schema=target)
                 for batch in batches(gone.select("item_id").order_by("item_id"), ROWS))
        write_table(folder / UNLISTED, target, batches_)
        account.counts["items_unlisted"] = number
        account.notes.append(Phrase("{num:,} items of the interactions are not in the item files; `recommend` leaves "
                                    "these items (removed, or not yet listed) out of its lists, unless "
                                    "recommend.delisted=keep is set", num=number))


def left_out_schema(names: Sequence[str], kind: str) -> pa.Schema:
    """Return the schema of the *_left_out.parquet files: the id, then the files' own columns."""
    return pa.schema([(f"{kind}_id", pa.string()), *((name, pa.string()) for name in names)])


def write_rejects(folder: Path, rejects: list[Rejects]) -> None:
    """Write rejects.parquet, sorted by file, line, column and reason."""
    write_table(folder / "rejects.parquet", SCHEMA, in_order(rejects, ROWS))


def cast_batches(schema: pa.Schema, table: Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `table` cast to `schema`, which has the same columns."""
    for batch in batches(table, ROWS):
        columns = [batch.column(n).cast(kind) for n, kind in enumerate(schema.types)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def write_table(path: Path, target: pa.Schema, batches_: Iterable[pa.RecordBatch], rows: int = ROWS,
                numbers: Sequence[str] = (), finish: Finish | None = None) -> str:
    """Write the batches, `rows` to a row group, and return the SHA-256 of their content.

    The content is hashed as Arrow IPC bytes, which unlike Parquet bytes do not change between releases. The columns
    `numbers`, integers with many distinct values, are delta encoded, which is faster and smaller than a dictionary.
    `finish` converts the hashed table into the written one.
    """
    digest = hashlib.sha256(str(target.names).encode())
    final = finish.schema if finish else target
    encoded: Any = [name for name in final.names if name not in numbers] if numbers else True
    # Without Arrow's own schema, so that dictionary columns are read back as text.
    with (writing(path), ThreadPoolExecutor(1) as beside,
          pq.ParquetWriter(path, final, compression="zstd", use_dictionary=encoded, store_schema=False,
                           column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED") or None) as writer):
        for table in _row_groups(target, batches_, rows):
            # Hashing releases the GIL, so it costs no time beside writing.
            hashing = beside.submit(_add, digest, table)
            writer.write_table(finish.apply(table) if finish else table, row_group_size=rows)
            hashing.result()
    return digest.hexdigest()


def _add(digest: Any, table: pa.Table) -> None:
    digest.update(table.to_batches()[0].serialize())


def _row_groups(target: pa.Schema, batches_: Iterable[pa.RecordBatch], rows: int) -> Iterable[pa.Table]:
    """Yield tables of one chunk with `rows` rows, the last one shorter; nothing for no rows."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches_:
        waiting.append(batch)
        size += len(batch)
        while size >= rows:
            table = pa.Table.from_batches(waiting, target)
            yield table.slice(0, rows).combine_chunks()
            waiting, size = table.slice(rows).to_batches(), size - rows
    if size:
        yield pa.Table.from_batches(waiting, target).combine_chunks()
