"""Interactions: which rows are sound, which of a pair's rows counts, which are kept. All of it ibis expressions."""

from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend
from ibis.expr.types import Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest import timestamps
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.engine import batches, materialised, read_staged, size
from llmrec_cli.ingest.sources import Source
from llmrec_cli.ingest.staging import Reject, Staged, stage
from llmrec_cli.settings.dataset import DatasetSettings

_LARGEST = 1e15
_SHOWN = 60


def stage_interactions(sources: list[Source], folder: Path, needed_by: str) -> Staged:
    """Stage the files of interactions. Raises DataError when there are no timestamps and a split needs them.

    `needed_by` is `split=<name>` or "".
    """
    staged = stage(sources, folder / "interactions.staged", ("user_id", "item_id"), ("value", "timestamp"))
    if needed_by and "timestamp" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'timestamp', which {needed_by} needs; use split=random or map "
                        f"it with dataset.columns.timestamp=<name>")
    return staged


def keep(connection: Backend, staged: Staged, settings: DatasetSettings, account: Account) -> tuple[Table, str]:
    """Return the interactions that are kept (split, user_id, item_id, value, timestamp) and how time was written.

    What is dropped is counted; unsound rows join the rejects. The unit is "" when there are no timestamps. Raises
    DataError when nothing is left.
    """
    raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
    unit = ""
    if "timestamp" in staged.names:
        chosen = settings.timestamp_unit
        unit = timestamps.infer_unit(raw, staged.sources) if chosen == "auto" else chosen
    checked = materialised(check(raw, staged.sources, unit))
    unsound = checked.filter(checked.reason.notnull()).select("file", "line", "column", "reason")
    staged.rejects += [Reject(str(staged.sources[row["file"]].path), row["line"], row["column"], row["reason"])
                       for batch in batches(unsound, 10_000) for row in batch.to_pylist()]
    sound = checked.filter(checked.reason.isnull())
    merged = materialised(merge_duplicates(sound, settings.duplicates, staged.sources))
    enough = merged if settings.min_value is None else merged.filter(merged.value >= settings.min_value)
    rows = core(enough, settings)
    sizes = [size(t) for t in (merged, enough, rows)]
    read, rejected = sum(staged.num_read), len(staged.rejects)
    account.counts |= {"read": read, "rejected": rejected, "duplicates": read - rejected - sizes[0],
                       "below_min_value": sizes[0] - sizes[1], "below_core": sizes[1] - sizes[2]}
    return rows, unit


def check(raw: Table, sources: list[Source], unit: str) -> Table:
    """Return file, line, user_id, item_id, value (float64), timestamp (int64), split, column and reason.

    `raw` has file, line and text columns; value becomes 1 and timestamp 0 where there is no such column. `reason` is
    null for a sound row, else it says what is wrong with `column`.
    """
    checks = [(name, raw[name].fill_null("") == "", ibis.literal("is empty")) for name in ("user_id", "item_id")]
    value, time = ibis.literal(1.0), ibis.literal(0, "int64")
    if "value" in raw.columns:
        value = ibis.cases((raw.value.re_search(timestamps.NUMBER), raw.value)).try_cast("float64")
        sound = (value.abs() <= _LARGEST).fill_null(False)
        checks.append(("value", ~sound, _shown(raw.value) + " is not a number"))
    if "timestamp" in raw.columns:
        time = timestamps.parse(raw.timestamp, unit)
        range_ = f", or {timestamps.OUT_OF_RANGE}" if unit != "order" else ""
        checks.append(("timestamp", time.isnull(), _shown(raw.timestamp) + f" is not a time in '{unit}'{range_}"))
    return raw.select(
        "file", "line", "user_id", "item_id", value=value, timestamp=time,
        split=ibis.cases(*((raw.file == n, source.split) for n, source in enumerate(sources))),
        column=ibis.cases(*((bad, name) for name, bad, _ in checks)),
        reason=ibis.cases(*((bad, reason) for _, bad, reason in checks)))


def _shown(text: ibis.expr.types.StringColumn) -> ibis.expr.types.StringColumn:
    return "'" + text.fill_null("").left(_SHOWN) + "'"


def merge_duplicates(rows: Table, policy: str, sources: list[Source]) -> Table:
    """Return one row per user, item and split: split, user_id, item_id, value, timestamp.

    First and last are by timestamp, then value; equal in both, they are the same row. Sums are made in decimals, since
    the sum of binary fractions depends on the order.
    """
    pair = ["split", "user_id", "item_id"]
    if policy == "error":
        _refuse_duplicates(rows, pair, sources)
        return rows.select(*pair, "value", "timestamp")
    if policy in ("sum", "max"):
        value = rows.value.cast("decimal(38, 9)").sum().cast("float64") if policy == "sum" else rows.value.max()
        return rows.group_by(pair).agg(value=value, timestamp=rows.timestamp.max())
    if size(rows) == size(rows.select(pair).distinct()):
        return rows.select(*pair, "value", "timestamp")
    order = [rows.timestamp, rows.value]
    order = [key.desc() for key in order] if policy == "keep_last" else order
    place = ibis.row_number().over(group_by=pair, order_by=order)
    return rows.mutate(place=place).filter(lambda t: t.place == 0).select(*pair, "value", "timestamp")


def _refuse_duplicates(rows: Table, pair: list[str], sources: list[Source]) -> None:
    place = ibis.row_number().over(group_by=pair, order_by=[rows.file, rows.line])
    second = rows.mutate(place=place).filter(lambda t: t.place == 1).order_by("file", "line").limit(1)
    for row in second.select("file", "line", "user_id", "item_id").to_pyarrow().to_pylist():
        raise DataError(f"{sources[row['file']].path}: line {row['line']}: user '{row['user_id']}' has an interaction "
                        f"with item '{row['item_id']}' already, and dataset.duplicates=error; choose keep_last, "
                        f"keep_first, sum or max, or remove the duplicates")


def core(rows: Table, settings: DatasetSettings) -> Table:
    """Drop users and items with fewer interactions than the settings ask for, until all that are left have enough."""
    least = {"user_id": settings.min_user_interactions, "item_id": settings.min_item_interactions}
    before, now = -1, size(rows)
    while now != before and max(least.values()) > 1:
        for key, number in least.items():
            if number > 1:
                enough = rows.group_by(key).agg(size=rows.count()).filter(lambda t, n=number: t["size"] >= n)
                # Materialised each round: the expression would otherwise grow with every one.
                rows = materialised(rows.semi_join(enough, key))
        before, now = now, size(rows)
    return rows
