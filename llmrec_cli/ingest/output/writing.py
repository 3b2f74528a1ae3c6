"""Parquet files whose bytes depend only on their rows, and a fingerprint that depends on nothing else either."""

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
from llmrec_cli.ingest.texts.catalogue import Described, entity_batches, schema
from llmrec_cli.ingest.texts.text_rendering import TextRules

ROWS = 1 << 17
"""Rows per row group, whatever batches come in."""
TABLES = {"item": "items", "user": "users", "group": "group_texts"}
"""The file of what is told of each kind; groups.parquet has who is in them."""
_LONG = 1 << 24
"""Characters per row group of users or items, about."""


def write_entities(folder: Path, catalogue: Table, described: Described, kind: str, rules: TextRules,
                   account: Account, histories: Histories | None = None) -> str:
    """Write the table of a kind (item | user | group) and return the hash of its content.

    `histories` are those of the users when `rules.needs_history`.
    """
    target = schema(described, kind)
    found = entity_batches(catalogue, described, rules, target, account.counts, histories)
    # A row is there twice, as its own columns and as its text; what is read in one go must not fill the memory.
    rows = min(ROWS, max(1, _LONG // (2 * described.width + 1)))
    return write_table(folder / f"{TABLES[kind]}.parquet", target, found, rows)


@dataclass(frozen=True)
class Finish:
    """Conversion of a table before it is written; `schema` is that of the written table."""

    schema: pa.Schema
    apply: Callable[[pa.Table], pa.Table]


def write_left_out(folder: Path, catalogue: Table, described: Described, kind: str) -> None:
    """Write items_left_out.parquet (or users_): what files say of those that are not kept, if there are any.

    They may be kept one day, when mode=append brings them enough interactions.
    """
    key = f"{kind}_id"
    left = described.rows.anti_join(catalogue, key) if described.rows is not None else None
    if left is None or size(left) == 0:
        return
    target = left_out_schema(described.names, kind)
    found = (pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in batch.columns], schema=target)
             for batch in batches(left.order_by(key).select(key, *described.columns()), ROWS >> 5))
    write_table(folder / f"{kind}s_left_out.parquet", target, found)


def write_unlisted(folder: Path, items: Table, described: Described, before: Table | None, account: Account) -> None:
    """Write unlisted_items.parquet: the items that the files of items do not have, which are counted and noted.

    `before` are those that an earlier catalogue had, item_id; with mode=append they are still listed. Nothing is
    written where no file of items was given, or where it has all.
    """
    if described.rows is None:
        return
    gone = items.anti_join(described.rows, "item_id")
    gone = gone if before is None else gone.anti_join(before, "item_id")
    number = size(gone)
    if number:
        target = pa.schema([("item_id", pa.string())])
        found = (pa.RecordBatch.from_arrays([batch.column(0).cast(pa.string())], schema=target)
                 for batch in batches(gone.select("item_id").order_by("item_id"), ROWS))
        write_table(folder / UNLISTED, target, found)
        account.counts["items_unlisted"] = number
        account.notes.append(f"{number:,} items of the interactions are not in the files of items: `recommend` "
                             f"leaves them out as delisted unless recommend.delisted=keep")


def left_out_schema(names: Sequence[str], kind: str) -> pa.Schema:
    """Return the schema of the files of those left out: the id, then the columns that there were, by their names."""
    return pa.schema([(f"{kind}_id", pa.string()), *((name, pa.string()) for name in names)])


def write_rejects(folder: Path, rejects: list[Rejects]) -> None:
    """Write rejects.parquet, sorted by file, line, column and reason."""
    write_table(folder / "rejects.parquet", SCHEMA, in_order(rejects, ROWS))


def typed(schema: pa.Schema, table: Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `table`, whose columns are those of `schema`, with its types."""
    for batch in batches(table, ROWS):
        columns = [batch.column(n).cast(kind) for n, kind in enumerate(schema.types)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def write_table(path: Path, target: pa.Schema, found: Iterable[pa.RecordBatch], rows: int = ROWS,
                numbers: Sequence[str] = (), finish: Finish | None = None) -> str:
    """Write the batches, `rows` to a row group, and return the SHA-256 of their content.

    The content is hashed as Arrow's IPC bytes, which unlike Parquet's stay the same from one release to the next. The
    columns `numbers`, whole numbers of many values, are written as differences, which is faster and smaller than as a
    dictionary. `finish` makes the table that is written of the one that is hashed.
    """
    digest = hashlib.sha256(str(target.names).encode())
    final = finish.schema if finish else target
    encoded: Any = [name for name in final.names if name not in numbers] if numbers else True
    # Without Arrow's own schema, so that what is written from a dictionary is read as the text it is.
    with (writing(path), ThreadPoolExecutor(1) as beside,
          pq.ParquetWriter(path, final, compression="zstd", use_dictionary=encoded, store_schema=False,
                           column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED") or None) as writer):
        for table in _groups(target, found, rows):
            # Hashing leaves the interpreter to others, so it costs no time beside the writing.
            hashing = beside.submit(_add, digest, table)
            writer.write_table(finish.apply(table) if finish else table, row_group_size=rows)
            hashing.result()
    return digest.hexdigest()


def _add(digest: Any, table: pa.Table) -> None:
    digest.update(table.to_batches()[0].serialize())


def _groups(target: pa.Schema, found: Iterable[pa.RecordBatch], rows: int) -> Iterable[pa.Table]:
    """Yield tables of one chunk and `rows` rows, the last one shorter; nothing for no rows."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in found:
        waiting.append(batch)
        size += len(batch)
        while size >= rows:
            table = pa.Table.from_batches(waiting, target)
            yield table.slice(0, rows).combine_chunks()
            waiting, size = table.slice(rows).to_batches(), size - rows
    if size:
        yield pa.Table.from_batches(waiting, target).combine_chunks()
