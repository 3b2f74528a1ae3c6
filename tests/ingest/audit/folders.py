"""Handmade folders of prepared data, and their audit."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.ingest.audit.audit import audit
from llmrec_cli.ingest.engine import engine
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings
from llmrec_cli.settings.split import GivenSettings, SplitSettings

Row = tuple[str, str, float, int, str]
"""user_id, item_id, value, timestamp, split."""
Entity = dict[str, str]
REJECTS = pa.schema([("file", pa.string()), ("line", pa.int64()), ("column", pa.string()), ("reason", pa.string())])


def write_folder(folder: Path, rows: Sequence[Row], items: Sequence[Entity] = (), users: Sequence[Entity] = (),
                 **tables: pa.Table) -> Path:
    """Write prepared data; integer ids follow the order of ids. `items` and `users` give texts and titles."""
    numbers = {}
    for place, (kind, expected_) in enumerate((("user", users), ("item", items))):
        ids = sorted({row[place] for row in rows} | {entity[f"{kind}_id"] for entity in expected_})
        numbers[kind] = {name: n for n, name in enumerate(ids)}
        message = {entity[f"{kind}_id"]: entity for entity in expected_}
        columns = dict.fromkeys(["title", "text", *(key for entity in expected_ for key in entity)])
        described = [{kind: n, f"{kind}_id": name, "attributes": [],
                      **{c: message.get(name, {}).get(c, name if c in ("title", f"{kind}_id") else "") for c in
                      columns}}
                     for n, name in enumerate(ids)]
        pq.write_table(pa.Table.from_pylist(described), folder / f"{kind}s.parquet")
    pq.write_table(interactions(rows, numbers), folder / "interactions.parquet")
    pq.write_table(pa.Table.from_pylist([], REJECTS), folder / "rejects.parquet")
    for name, table in tables.items():
        pq.write_table(interactions(table, numbers) if isinstance(table, list) else table, folder / f"{name}.parquet")
    return folder


def interactions(rows: Sequence[Row], numbers: dict[str, dict[str, int]]) -> pa.Table:
    """Return rows in the format of interactions.parquet."""
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("user", pa.int64()),
                        ("item", pa.int64()), ("value", pa.float64()), ("timestamp", pa.int64()),
                        ("split", pa.string())])
    columns = [[numbers["user"][u], numbers["item"][i]] for u, i, *_ in rows]
    return pa.table([[r[0] for r in rows], [r[1] for r in rows], [c[0] for c in columns], [c[1] for c in columns],
                     [r[2] for r in rows], [r[3] for r in rows], [r[4] for r in rows]], schema=schema) \
        .sort_by([("user", "ascending"), ("timestamp", "ascending")])


def audited(folder: Path, split: SplitSettings | None = None, unit: str = "s",
            **counts: int) -> tuple[dict[str, Any], Account]:
    """Return the audit of a folder and its account; all rows count as read unless `counts` differs."""
    remaining = sum(pq.read_metadata(folder / f"{name}.parquet").num_rows for name in
               ("interactions", "negatives", "filtered") if (folder / f"{name}.parquet").is_file())
    account = Account({"read": remaining, "rejected": 0, "duplicates": 0, **counts})
    with tempfile.TemporaryDirectory() as scratch, engine(DuckDbSettings(), Path(scratch)) as connection:
        return audit(connection, folder, FilesSettings(timestamp_unit="s"), split or GivenSettings(), unit,
                     account), account


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one of the leakage checks."""
    one: dict[str, Any] = next(c for c in result["leakage"] if c["name"] == name)
    return one
