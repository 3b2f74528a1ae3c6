"""Parquet files whose bytes depend only on their rows, and a fingerprint that depends on nothing else either."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr.types import Table

from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.engine import batches
from llmrec_cli.ingest.entities import Described, TextRules, entity_batches, schema
from llmrec_cli.ingest.rejects import SCHEMA, Reject, Rejects, in_order
from llmrec_cli.run_dir import writing

ROWS = 1 << 17
"""Rows per row group, whatever batches come in."""


INTERACTIONS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("user", pa.int64()),
                          ("item", pa.int64()), ("value", pa.float32()), ("timestamp", pa.int64()),
                          ("split", pa.string())])


def write_interactions(folder: Path, rows: Table, users: Table, items: Table) -> str:
    """Write interactions.parquet, sorted by user, timestamp and item, and return the hash of its content."""
    numbered = (rows.inner_join(users.select("user_id", "user"), "user_id")
                .inner_join(items.select("item_id", "item"), "item_id")
                .order_by("user", "timestamp", "item", "split", "value")
                .select("user_id", "item_id", "user", "item", "value", "timestamp", "split"))
    found = (pa.RecordBatch.from_arrays([c.cast(t) for c, t in zip(b.columns, INTERACTIONS.types, strict=True)],
                                          schema=INTERACTIONS) for b in batches(numbered, ROWS))
    return write_table(folder / "interactions.parquet", INTERACTIONS, found)


def write_entities(folder: Path, catalogue: Table, described: Described, kind: str, rules: TextRules,
                   account: Account) -> str:
    """Write items.parquet or users.parquet (`kind`: item | user) and return the hash of its content."""
    target = schema(described, kind)
    found = entity_batches(catalogue, described, kind, rules, target, account.counts)
    return write_table(folder / f"{kind}s.parquet", target, found)


def write_rejects(folder: Path, rejects: list[Rejects] | list[Reject]) -> None:
    """Write rejects.parquet, sorted by file, line, column and reason."""
    parts = [part for part in rejects if isinstance(part, Rejects)]
    loose = pa.Table.from_pylist([vars(part) for part in sorted(r for r in rejects if isinstance(r, Reject))], SCHEMA)
    write_table(folder / "rejects.parquet", SCHEMA, in_order(parts, ROWS) if parts else loose.to_batches())


def write_table(path: Path, target: pa.Schema, found: Iterable[pa.RecordBatch]) -> str:
    """Write the batches and return the SHA-256 of their content.

    The content is hashed as Arrow's IPC bytes, which unlike Parquet's stay the same from one release to the next.
    """
    digest = hashlib.sha256(str(target.names).encode())
    with writing(path), pq.ParquetWriter(path, target, compression="zstd") as writer:
        for table in _groups(target, found):
            writer.write_table(table, row_group_size=ROWS)
            digest.update(table.to_batches()[0].serialize())
    return digest.hexdigest()


def _groups(target: pa.Schema, found: Iterable[pa.RecordBatch]) -> Iterable[pa.Table]:
    """Yield tables of one chunk and ROWS rows, the last one shorter; nothing for no rows."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in found:
        waiting.append(batch)
        size += len(batch)
        while size >= ROWS:
            table = pa.Table.from_batches(waiting, target)
            yield table.slice(0, ROWS).combine_chunks()
            waiting, size = table.slice(ROWS).to_batches(), size - ROWS
    if size:
        yield pa.Table.from_batches(waiting, target).combine_chunks()
