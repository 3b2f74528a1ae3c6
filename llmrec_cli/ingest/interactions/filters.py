"""Filters of interactions: rows left out by a setting, duplicates of a pair, and the k-core."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import ibis
from ibis.expr.types import BooleanValue, Table

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, dropped, materialised, size
from llmrec_cli.ingest.interactions.id_codes import Coded
from llmrec_cli.ingest.interactions.order import ORDER, row_hash
from llmrec_cli.ingest.interactions.temporal import typed_time
from llmrec_cli.ingest.readers.checks import Raw, identifier
from llmrec_cli.ingest.readers.staging import Staged
from llmrec_cli.settings.dataset import DatasetSettings

_REASONS = {"dropped_user": "user in dataset.drop_users", "dropped_item": "item in dataset.drop_items",
            "after_newest": "time after dataset.newest", "before_oldest": "time before dataset.oldest",
            "event_without_weight": "event whose weight is 0; dataset.event_weights"}
"""Reasons in filtered.parquet and their meaning. A row gets the first reason that applies."""


@dataclass(frozen=True)
class Selected:
    """Rows that are used, and the others with `reason`; None when no setting leaves any out.

    `counts` has the number of rows by reason, `absent` the dropped ids that no row has, by setting.
    """

    rows: Table
    left_out: Table | None = None
    counts: dict[str, int] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)


def select(coded: Coded, settings: DatasetSettings, unit: str, names: Sequence[str],
           of_groups: bool = False) -> Selected:
    """Return the rows of `coded` that the settings leave in.

    `unit` is how timestamps are written ("" without any), `names` the columns that the files have. In groups'
    interactions, where groups have the place of users, dataset.drop_users has no meaning.
    """
    found, absent = list(_by_settings(coded.rows, settings, unit, names)), {}
    for kind, key in (("user", "drop_users"), ("item", "drop_items")):
        if getattr(settings, key) and not (of_groups and kind == "user"):
            ids = coded.users if kind == "user" else coded.items
            known = collect(ids.filter(ids[f"{kind}_id"].isin(getattr(settings, key)))).to_pylist()
            there = {row[f"{kind}_id"] for row in known}
            absent[f"dataset.{key}"] = [name for name in getattr(settings, key) if name not in there]
            if known:
                found.append((f"dropped_{kind}", coded.rows[kind].isin([row[kind] for row in known])))
    if not found:
        return Selected(coded.rows, absent=absent)
    found.sort(key=lambda pair: list(_REASONS).index(pair[0]))
    marked = materialised(coded.rows.mutate(reason=ibis.cases(*((holds, reason) for reason, holds in found))))
    counts = {row["reason"]: row["size"] for row in collect(
        marked.filter(marked.reason.notnull()).group_by("reason").agg(size=lambda t: t.count())).to_pylist()}
    if not counts:
        return Selected(coded.rows, absent=absent)
    return Selected(materialised(marked.filter(marked.reason.isnull()).drop("reason")),
                    marked.filter(marked.reason.notnull()), counts, absent)


def counts_of(found: Mapping[str, int], prefix: str = "") -> dict[str, int]:
    """Return the counts by reason under the names they have in the account."""
    names = {"ignored_events": ("event_without_weight",), "dropped_ids": ("dropped_user", "dropped_item"),
             "outside_times": ("after_newest", "before_oldest")}
    return {f"{prefix}{name}": sum(found.get(reason, 0) for reason in reasons) for name, reasons in names.items()}


def _by_settings(rows: Table, settings: DatasetSettings, unit: str,
                 names: Sequence[str]) -> Iterator[tuple[str, BooleanValue]]:
    """Yield a reason and which rows it holds for, of the settings about events and times."""
    ignored = [event for event, weight in settings.event_weights.items() if weight == 0]
    if ignored and "event" in names:
        yield "event_without_weight", rows.event.isin(ignored)
    for key, reason in (("newest", "after_newest"), ("oldest", "before_oldest")):
        text = getattr(settings, key)
        if text is None:
            continue
        if not unit:
            raise ConfigError(f"dataset.{key}={text}: has no effect on interactions without a column 'timestamp'; map "
                              f"it with dataset.columns.timestamp=<name>, or leave the setting out")
        at = typed_time(text, unit, f"dataset.{key}", last=key == "newest")
        yield reason, rows.timestamp > at if key == "newest" else rows.timestamp < at


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


_ROUNDS = 4
"""Rounds that look rows up in who has gone before those that are left are written anew."""


def core(rows: Table, min_user: int, min_item: int) -> Table:
    """Drop users and items with fewer interactions than `min_user` and `min_item` until all that are left have enough.

    The result does not depend on the order of dropping (Seidman 1983).
    """
    least = {key: number for key, number in (("user", min_user), ("item", min_item)) if number > 1}
    if not least:
        return rows
    base = left = rows
    gone: dict[str, Table] = {}
    for attempt in count(1):
        stable = True
        for key, number in least.items():
            counted = left.group_by(key).agg(size=left.count())
            few = materialised(counted.filter(counted["size"] < number).select(key))
            if size(few) == 0:
                continue
            stable = False
            gone[key] = materialised(gone[key].union(few)) if key in gone else few
            left = base
            for other, keys in gone.items():
                left = left.anti_join(keys, other)
        if stable:
            return materialised(left) if gone else base
        if attempt % _ROUNDS == 0:
            base = left = materialised(left)
            gone = {}
    raise AssertionError
