"""Filters of interactions: rows dropped by settings, duplicates of a user-item pair, and the k-core."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import ibis
from ibis.expr.types import BooleanValue, Table

from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, drop_tables, materialise, size
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.interactions.order import ORDER, row_hash
from llmrec_cli.ingest.interactions.temporal import parse_time
from llmrec_cli.ingest.readers.checks import RawRows, divide_by_weight, identifier
from llmrec_cli.ingest.readers.staging import StagedFiles
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.base import closest
from llmrec_cli.settings.dataset import DatasetSettings


@dataclass(frozen=True)
class Selection:
    """Rows that the settings keep, and the dropped rows with `reason` (`left_out`; None if no row is dropped).

    `counts` is the number of dropped rows by reason, `absent` the ids of drop settings that are in no row, by setting.
    """

    rows: Table
    left_out: Table | None = None
    counts: dict[str, int] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)


def select(coded: CodedRows, settings: DatasetSettings, unit: str, names: Sequence[str],
           of_groups: bool = False) -> Selection:
    """Divide the rows of `coded` into those that the settings keep and those that they drop.

    `unit` is the unit of the timestamps ("" without timestamps), `names` the columns of the files. dataset.drop_users
    is ignored for interactions of groups (`of_groups`), where groups take the place of users.
    """
    conditions, absent = list(_by_settings(coded.rows, settings, unit, names)), {}
    for kind, key in (("user", "drop_users"), ("item", "drop_items")):
        if getattr(settings, key) and not (of_groups and kind == "user"):
            ids = coded.users if kind == "user" else coded.items
            rows = collect(ids.filter(ids[f"{kind}_id"].isin(getattr(settings, key)))).to_pylist()
            there = {row[f"{kind}_id"] for row in rows}
            absent[f"dataset.{key}"] = [name for name in getattr(settings, key) if name not in there]
            if rows:
                conditions.append((f"dropped_{kind}", coded.rows[kind].isin([row[kind] for row in rows])))
    if not conditions:
        return Selection(coded.rows, absent=absent)
    conditions.sort(key=lambda pair: list(FILTER_REASONS).index(pair[0]))
    marked = materialise(coded.rows.mutate(reason=ibis.cases(*((holds, reason) for reason, holds in conditions))))
    counts = {row["reason"]: row["size"] for row in collect(
        marked.filter(marked.reason.notnull()).group_by("reason").agg(size=lambda t: t.count())).to_pylist()}
    if not counts:
        return Selection(coded.rows, absent=absent)
    return Selection(materialise(marked.filter(marked.reason.isnull()).drop("reason")),
                    marked.filter(marked.reason.notnull()), counts, absent)


def counts_of(counts: Mapping[str, int], prefix: str = "") -> dict[str, int]:
    """Return the counts by reason under their names in the account."""
    names = {"ignored_events": ("event_without_weight",), "dropped_ids": ("dropped_user", "dropped_item"),
             "outside_times": ("after_newest", "before_oldest")}
    return {f"{prefix}{name}": sum(counts.get(reason, 0) for reason in reasons) for name, reasons in names.items()}


def _by_settings(rows: Table, settings: DatasetSettings, unit: str,
                 names: Sequence[str]) -> Iterator[tuple[str, BooleanValue]]:
    """Yield a reason and the mask of its rows for each setting about events and times."""
    ignored = [event for event, weight in settings.event_weights.items() if weight == 0]
    if ignored and "event" in names:
        yield "event_without_weight", rows.event.isin(ignored)
    for key, reason in (("newest", "after_newest"), ("oldest", "before_oldest")):
        text = getattr(settings, key)
        if text is None:
            continue
        if not unit:
            raise ConfigError(f"dataset.{key}={text}: has no effect on interactions without a column 'timestamp'; map "
                              f"it with dataset.columns.timestamp=<name>, or remove the setting")
        at = parse_time(text, unit, f"dataset.{key}", last=key == "newest")
        yield reason, rows.timestamp > at if key == "newest" else rows.timestamp < at


_MOST_EVENTS = 1000
"""Most events among which the nearest to an absent one is searched."""


def note_absent_events(raw: RawRows) -> list[Phrase]:
    """Return a note on each event of dataset.event_weights that no row has.

    None in mode=append: a daily file may lack an event, and the events of merged earlier rows are lost.
    """
    if not raw.weights or raw.earlier:
        return []
    parts = [part.select(event=identifier(part.event)) for part in raw.parts]
    rows = (parts[0].union(*parts[1:]) if parts[1:] else parts[0]).distinct()
    weighted: list[str] = collect(rows.filter(rows.event.isin(list(raw.weights))))["event"].to_pylist()
    absent = [event for event in raw.weights if event not in weighted]
    if not absent:
        return []
    there: list[str] = collect(rows.filter(rows.event.fill_null("") != "").order_by("event")
                               .limit(_MOST_EVENTS))["event"].to_pylist()
    return [Phrase("no row has the event '{event}' of dataset.event_weights; the nearest in the files is '{nearest}'",
                   event=event, nearest=near) if (near := closest(event, there)) else
            Phrase("no row has the event '{event}' of dataset.event_weights; there are {events}", event=event,
                   events=f"{', '.join(map(repr, there[:5]))}{', ...' if there[5:] else ''}") for event in absent]


PAIR = ("split", "user", "item")


def policy_of(settings: DatasetSettings, weighted: bool = True) -> str:
    """Return the policy for duplicates, keep_last | keep_first | sum | max | error, resolving dataset.duplicates=auto.

    `weighted` is True if the rows have events. With event weights a view after a purchase must not undo the purchase,
    so auto keeps the strongest event; with a negative weight one event revokes another, so auto sums them.
    """
    return resolved_policy(settings.duplicates, settings.event_weights if weighted else {})


def resolved_policy(duplicates: str, event_weights: Mapping[str, float]) -> str:
    """Return the policy, keep_last | keep_first | sum | max | error, of `duplicates`, which may be auto."""
    if duplicates != "auto":
        return duplicates
    if not event_weights:
        return "keep_last"
    return "sum" if min(event_weights.values()) < 0 else "max"


def merge_duplicates(coded: CodedRows, policy: str, pair: Sequence[str] = PAIR) -> Table:
    """Return one row per user and item, and per split if `pair` contains it.

    First and last are by time, then dataset.columns.order, then a salted hash of the row; rows equal in all three are
    the same row. max keeps the first of the strongest rows, with its time. sum keeps the time of the last row; it adds
    decimals, since sums of floating point numbers depend on the order.
    """
    rows = coded.rows
    counted = rows.group_by(pair).agg(times=rows.count())
    twice = materialise(counted.filter(counted.times > 1).select(*pair))
    if size(twice) == 0:
        return rows
    # Few pairs occur twice, so only they are sorted.
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
    result = materialise(once.select(*rows.columns).union(merged.select(*rows.columns)))
    drop_tables(twice)
    return result


def refuse_duplicates(raw: RawRows, staged: StagedFiles) -> None:
    """Raise DataError for the second row of a pair, in the order of files and lines."""
    pair = [*raw.keys, "part"]
    parts = [part.select("file", "line", **{key: identifier(part[key]) for key in raw.keys})
             for part in (divide_by_weight(part, raw)[0] for part in raw.parts)]
    rows = parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]
    codes = [(rows.file == n, source.split) for n, source in enumerate(staged.sources)]
    rows = rows.mutate(part=ibis.cases(*codes))
    place = ibis.row_number().over(group_by=pair, order_by=[rows.file, rows.line])
    second = rows.mutate(place=place).filter(lambda t: t.place == 1).order_by("file", "line").limit(1)
    for row in collect(second).to_pylist():
        raise DataError(f"{raw.files[row['file']]}: line {row['line']}: repeats user '{row['user_id']}' with item "
                        f"'{row['item_id']}', and dataset.duplicates=error; choose keep_last, keep_first, sum or max, "
                        f"or remove the duplicates")


_ROUNDS = 4
"""Rounds of anti-joins with the dropped users and items before the remaining rows are materialised."""


def k_core(rows: Table, min_user: int, min_item: int) -> Table:
    """Drop users with fewer than `min_user` and items with fewer than `min_item` interactions until none is left.

    The result, the k-core, does not depend on the order of dropping (Seidman 1983).
    """
    least = {key: number for key, number in (("user", min_user), ("item", min_item)) if number > 1}
    if not least:
        return rows
    base = rest = rows
    dropped: dict[str, Table] = {}
    for attempt in count(1):
        stable = True
        for key, number in least.items():
            counted = rest.group_by(key).agg(size=rest.count())
            few = materialise(counted.filter(counted["size"] < number).select(key))
            if size(few) == 0:
                continue
            stable = False
            dropped[key] = materialise(dropped[key].union(few)) if key in dropped else few
            rest = base
            for other, keys in dropped.items():
                rest = rest.anti_join(keys, other)
        if stable:
            return materialise(rest) if dropped else base
        if attempt % _ROUNDS == 0:
            base = rest = materialise(rest)
            dropped = {}
    raise AssertionError
