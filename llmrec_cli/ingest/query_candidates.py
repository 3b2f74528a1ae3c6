"""Candidates that are given beside queries, from the file that `candidates=` names.

A column item_id alone, or a .txt file of one id a line, is for all queries. Beside query_id, user_id or group_id it is
for the query, or the queries of the user or group, of that id. `negatives` may hold several ids of a row, a JSON list
or ids divided by spaces, as in the files that `evaluate candidates=` takes.
"""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.beside import read_rows
from llmrec_cli.ingest.candidates import _items
from llmrec_cli.ingest.lines import lines
from llmrec_cli.ingest.sources import Source, find

KEY = "candidates"
KEYS = ("query_id", "user_id", "group_id")
ITEMS = ("item_id", "negatives")


@dataclass(frozen=True)
class Candidates:
    """What may be recommended, and to whom.

    Attributes
    ----------
    key : query_id | user_id | group_id: what `who` names; "" where the items are for all queries
    who : object array (num,) of str, whom each item is for; empty without a key
    item_ids : object array (num,) of str
    places : where each item stands, file and line
    """

    key: str
    who: np.ndarray
    item_ids: np.ndarray
    places: list[str]


def read_query_candidates(named: str) -> Candidates:
    """Return the candidates in a file; every column must have an effect."""
    paths = find(named, KEY)
    if all(".txt" in path.suffixes[-2:] for path in paths):
        found = [(stripped, f"{path}: line {number}") for path in paths
                 for number, line in enumerate(lines(Source(path, columns_key="")), 1)
                 if (stripped := line.rstrip("\r\n"))]
        if not found:
            raise DataError(f"{KEY}={named}: is empty; it needs one item_id a line")
        return Candidates("", _objects([]), _objects([item for item, _ in found]), [place for _, place in found])
    rows = read_rows(named, KEY, (*KEYS, *ITEMS))
    rows.refuse_unused(KEY, (*KEYS, *ITEMS), "candidates have item_id, and one of query_id, user_id and group_id where "
                                             "they are not for all; leave the column out")
    keys = [name for name in KEYS if name in rows.columns]
    if len(keys) > 1:
        raise DataError(f"{rows.paths[0]}: has both '{keys[0]}' and '{keys[1]}'; candidates are found by one of them; "
                        f"leave the other out")
    if "negatives" not in rows.columns or not keys:
        rows.filled("item_id")
    who = rows.filled(keys[0]) if keys else [""] * len(rows)
    given = []
    for row, (item, several) in enumerate(zip(rows.texts("item_id"), rows.texts("negatives"), strict=True)):
        items = [*([item] if item else []), *_items(several, rows.where(row))]
        if not items:
            raise DataError(f"{rows.where(row)}: negatives is empty; every row needs one")
        given += [(who[row], one, rows.where(row)) for one in items]
    return Candidates(keys[0] if keys else "", _objects([one for one, _, _ in given] if keys else []),
                      _objects([item for _, item, _ in given]), [place for _, _, place in given])


def _objects(values: list[str]) -> np.ndarray:
    return np.array([*values, None], object)[:-1]
