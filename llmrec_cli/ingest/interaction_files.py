"""interactions.parquet, negatives.parquet and filtered.parquet."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.coding import Coded
from llmrec_cli.ingest.engine import batches, collect
from llmrec_cli.ingest.writing import write_table

ROWS = 1 << 19
"""Rows per row group: rows of numbers are small."""
_IDS = [("user_id", pa.string()), ("item_id", pa.string())]
_NUMBERS = [("user", pa.int64()), ("item", pa.int64())]
_VALUES = [("value", pa.float64()), ("timestamp", pa.int64()), ("split", pa.string())]
_EVENT = [("event", pa.string())]


def write_rows(path: Path, rows: Table, users: Table, items: Table, repeated: bool) -> str:
    """Write rows of coded ids with their ids and numbers, by user, time and item; return the hash of their content.

    `users` and `items` are the catalogues; `repeated` says whether a pair may be there in several splits. Ids are
    looked up while writing, so that what is sorted is small; the hash leaves them out, since the catalogues have them.
    """
    event = ["event"] if "event" in rows.columns else []
    numbered = (rows.inner_join(users.select(user=users.code, new_user=users.user.cast("int32")), "user")
                .inner_join(items.select(item=items.code, new_item=items.item.cast("int32")), "item")
                .select("value", "timestamp", "split", *event, user="new_user", item="new_item"))
    # Nothing more to sort by where a pair is there once: each key costs time on millions of rows.
    ordered = numbered.order_by("user", "timestamp", "item", *(("split", "value", *event) if repeated else ()))
    target = pa.schema([*_IDS, *_NUMBERS, *_VALUES, *(_EVENT if event else [])])
    lookup = {"user_id": _ids(users, "user"), "item_id": _ids(items, "item"), "split": pa.array(SPLITS)}
    found = _named(batches(ordered.select("user", "item", "value", "timestamp", "split", *event), ROWS), lookup, target)
    return write_table(path, target, found, ROWS, [f.name for f in target if f.name not in ("user_id", "item_id")],
                       ["timestamp"])


def _ids(catalogue: Table, kind: str) -> pa.Array:
    return collect(catalogue.order_by(kind).select(f"{kind}_id")).column(0).combine_chunks()


def _named(found: Iterator[pa.RecordBatch], lookup: dict[str, pa.Array], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in found:
        at = {"user_id": batch["user"], "item_id": batch["item"], "split": batch["split"]}
        columns = [lookup[f.name].take(at[f.name]) if f.name in lookup else batch[f.name].cast(f.type) for f in target]
        yield pa.RecordBatch.from_arrays(columns, schema=target)


def write_filtered(path: Path, rows: Table, coded: Coded) -> None:
    """Write the sound rows that are not used, by user, item and time, with the reason."""
    event = ["event"] if "event" in rows.columns else []
    named = rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
    ordered = named.order_by("user_id", "item_id", "timestamp", "split", "value", *event, "reason")
    target = pa.schema([*_IDS, *_VALUES, *(_EVENT if event else []), ("reason", pa.string())])
    found = _named_splits(batches(ordered.select(*target.names), ROWS), target)
    write_table(path, target, found, ROWS, varied=["timestamp"])


def _named_splits(found: Iterator[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    names = pa.array(SPLITS)
    for batch in found:
        columns = [names.take(batch["split"]) if f.name == "split" else batch[f.name].cast(f.type) for f in target]
        yield pa.RecordBatch.from_arrays(columns, schema=target)
