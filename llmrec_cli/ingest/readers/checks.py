"""Checks of rows of interactions. Columns are text, as staged, or have the types of a Parquet file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import ibis
from ibis.backends import BaseBackend
from ibis.expr.types import BooleanColumn, BooleanValue, IntegerColumn, NumericColumn, StringColumn, Table, Value

from llmrec_cli.errors import ResourceError
from llmrec_cli.ingest.engine import batches, read_staged, scan
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.parquet import check_parquet
from llmrec_cli.ingest.readers.rejects import Reject
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.ingest.readers.value_advice import DECIMAL_COMMA, HAS_DECIMAL_COMMA

_LARGEST = 1e15
_SHOWN = 60


@dataclass(frozen=True)
class Raw:
    """All rows of one kind of file as they were read.

    Attributes
    ----------
    parts : tables with file (place in `files`), line and those of our columns that there are
    files : paths, as a person named them
    names : our columns that there are
    keys : the two id columns: user_id or group_id, and item_id
    unit : how timestamps are written, "" without any
    weights : event -> weight; empty for no weighting
    given : whether the files say which split a row is in
    earlier : rows that were sound before: the keys, value, timestamp, split (int8) and event where there is one
    """

    parts: list[Table]
    files: list[str]
    names: list[str]
    keys: tuple[str, str]
    unit: str = ""
    weights: dict[str, float] | None = None
    given: bool = False
    earlier: list[Table] = field(default_factory=list)


def read_parts(connection: BaseBackend, staged: Staged) -> list[Table]:
    """Return the staged rows and the rows of each Parquet file that is read where it is."""
    parts = []
    if len(staged.direct) < len(staged.sources):
        text = read_staged(connection, staged.path)
        parts.append(text.rename({name: f"c{n}" for n, name in enumerate(staged.names)}))
    for direct in staged.direct:
        rows = scan(connection, direct.path)
        parts.append(rows.select(file=ibis.literal(direct.number, "int32"), line=rows.line.cast("int64"),
                                 **{ours: rows[theirs] for ours, theirs in direct.columns.items()}))
    return parts


@contextmanager
def reading(staged: Staged) -> Iterator[None]:
    """Find out, when an engine fails, whether a Parquet file that it reads where it is has damaged pages."""
    try:
        yield
    except (ResourceError, duckdb.Error):
        for direct in staged.direct:
            check_parquet(staged.sources[direct.number], list(direct.columns.values()))
        raise


def identifier(column: Value) -> StringColumn:
    """Return an id as the text it is; "" and null are no ids."""
    return column if column.type().is_string() else column.cast("string")


def number(column: Value) -> NumericColumn:
    """Return float64, null where the value is no finite number of a sensible size."""
    value = read_number(column)
    return ibis.cases((sensible(value), value))


def sensible(value: NumericColumn) -> BooleanColumn:
    """Return whether numbers, as `read_number` gives them, are of a sensible size; null for null."""
    return value.abs() <= _LARGEST


def read_number(column: Value) -> NumericColumn:
    """Return what `number` does, but with what is too large as twice _LARGEST.

    Apart from `number`, for an engine works out an expression that stands in a condition and in its result twice.
    """
    value = column.cast("float64") if column.type().is_numeric() else _parsed(identifier(column))
    return value.clip(-2 * _LARGEST, 2 * _LARGEST)


def _parsed(text: StringColumn) -> NumericColumn:
    return ibis.cases((text.re_search(timestamps.NUMBER), text)).try_cast("float64")


def value_of(rows: Table, raw: Raw) -> NumericColumn:
    """Return the value of each row, 1 where there is no such column, times the weight of its event.

    Where it is bad it is null or not `sensible`.
    """
    if not raw.weights:
        return read_number(rows.value) if "value" in rows.columns else ibis.literal(1.0)
    value = number(rows.value) if "value" in rows.columns else ibis.literal(1.0)
    weight = ibis.cases(*((rows.event == event, ibis.literal(float(w))) for event, w in raw.weights.items()))
    return (value * weight).cast("float64")


def time_of(rows: Table, raw: Raw) -> IntegerColumn:
    """Return the timestamp of each row, 0 where there is no such column; where it is bad, null or out of range."""
    return timestamps.read(rows.timestamp, raw.unit) if "timestamp" in rows.columns else ibis.literal(0, "int64")


def order_of(rows: Table) -> IntegerColumn:
    """Return dataset.columns.order of each row; where it is bad, null or below 0."""
    return timestamps.read(rows.order, "order")


def sound(rows: Table, raw: Raw) -> BooleanColumn:
    """Return whether value, timestamp and order, as the functions above give them, are good."""
    good = sensible(rows.value) & timestamps.in_range(rows.timestamp, raw.unit)
    return (good & (rows.order >= 0) if "order" in rows.columns else good).fill_null(False)


def unsound(rows: Table, raw: Raw) -> Table:
    """Return file, line, column and reason of the rows that are bad."""
    def shown(column: Value) -> StringColumn:
        return "'" + identifier(column).fill_null("").left(_SHOWN) + "'"

    def cause(column: Value) -> StringColumn:
        has_comma = identifier(column).re_search(DECIMAL_COMMA)
        return ibis.cases((has_comma, HAS_DECIMAL_COMMA), else_="")

    checks: list[tuple[str, BooleanValue, StringColumn]] = [
        (name, identifier(rows[name]).fill_null("") == "", ibis.literal("is empty")) for name in raw.keys]
    if "value" in rows.columns:
        checks.append(("value", number(rows.value).isnull(), shown(rows.value) + " is not a number" +
                       cause(rows.value)))
    if raw.weights:
        checks.append(("event", ~identifier(rows.event).fill_null("").isin(list(raw.weights)),
                       shown(rows.event) + " has no weight in dataset.event_weights"))
    if "timestamp" in rows.columns:
        why = f" is not a time in '{raw.unit}'" + (f", or {timestamps.OUT_OF_RANGE}" if raw.unit != "order" else "")
        checks.append(("timestamp", timestamps.parse(rows.timestamp, raw.unit).isnull(), shown(rows.timestamp) + why +
                       cause(rows.timestamp)))
    if "order" in rows.columns:
        checks.append(("order", timestamps.parse(rows.order, "order").isnull(), shown(rows.order) + " is not a whole "
                       "number from 0, which dataset.columns.order needs"))
    files = ibis.cases(*((rows.file == n, name) for n, name in enumerate(raw.files)))
    found = rows.select(file=files, line=rows.line,
                        column=ibis.cases(*((bad, name) for name, bad, _ in checks)),
                        reason=ibis.cases(*((bad, reason) for _, bad, reason in checks)))
    return found.filter(found.reason.notnull())


def reject_empty(raw: Table, staged: Staged, columns: tuple[str, ...]) -> None:
    """Add the rows of `raw` (file, line, columns of text) that have nothing in one of `columns` to the rejects."""
    column = ibis.cases(*((raw[name].fill_null("") == "", name) for name in columns))
    empty = raw.select("file", "line", column=column)
    for batch in batches(empty.filter(empty.column.notnull()).order_by("file", "line"), 1 << 16):
        staged.rejects.extend(Reject(str(staged.sources[row["file"]].path), row["line"], row["column"], "is empty")
                              for row in batch.to_pylist())
