"""Interactions that come after the prepared data, from the file that `interactions=` names: a day's feed, say.

Columns are those of prepared interactions: user_id and item_id, and where there are any value, timestamp and event.
What prepared files have beside them (user, item, split) is no use here but may be there, so that a slice of such a
file can be given as it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.beside import Rows, read_rows
from llmrec_cli.ingest.timestamps import NUMBER
from llmrec_cli.scoring.topk import item_hash_ranks

KEY = "interactions"
COLUMNS = ("user_id", "item_id", "value", "timestamp", "event")
OF_PREPARED = ("user", "item", "split")
_NUMBER = re.compile(NUMBER)
SECONDS_FROM, MILLISECONDS_FROM = 1e8, 1e11
"""Numbers from here on are seconds, and milliseconds, as in `ingest.timestamps`; smaller ones are an order."""


@dataclass(frozen=True)
class NewInteractions:
    """Positive interactions in order of time.

    Attributes
    ----------
    user_ids, item_ids : object arrays (num,) of str
    values : float32 (num,), 1 where the file has none
    timestamps : int64 (num,), milliseconds since 1970 UTC; None where the file has none, or a mere order
    rows, row : the rows of the file, and of each interaction its row, to name it in an error
    num_dropped : rows that are no positives: their value is 0 or below, or below the least that the model's data took
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    values: np.ndarray
    timestamps: np.ndarray | None
    rows: Rows
    row: np.ndarray
    num_dropped: int

    def __len__(self) -> int:
        return len(self.row)


def read_new_interactions(named: str, positives: Mapping[str, Any]) -> NewInteractions:
    """Return the interactions in the file. `positives` has the min_value and the event_weights of the model's data."""
    rows = read_rows(named, KEY, COLUMNS)
    rows.refuse_unused(KEY, (*COLUMNS, *OF_PREPARED), "it has user_id, item_id, value, timestamp and event; leave the "
                                                      "column out")
    ids = {name: np.array([*rows.filled(name), None], object)[:-1] for name in ("user_id", "item_id")}
    weights = positives.get("event_weights") or {}
    values = _values(rows, weights)
    # What has no value is interest as it is; the least value is about those that have one.
    least = positives.get("min_value") if weights or "value" in rows.columns else None
    positive = values > 0 if least is None else (values > 0) & (values >= least)
    times = _times(rows) if "timestamp" in rows.columns else None
    chosen = np.arange(len(rows)) if times is None else _in_order(times, ids)
    chosen = chosen[positive[chosen]]
    moments = None if times is None or times.max() < SECONDS_FROM * 1000 else times[chosen]
    return NewInteractions(ids["user_id"][chosen], ids["item_id"][chosen], values[chosen], moments, rows, chosen,
                           int((~positive).sum()))


def _values(rows: Rows, weights: Mapping[str, float]) -> np.ndarray:
    """Return the value of each row, float32, times the weight of its event where events have weights."""
    values = np.array([_number(rows, row, "value", text) for row, text in enumerate(rows.texts("value"))]
                      if "value" in rows.columns else [1.0] * len(rows), np.float32)
    if not weights:
        if "event" in rows.columns:
            raise DataError(f"{rows.paths[0]}: the column 'event' has no effect in {KEY}=, since the model's data was "
                            f"prepared without dataset.event_weights; leave it out")
        return values
    for row, event in enumerate(rows.texts("event")):
        if event not in weights:
            raise DataError(f"{rows.where(row)}: event '{event[:60]}' has no weight in the model's data; there are "
                            f"{', '.join(weights)}")
        values[row] *= weights[event]
    return values


def _in_order(times: np.ndarray, ids: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the rows in order of time, ties by a salted hash of user and item."""
    pairs = (f"{user}\0{item}" for user, item in zip(ids["user_id"], ids["item_id"], strict=True))
    return np.lexsort((item_hash_ranks(pairs), times))


def _times(rows: Rows) -> np.ndarray:
    """Return the timestamps, int64: milliseconds since 1970, or an order where all numbers are small."""
    texts = rows.texts("timestamp")
    numeric = [bool(_NUMBER.match(text)) for text in texts]
    if any(numeric) and not all(numeric):
        a, b = numeric.index(True), numeric.index(False)
        raise DataError(f"{rows.where(b)}: timestamp '{texts[b][:60]}', and '{texts[a][:60]}' in line {rows.line[a]}, "
                        f"are written in different ways, so their order is not known; write all alike")
    if not numeric[0]:
        return np.array([_moment(rows, row, text) for row, text in enumerate(texts)], np.int64)
    found = np.array([_number(rows, row, "timestamp", text) for row, text in enumerate(texts)])
    in_seconds = SECONDS_FROM <= found.max() < MILLISECONDS_FROM
    return np.round(found * (1000 if in_seconds else 1)).astype(np.int64)


def _number(rows: Rows, row: int, column: str, text: str) -> float:
    try:
        found = float(text) if _NUMBER.match(text) else float("nan")
    except ValueError:
        found = float("nan")
    if not np.isfinite(found):
        raise DataError(f"{rows.where(row)}: {column} '{text[:60]}' is not a number; repair the row or leave it out")
    return found


def _moment(rows: Rows, row: int, text: str) -> int:
    """Return an ISO 8601 time as milliseconds since 1970; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DataError(f"{rows.where(row)}: timestamp '{text[:60]}' is neither a number nor an ISO 8601 time; write "
                        f"2026-11-29T12:00:00 or seconds since 1970") from error
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
