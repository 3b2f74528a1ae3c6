"""The Parquet files of a folder of prepared data, as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, read_staged, size
from llmrec_cli.ingest.output.writing import TABLES

SHOWN = 3
"""Examples listed for each finding."""
_LONGEST = 80


class Folder:
    """Tables that `prepare` wrote, each read when first requested."""

    def __init__(self, connection: BaseBackend, path: Path) -> None:
        self.connection, self.path = connection, path
        self._tables: dict[str, Table] = {}

    def has(self, name: str) -> bool:
        """Return True if <name>.parquet exists."""
        return (self.path / f"{name}.parquet").is_file()

    def table(self, name: str) -> Table:
        """Return the table in <name>.parquet."""
        if name not in self._tables:
            self._tables[name] = read_staged(self.connection, self.path / f"{name}.parquet")
        return self._tables[name]

    def size(self, name: str) -> int:
        """Return the number of rows of <name>.parquet; 0 if it does not exist."""
        return size(self.table(name)) if self.has(name) else 0

    def entities(self, kind: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return <kind>_id and title of a few users, items or groups (`kind`) by number; groups may have no title."""
        if kind == "group" and not self.has("group_texts"):
            named = self.table("groups").select("group", "group_id").distinct()
            rows = collect(named.filter(named.group.isin([int(n) for n in numbers]))).to_pylist() if numbers else []
            return {row["group"]: {"group_id": row["group_id"]} for row in rows}
        table = self.table(TABLES[kind])
        rows = collect(table.filter(table[kind].isin([int(n) for n in numbers]))
                       .select(kind, f"{kind}_id", "title")).to_pylist() if numbers else []
        return {row[kind]: {f"{kind}_id": row[f"{kind}_id"], "title": shorten(row["title"])} for row in rows}

    def pairs(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return user_id, item_id and the item's title, and all other columns, for rows with user and item."""
        users = self.entities("user", sorted({row["user"] for row in rows}))
        items = self.entities("item", sorted({row["item"] for row in rows}))
        return [{"user_id": users[row["user"]]["user_id"], **items[row["item"]],
                 **{key: value for key, value in row.items() if key not in ("user", "item")}} for row in rows]


def shorten(text: str) -> str:
    """Return the text, cut to 80 characters."""
    return text if len(text) <= _LONGEST else text[:_LONGEST - 1] + "…"


def share(part: int | float, whole: int | float) -> float:
    """Return part / whole, 0 for an empty whole."""
    return round(part / whole, 6) if whole else 0.0
