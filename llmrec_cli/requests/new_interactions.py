"""New interactions, newer than the prepared data, from the file in `interactions=`, for example a daily feed.

Columns are those of prepared interactions: user_id and item_id, and optionally value, timestamp and event. The other
columns of prepared files (user, item, split) are ignored, so that a part of such a file can be used as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from llmrec_cli.data.file_rules import FileRules, prepared_columns, rules_for
from llmrec_cli.data.reject_reasons import OUT_OF_RANGE
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect
from llmrec_cli.ingest.interactions.filters import resolved_policy
from llmrec_cli.ingest.readers.timestamps import NUMBER, are_dates, in_era, milliseconds_of, parse, unit_of
from llmrec_cli.ingest.readers.value_advice import decimal_point_advice
from llmrec_cli.requests.files import Rows, read_rows
from llmrec_cli.scoring.topk import item_hash_ranks

_KEY = "interactions"
_COLUMNS = ("user_id", "item_id", "value", "timestamp", "event")
_OF_PREPARED = ("user", "item", "split")
_NUMBER = re.compile(NUMBER)


@dataclass(frozen=True)
class NewInteractions:
    """The interactions of the file in order of time, including those without positive feedback.

    Attributes
    ----------
    user_ids, item_ids : object arrays (num,) of str
    values : float32 (num,)
    timestamps : int64 (num,), milliseconds since 1970 UTC; None if the file has none, or only an order
    rows, row : the rows of the file, and the row of each interaction, for errors
    duplicates : keep_last | keep_first | sum | max | error, rule for several interactions of a pair
    least : minimum value of a positive; None: any value above 0
    num_ignored : number of rows of the file whose event has weight 0; they are in none of the arrays
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    values: np.ndarray
    timestamps: np.ndarray | None
    rows: Rows
    row: np.ndarray
    duplicates: str
    least: float | None
    num_ignored: int = 0

    def __len__(self) -> int:
        return len(self.row)

    def are_positive(self, values: np.ndarray) -> np.ndarray:
        """Return a mask of values, after duplicates are merged, that are positive feedback, bool (num_values,)."""
        positive: np.ndarray = values > 0 if self.least is None else (values > 0) & (values >= self.least)
        return positive


def read_new_interactions(path: str, positives: Mapping[str, Any], usual_value: float,
                          rules: Mapping[str, FileRules] | None = None) -> NewInteractions:
    """Read the interactions in the file, with values and merging rule as in the model's data.

    `positives` are the settings of `prepare`: min_value, event_weights, duplicates and has_values. If the data has
    values but no event weights, rows of a file without values get `usual_value`. `rules` say how `prepare` read its
    files; the other columns of these files are ignored.
    """
    prepared = rules_for(rules, "interactions")
    rows = read_rows(path, _KEY, _COLUMNS, rules=prepared)
    rows.refuse_unused(_KEY, (*_COLUMNS, *_OF_PREPARED, *prepared_columns(prepared)),
                       "it has user_id, item_id, value, timestamp and event; leave the column out")
    weights = positives.get("event_weights") or {}
    num_read = len(rows)
    if 0 in weights.values():
        # First of all, as in `prepare`: an event without weight may have no item and no value.
        rows = rows.take([row for row, event in enumerate(rows.texts("event")) if weights.get(event) != 0])
    ids = {name: np.array([*rows.filled(name), None], object)[:-1] for name in ("user_id", "item_id")}
    # Data without a value column has 1 per row, or counts with dataset.duplicates=sum.
    counts = bool(weights) or positives.get("has_values") is False
    values = _values(rows, weights, 1.0 if counts else usual_value)
    # Rows without a value are positive; min_value applies to rows with a value.
    least = positives.get("min_value") if weights or "value" in rows.columns else None
    times, are_moments = _times(rows, prepared) if "timestamp" in rows.columns and len(rows) else (None, False)
    order = np.arange(len(rows)) if times is None else _in_order(times, ids)
    policy = resolved_policy(positives.get("duplicates") or "auto", weights)
    return NewInteractions(ids["user_id"][order], ids["item_id"][order], values[order],
                           times[order] if times is not None and are_moments else None, rows, order, policy, least,
                           num_read - len(rows))


def _values(rows: Rows, weights: Mapping[str, float], default: float) -> np.ndarray:
    """Return the value of each row, float32, times the weight of its event where events have weights."""
    values = np.array([_number(rows, row, "value", text) for row, text in enumerate(rows.texts("value"))]
                      if "value" in rows.columns else [default] * len(rows), np.float32)
    if not weights:
        if "event" in rows.columns:
            raise DataError(f"{rows.paths[0]}: the column 'event' has no effect in {_KEY}=, since the model's data was "
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


def _times(rows: Rows, rules: Sequence[FileRules]) -> tuple[np.ndarray, bool]:
    """Return the timestamps, int64, and True if they are moments (milliseconds since 1970), False for an order."""
    texts = rows.texts("timestamp")
    for unit in (one.time for one in rules if one.time):
        times = _in_unit(rows, texts, unit)
        if times is not None:
            return times, unit != "order"
    numeric = [bool(_NUMBER.match(text)) for text in texts]
    for row, text in enumerate(texts):
        if comma := decimal_point_advice(text):
            raise DataError(f"{rows.where(row)}: timestamp '{text[:60]}' has a decimal comma; {comma}")
    if any(numeric) and not all(numeric):
        a, b = numeric.index(True), numeric.index(False)
        raise DataError(f"{rows.where(b)}: timestamp '{texts[b][:60]}', and '{texts[a][:60]}' in line {rows.line[a]}, "
                        f"have different formats, so their order is unknown; use one format")
    if not numeric[0]:
        return np.array([_moment(rows, row, text) for row, text in enumerate(texts)], np.int64), True
    numbers = [_number(rows, row, "timestamp", text) for row, text in enumerate(texts)]
    unit = _unit(rows, numbers, texts)
    times = np.array([milliseconds_of(number, unit) for number in numbers], np.int64)
    outside = np.flatnonzero(~in_era(times))
    if unit != "order" and len(outside):
        row = int(outside[0])
        raise DataError(f"{rows.where(row)}: timestamp '{texts[row][:60]}', read as {unit}, {OUT_OF_RANGE}; repair "
                        f"the row or leave it out")
    return times, unit != "order"


def _in_unit(rows: Rows, texts: Sequence[str], unit: str) -> np.ndarray | None:
    """Return the timestamps in the unit or pattern of the prepared files, int64; None if none of them fits it.

    Raises DataError for the first that does not fit if others do.
    """
    connection = ibis.duckdb.connect()
    try:
        table = connection.create_table("texts", pa.table({"row": range(len(texts)), "text": pa.array(texts)}))
        parsed = collect(table.select("row", time=parse(table.text, unit)).order_by("row"))["time"].to_pylist()
    finally:
        connection.disconnect()
    if all(time is None for time in parsed):
        return None
    if None in parsed:
        row = parsed.index(None)
        raise DataError(f"{rows.where(row)}: timestamp '{texts[row][:60]}' is not a time in '{unit}', as others of the "
                        f"file and those of the prepared files are; repair the row or leave it out")
    return np.array(parsed, np.int64)


def _unit(rows: Rows, numbers: Sequence[float], texts: Sequence[str]) -> str:
    """Return the unit of all numbers, by the rule of `prepare`: order | s | ms | us | ns."""
    units = [unit_of(number) for number in numbers]
    if "bad" in units:
        row = units.index("bad")
        raise DataError(f"{rows.where(row)}: timestamp '{texts[row][:60]}' is neither a time in seconds, ms, us or ns "
                        f"since 1970 nor an order; write 2026-11-29T12:00:00 or seconds since 1970")
    if set(units) == {"order"} and are_dates(numbers):
        raise DataError(f"{rows.where(0)}: timestamp '{texts[0][:60]}' and all others are dates as numbers, YYYYMMDD; "
                        f"write them 2026-11-29")
    # Some small numbers among others are times in 1970, or missing times written as 0.
    several = sorted(set(units) - {"order"}, key=units.index)
    if len(several) > 1:
        examples = ", ".join(f"line {rows.line[row]} has '{texts[row][:60]}' ({unit})"
                             for unit in several for row in [units.index(unit)])
        raise DataError(f"{rows.paths[0]}: timestamps have more than one unit: {examples}; use one unit")
    return several[0] if several else "order"


def _number(rows: Rows, row: int, column: str, text: str) -> float:
    try:
        number = float(text) if _NUMBER.match(text) else float("nan")
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{rows.where(row)}: {column} '{text[:60]}' is not a number; "
                        f"{decimal_point_advice(text) or 'repair the row or leave it out'}")
    return number


def _moment(rows: Rows, row: int, text: str) -> int:
    """Return an ISO 8601 time as milliseconds since 1970; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DataError(f"{rows.where(row)}: timestamp '{text[:60]}' is neither a number nor an ISO 8601 time; write "
                        f"2026-11-29T12:00:00 or seconds since 1970") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
