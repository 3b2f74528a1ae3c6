"""Validation of interaction rows. Columns are text, as staged, or have the types of a Parquet file."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import duckdb
import ibis
from ibis.backends import BaseBackend
from ibis.expr.types import BooleanColumn, BooleanValue, IntegerColumn, NumericColumn, StringColumn, Table, Value

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import ResourceError
from llmrec_cli.ingest.engine import batches, collect, read_staged, scan
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.parquet import check_parquet
from llmrec_cli.ingest.readers.rejects import Reject
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.ingest.readers.totals import total_of
from llmrec_cli.ingest.readers.value_advice import DECIMAL_COMMA

_LARGEST = 1e15
_SHOWN = 60


@dataclass(frozen=True)
class RawRows:
    """Raw rows of one kind of file.

    Attributes
    ----------
    parts : tables with file (place in `files`), line and the present ones of our columns
    files : paths as in the settings
    names : the present ones of our columns
    keys : the two id columns: user_id or group_id, and item_id
    unit : unit of the timestamps, "" without timestamps
    weights : event -> weight; empty without event weights
    is_presplit : True if the files give the split of a row
    earlier : sound rows of earlier data: the keys, value, timestamp, split (int8), and event if present
    """

    parts: list[Table]
    files: list[str]
    names: list[str]
    keys: tuple[str, str]
    unit: str = ""
    weights: dict[str, float] | None = None
    is_presplit: bool = False
    earlier: list[Table] = field(default_factory=list)


def read_parts(connection: BaseBackend, staged: StagedFiles) -> list[Table]:
    """Return the staged rows, and the rows of each Parquet file that is read directly."""
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
def checking_parquet(staged: StagedFiles) -> Iterator[None]:
    """On an engine error, check the directly read Parquet files and raise DataError if one is damaged."""
    try:
        yield
    except (ResourceError, duckdb.Error):
        for direct in staged.direct:
            check_parquet(staged.sources[direct.number], list(direct.columns.values()))
        raise


def divide_by_weight(part: Table, raw: RawRows) -> tuple[Table, Table | None]:
    """Return the rows of `part` whose event counts, and those whose event has weight 0; None if no event has.

    Events without an item by nature, like the start of an app, get weight 0, so their rows need not be sound.
    """
    ignored = [event for event, weight in (raw.weights or {}).items() if weight == 0]
    if not ignored:
        return part, None
    has_weight_0 = identifier(part.event).isin(ignored).fill_null(False)
    return part.filter(~has_weight_0), part.filter(has_weight_0)


def identifier(column: Value) -> StringColumn:
    """Return a column as text ids; "" and null are not ids."""
    return column if column.type().is_string() else column.cast("string")


def number(column: Value) -> NumericColumn:
    """Return a column as float64, null where a value is not a finite number of a sensible size."""
    value = read_number(column)
    return ibis.cases((is_sensible(value), value))


def is_sensible(value: NumericColumn) -> BooleanColumn:
    """Return True where numbers from `read_number` have a sensible size; null for null."""
    return value.abs() <= _LARGEST


def read_number(column: Value) -> NumericColumn:
    """Return a column as float64 like `number`, but clip too large values to twice _LARGEST.

    Separate from `number`, since engines evaluate an expression twice if it is in a condition and in its result.
    """
    value = column.cast("float64") if column.type().is_numeric() else _parsed(identifier(column))
    return value.clip(-2 * _LARGEST, 2 * _LARGEST)


def _parsed(text: StringColumn) -> NumericColumn:
    return ibis.cases((text.re_search(timestamps.NUMBER), text)).try_cast("float64")


def value_of(rows: Table, raw: RawRows) -> NumericColumn:
    """Return the value of each row, 1 without a column of values, times the weight of its event.

    Bad values are null or not `is_sensible`.
    """
    if not raw.weights:
        return read_number(rows.value) if "value" in rows.columns else ibis.literal(1.0)
    value = number(rows.value) if "value" in rows.columns else ibis.literal(1.0)
    weight = ibis.cases(*((rows.event == event, ibis.literal(float(w))) for event, w in raw.weights.items()))
    return (value * weight).cast("float64")


def time_of(rows: Table, raw: RawRows) -> IntegerColumn:
    """Return the timestamp of each row, 0 without a column of timestamps; bad ones are null or out of range."""
    return timestamps.read(rows.timestamp, raw.unit) if "timestamp" in rows.columns else ibis.literal(0, "int64")


def order_of(rows: Table) -> IntegerColumn:
    """Return dataset.columns.order of each row; bad ones are null or below 0."""
    return timestamps.read(rows.order, "order")


def is_sound(rows: Table, raw: RawRows) -> BooleanColumn:
    """Return True where value, timestamp and order, as the functions above return them, are valid."""
    good = is_sensible(rows.value) & timestamps.in_range(rows.timestamp, raw.unit)
    return (good & (rows.order >= 0) if "order" in rows.columns else good).fill_null(False)


def unsound_rows(rows: Table, raw: RawRows, is_total: BooleanValue | None = None) -> Table:
    """Return file, line, column and reason of the bad rows; `is_total` is True for bad rows of totals."""
    def filled(template: str, column: Value) -> StringColumn:
        before, after = template.split("{value}")
        return before + identifier(column).fill_null("").left(_SHOWN) + after

    def cause(column: Value) -> StringColumn:
        has_comma = identifier(column).re_search(DECIMAL_COMMA)
        return ibis.cases((has_comma, reasons.HAS_DECIMAL_COMMA), else_="")

    checks: list[tuple[str, BooleanValue, StringColumn]] = [
        (name, identifier(rows[name]).fill_null("") == "", ibis.literal(reasons.EMPTY)) for name in raw.keys]
    if is_total is not None:
        checks.insert(0, ("", is_total, ibis.literal(reasons.LAST_TOTAL)))
    if "value" in rows.columns:
        checks.append(("value", number(rows.value).isnull(), filled(reasons.NOT_A_NUMBER, rows.value) +
                       cause(rows.value)))
    if raw.weights:
        checks.append(("event", ~identifier(rows.event).fill_null("").isin(list(raw.weights)),
                       filled(reasons.NO_WEIGHT, rows.event)))
    if "timestamp" in rows.columns:
        why = (reasons.NOT_IN_ORDER if raw.unit == "order" else reasons.NOT_A_TIME).replace("{unit}", raw.unit)
        checks.append(("timestamp", timestamps.parse(rows.timestamp, raw.unit).isnull(), filled(why, rows.timestamp) +
                       cause(rows.timestamp)))
    if "order" in rows.columns:
        checks.append(("order", timestamps.parse(rows.order, "order").isnull(),
                       filled(reasons.NOT_AN_ORDER, rows.order)))
    files = ibis.cases(*((rows.file == n, name) for n, name in enumerate(raw.files)))
    problems = rows.select(file=files, line=rows.line,
                        column=ibis.cases(*((bad, name) for name, bad, _ in checks)),
                        reason=ibis.cases(*((bad, reason) for _, bad, reason in checks)))
    return problems.filter(problems.reason.notnull())


def are_totals(rows: Table, staged: StagedFiles, ids: Sequence[str]) -> BooleanValue:
    """Return the condition for the rows of totals at the end of a file, and add their files to `staged.totals`.

    `rows` has file, line and other columns, among them `ids`, of which at least one is empty: an item may have the id
    Total. JSON lines have no such rows.
    """
    last = [(rows.file == n) & (rows.line == line) for n, line in enumerate(staged.last_lines)
            if staged.sources[n].format != "jsonl" and staged.sources[n].read is None]
    if not last:
        return ibis.literal(False)
    texts = {name: rows[name].cast("string").fill_null("") for name in rows.columns if name not in ("file", "line")}
    without_id = ibis.or_(*(texts[name] == "" for name in ids))
    places = []
    for row in collect(rows.filter(ibis.or_(*last), without_id).select("file", "line", **texts)).to_pylist():
        file, line = row.pop("file"), row.pop("line")
        source = staged.sources[file]
        keys = [name for name in (*ids, "timestamp") if name in texts]
        # The columns that are not used may have the name of the total, or a text.
        whole = _fields(source, line) if source.format == "delimited" else row
        if total_of(whole, ()) and (total_of(row, keys) or not any(row.values())):
            places.append((file, line))
            staged.totals.append(str(source.path))
    return ibis.or_(*((rows.file == file) & (rows.line == line) for file, line in places)) if places \
        else ibis.literal(False)


def _fields(source: Source, line: int) -> dict[str, str]:
    """Return the fields of a line of a delimited file under their place."""
    form = source.text_format
    assert form is not None
    [fields] = csv.reader(list(islice(lines(source), line - 1, line)), delimiter=form.delimiter,
                          quotechar=form.quote or None, quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
                          escapechar=form.escape or None)
    return {str(n): text for n, text in enumerate(fields)}


def reject_empty(raw: Table, staged: StagedFiles, columns: tuple[str, ...]) -> None:
    """Add the rows of `raw` (file, line, columns of text) with an empty field in one of `columns` to the rejects."""
    column = ibis.cases(*((raw[name].fill_null("") == "", name) for name in columns))
    empty = raw.select("file", "line", column=column)
    for batch in batches(empty.filter(empty.column.notnull()).order_by("file", "line"), 1 << 16):
        staged.rejects.extend(Reject(str(staged.sources[row["file"]].path), row["line"], row["column"], reasons.EMPTY)
                              for row in batch.to_pylist())
