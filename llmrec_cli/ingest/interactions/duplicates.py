"""Several interactions of one user with one item: which of them counts."""

from collections.abc import Mapping, Sequence

import ibis
from ibis.expr.types import Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect, dropped, materialised, size
from llmrec_cli.ingest.interactions.coding import Coded
from llmrec_cli.ingest.interactions.order import ORDER, row_hash
from llmrec_cli.ingest.readers.checks import Raw, identifier
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.settings.dataset import DatasetSettings

PAIR = ("split", "user", "item")


def policy_of(settings: DatasetSettings, weighted: bool = True) -> str:
    """Return keep_last | keep_first | sum | max | error: what dataset.duplicates=auto means here.

    `weighted` says whether the rows have events. With event weights a view after a purchase must not undo it, so the
    strongest counts; where a weight is negative an event takes back another, so they are added up.
    """
    return resolved_policy(settings.duplicates, settings.event_weights if weighted else {})


def resolved_policy(duplicates: str, event_weights: Mapping[str, float]) -> str:
    """Return keep_last | keep_first | sum | max | error: what `duplicates`, which may be auto, means with weights."""
    if duplicates != "auto":
        return duplicates
    if not event_weights:
        return "keep_last"
    return "sum" if min(event_weights.values()) < 0 else "max"


def merge_duplicates(coded: Coded, policy: str, pair: Sequence[str] = PAIR) -> Table:
    """Return one row per user and item, and split where `pair` has it.

    First and last are by time, dataset.columns.order, then a salted hash of the row; equal in all, they are the same
    row. The time of the strongest is that of the first as strong. Sums are made in decimals, since the sum of binary
    fractions depends on the order, and have the time of the last.
    """
    rows = coded.rows
    counted = rows.group_by(pair).agg(times=rows.count())
    twice = materialised(counted.filter(counted.times > 1).select(*pair))
    if size(twice) == 0:
        return rows
    # Few pairs occur twice, so that only they are sorted.
    once, several = rows.anti_join(twice, pair), rows.semi_join(twice, pair)
    named = several.inner_join(coded.users, "user").inner_join(coded.items, "item")
    several = named.mutate(hash=row_hash(named)).select(*rows.columns, "hash")
    names = ["timestamp", *([ORDER] if ORDER in rows.columns else []), "hash", "value",
             *(["event"] if "event" in rows.columns else [])]
    if policy == "max":
        names.remove("value")
        order = [several.value.desc(), *(several[name].asc() for name in names)]
    else:
        order = [several[name].asc() if policy == "keep_first" else several[name].desc() for name in names]
    merged = several.mutate(place=ibis.row_number().over(group_by=pair, order_by=order))
    if policy == "sum":
        total = several.value.cast("decimal(38, 9)").sum()
        merged = merged.mutate(value=total.over(group_by=pair).cast("float64"))
    merged = merged.filter(lambda t: t.place == 0)
    found = materialised(once.select(*rows.columns).union(merged.select(*rows.columns)))
    dropped(twice)
    return found


def refuse_duplicates(raw: Raw, staged: Staged) -> None:
    """Raise DataError for the second row of a pair; which one that is goes by file and line."""
    pair = [*raw.keys, "part"]
    parts = [part.select("file", "line", **{key: identifier(part[key]) for key in raw.keys}) for part in raw.parts]
    rows = parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]
    codes = [(rows.file == n, source.split) for n, source in enumerate(staged.sources)]
    rows = rows.mutate(part=ibis.cases(*codes))
    place = ibis.row_number().over(group_by=pair, order_by=[rows.file, rows.line])
    second = rows.mutate(place=place).filter(lambda t: t.place == 1).order_by("file", "line").limit(1)
    for row in collect(second).to_pylist():
        raise DataError(f"{raw.files[row['file']]}: line {row['line']}: user '{row['user_id']}' has an interaction "
                        f"with item '{row['item_id']}' already, and dataset.duplicates=error; choose keep_last, "
                        f"keep_first, sum or max, or remove the duplicates")
