"""Candidates of single users or groups, as papers publish them: pairs of ids, or a list of ids in a row.

Columns: user_id or group_id, and item_id (one item), negatives (several: a JSON list, or ids divided by spaces or '|'),
or both.
"""

import numpy as np

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.beside import Rows, read_rows
from llmrec_cli.ingest.queries import read_history
from llmrec_cli.settings.base import nearest

ITEMS = ("item_id", "negatives")


def read_candidates(named: str, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids of users or groups (`who`: user | group) and of an item for each, object arrays (num_pairs,)."""
    rows = read_rows(named, "candidates", (f"{who}_id", *ITEMS))
    _require(rows, who)
    pairs = [(asked, item) for row, asked in enumerate(rows.texts(f"{who}_id")) for item in _items(rows, row, who)]
    found = np.empty((len(pairs), 2), object)
    found[:] = pairs
    return found[:, 0], found[:, 1]


def _require(rows: Rows, who: str) -> None:
    column = f"{who}_id"
    there = ", ".join(rows.columns)
    if column not in rows.columns:
        raise DataError(f"{rows.paths[0]}: no column '{column}'; there are {there}; candidates are rows of {column} "
                        f"and item_id or negatives{nearest(column, rows.columns)}")
    if not any(name in rows.columns for name in ITEMS):
        raise DataError(f"{rows.paths[0]}: no column 'item_id' and none 'negatives'; there are {there}; candidates are "
                        f"rows of {column} and item_id or negatives{nearest('item_id', rows.columns)}")


def _items(rows: Rows, row: int, who: str) -> list[str]:
    if not rows.columns[f"{who}_id"][row]:
        raise DataError(f"{rows.where(row)}: {who}_id is empty; every row needs one")
    own = [value for name in ITEMS[:1] if name in rows.columns and (value := rows.columns[name][row])]
    listed = rows.columns["negatives"][row] if "negatives" in rows.columns else None
    text = (listed or "").strip()
    found = own + (read_history(text, rows.where(row)) if text.startswith("[") or "|" in text else text.split())
    if not found:
        raise DataError(f"{rows.where(row)}: names no item; fill in item_id or negatives, or leave the row out")
    return found
