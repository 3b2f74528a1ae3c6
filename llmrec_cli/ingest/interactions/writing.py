"""Writing of interactions.parquet, negatives.parquet and filtered.parquet."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import batches, collect
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.interactions.order import ORDER, TIE, order_columns
from llmrec_cli.ingest.output.writing import Finish, write_table

ROWS = 1 << 19
"""Rows per row group: rows of numbers are small."""
_CODED = [("user", pa.int64()), ("item", pa.int64()), ("value", pa.float64()), ("timestamp", pa.int64()),
          ("split", pa.int8())]
_MORE = {"event": pa.string(), ORDER: pa.int64()}
"""Optional columns, written if the files have them."""


def write_rows(path: Path, rows: Table, users: Table, items: Table, repeated: bool) -> str:
    """Write coded rows with ids and integer ids, sorted by user and time (`order`); return their content hash.

    `users` and `items` are the catalogues; `repeated` is True if a pair may be in several splits. Ids are looked up
    while writing, so that the sorted rows are small. The hash leaves them out, since it covers the catalogues.
    """
    more = [name for name in _MORE if name in rows.columns]
    ties = [TIE] if TIE in rows.columns else []
    numbered = (rows.inner_join(users.select(user=users.code, new_user=users.user.cast("int32")), "user")
                .inner_join(items.select(item=items.code, new_item=items.item.cast("int32")), "item")
                .select("value", "timestamp", "split", *more, *ties, user="new_user", item="new_item"))
    # Without repeated pairs no further sort key is needed; each key costs time on millions of rows.
    last = ("split", "value", *more) if repeated else ()
    ordered = numbered.order_by("user", *order_columns(numbered), "item", *last)
    target = pa.schema([*_CODED, *((name, _MORE[name]) for name in more)])
    batches_ = (pa.RecordBatch.from_arrays([batch[f.name].cast(f.type) for f in target], schema=target)
             for batch in batches(ordered, ROWS))
    named = _add_ids(_ids(users, "user"), _ids(items, "item"), more)
    numbers = ["user", "item", "timestamp", *(name for name in more if name == ORDER)]
    return write_table(path, target, batches_, ROWS, numbers, named)


def _ids(catalogue: Table, kind: str) -> pa.Array:
    return collect(catalogue.order_by(kind).select(f"{kind}_id")).column(0).combine_chunks()


def _add_ids(users: pa.Array, items: pa.Array, more: list[str]) -> Finish:
    """Return the conversion that adds ids and split names, as dictionaries, which are written faster than text."""
    text = pa.dictionary(pa.int32(), pa.string())
    # Every row group contains the whole dictionary, and its items may be anywhere in it, so only small ones pay off.
    small = len(items) <= ROWS // 4
    splits = pa.array(SPLITS)
    names = ["user_id", "item_id", "user", "item", "value", "timestamp", "split", *more]
    types = [text, text if small else pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.int64(), text,
             *(_MORE[name] for name in more)]

    def apply(table: pa.Table) -> pa.Table:
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        user, item = columns["user"], columns["item"]
        # Rows are sorted by user, so the users of a row group are contiguous.
        first, last = user[0].as_py(), user[-1].as_py()
        columns |= {"user_id": _dictionary(pc.subtract(user, first), users.slice(first, last - first + 1)),
                    "item_id": _dictionary(item, items) if small else items.take(item),
                    "split": _dictionary(columns["split"], splits)}
        return pa.Table.from_arrays([columns[name] for name in names], schema=finish.schema)

    finish = Finish(pa.schema(list(zip(names, types, strict=True))), apply)
    return finish


def _dictionary(indices: pa.Array, values: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), values)


def write_filtered(path: Path, rows: Table, coded: CodedRows) -> None:
    """Write the sound rows that are not used, with their reason, sorted by user, item and time."""
    more = [name for name in _MORE if name in rows.columns]
    named = rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
    ordered = named.order_by("user_id", "item_id", "timestamp", "split", "value", *more, "reason")
    target = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("value", pa.float64()),
                        ("timestamp", pa.int64()), ("split", pa.string()),
                        *((name, _MORE[name]) for name in more), ("reason", pa.string())])
    batches_ = _name_splits(batches(ordered.select(*target.names), ROWS), target)
    write_table(path, target, batches_, ROWS, numbers=["timestamp"])


def _name_splits(batches_: Iterator[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    names = pa.array(SPLITS)
    for batch in batches_:
        columns = [names.take(batch["split"]) if f.name == "split" else batch[f.name].cast(f.type) for f in target]
        yield pa.RecordBatch.from_arrays(columns, schema=target)
