"""Interactions: which rows are sound, which of a pair's rows counts, which are kept. All of it ibis expressions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest import timestamps
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.checks import Raw, identifier, read_parts, unsound
from llmrec_cli.ingest.coding import FIRST, Coded, encode
from llmrec_cli.ingest.core import core
from llmrec_cli.ingest.earlier import Earlier
from llmrec_cli.ingest.engine import batches, collect, dropped, materialised, size
from llmrec_cli.ingest.sources import Source
from llmrec_cli.ingest.staging import Staged, stage
from llmrec_cli.settings.dataset import DatasetSettings

PAIR = ("split", "user", "item")
OPTIONAL = ("value", "timestamp", "event")
FILES = {"user_id": ("interactions", "negatives", "filtered"), "group_id": ("group_interactions",)}
"""Where prepared data has all rows that were sound, those of users and those of groups."""


@dataclass(frozen=True)
class Kept:
    """What is left of the interactions, and what became of the others.

    Attributes
    ----------
    coded : the positives; `split` says where the files put them, or 0
    negatives : rows like them that say what a user does not like; None unless feedback is explicit
    filtered : rows like them, and why they are not used (reason)
    unit : how time was written, "" without timestamps
    """

    coded: Coded
    negatives: Table | None
    filtered: Table
    unit: str


def stage_interactions(sources: list[Source], folder: Path, needed_by: str, weighted: bool) -> Staged:
    """Stage the files of interactions. Raises DataError when a column lacks that a setting needs.

    `needed_by` is `split=<name>` when that needs timestamps, or "".
    """
    staged = stage(sources, folder / "interactions.staged", ("user_id", "item_id"), OPTIONAL, direct=True)
    if needed_by and "timestamp" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'timestamp', which {needed_by} needs; use split=random or map "
                        f"it with dataset.columns.timestamp=<name>")
    if weighted and "event" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'event', which dataset.event_weights needs; map it with "
                        f"dataset.columns.event=<name>")
    return staged


def read_raw(connection: BaseBackend, staged: Staged, settings: DatasetSettings, key: str = "user_id",
             earlier: Earlier | None = None) -> Raw:
    """Return the staged rows with the unit of their timestamps. `key` is the id column beside item_id."""
    weights = settings.event_weights if key == "user_id" else {}
    names = [name for name in staged.names if name in (key, "item_id", *OPTIONAL)]
    raw = Raw(read_parts(connection, staged), [str(source.path) for source in staged.sources], names, (key, "item_id"),
              weights=weights)
    if "timestamp" in names:
        chosen = settings.time_unit
        raw = replace(raw, unit=timestamps.infer_unit(raw.parts, raw.files) if chosen == "auto" else chosen)
    if earlier is None:
        return raw
    earlier.check_unit(raw.unit)
    before = [earlier.rows(connection, name, key) for name in FILES[key]]
    given = any(source.split for source in staged.sources)
    return replace(raw, earlier=[_like(rows, names, given) for rows in before if rows is not None])


def _like(rows: Table, names: Sequence[str], given: bool) -> Table:
    """Return rows of before with an event where the new ones have one, and undivided unless files divide them."""
    rows = rows if given else rows.mutate(split=ibis.literal(FIRST, "int8"))
    return rows.mutate(event=ibis.literal("")) if "event" in names and "event" not in rows.columns else rows


def keep(raw: Raw, staged: Staged, settings: DatasetSettings, account: Account) -> Kept:
    """Return the interactions that are kept. What is dropped is counted; unsound rows join the rejects."""
    coded = encode(raw, [SPLITS.index(s.split) if s.split else FIRST for s in staged.sources])
    num_sound = reject_unsound(raw, staged, coded)
    if settings.duplicates == "error":
        refuse_duplicates(raw, staged)
    used, ignored = without_weight(coded.rows, settings)
    num_ignored = 0 if ignored is None else size(ignored)
    given = any(source.split for source in staged.sources)
    merged = merge_duplicates(used, settings.duplicates, PAIR if given else PAIR[1:])
    enough, negatives, neutral = judge(merged, settings)
    rows = core(enough, settings.min_user_interactions, settings.min_item_interactions)
    num_merged, num_enough, num_kept = size(merged), size(enough), size(rows)
    num_neutral = 0 if neutral is None else size(neutral)
    unused = [(ignored, "event_without_weight"), (neutral, "below_min_value"),
              (outside(enough, rows) if num_kept < num_enough else None, "below_core")]
    num_earlier = sum(size(table) for table in raw.earlier)
    if settings.duplicates == "error" and num_merged < num_earlier + num_sound - num_ignored:
        number = num_earlier + num_sound - num_ignored - num_merged
        raise DataError(f"mode=append: {number:,} pairs of a user and an item in {', '.join(raw.files)} are prepared "
                        f"already, and dataset.duplicates=error; remove them")
    account.counts |= {"read": sum(staged.num_read), "earlier": num_earlier, "rejected": len(staged.rejects),
                       "duplicates": num_earlier + num_sound - num_ignored - num_merged, "ignored_events": num_ignored,
                       "below_min_value": num_neutral, "below_core": num_enough - num_kept}
    tables = [table.mutate(reason=ibis.literal(reason)) for table, reason in unused if table is not None]
    filtered = tables or [merged.limit(0).mutate(reason=ibis.literal(""))]
    return Kept(coded.with_rows(rows), negatives, union(filtered), raw.unit)


def reject_unsound(raw: Raw, staged: Staged, coded: Coded) -> int:
    """Return the number of sound rows; the others join the rejects, by a second look that is taken only then."""
    sound = size(coded.rows) - sum(size(rows) for rows in raw.earlier)
    if sound != sum(staged.num_read) - len(staged.rejects):
        for part in raw.parts:
            for batch in batches(unsound(part, raw), 1 << 16):
                staged.rejects.extend_table(pa.Table.from_batches([batch]))
    return sound


def without_weight(rows: Table, settings: DatasetSettings) -> tuple[Table, Table | None]:
    """Return the rows that count, and those of events whose weight is 0, if there are such events."""
    ignored = [event for event, weight in settings.event_weights.items() if weight == 0]
    return (rows.filter(~rows.event.isin(ignored)), rows.filter(rows.event.isin(ignored))) if ignored else (rows, None)


def outside(rows: Table, kept: Table) -> Table:
    """Return the rows whose user or item is not among those of `kept`."""
    users, items = kept.select("user").distinct(), kept.select("item").distinct()
    return rows.anti_join(users, "user").union(rows.semi_join(users, "user").anti_join(items, "item"))


def known_dislikes(kept: Kept, users: Table, items: Table) -> Kept:
    """Return the same with only the negatives whose user and item are in the catalogues; the others are filtered."""
    if kept.negatives is None:
        return kept
    by_user, by_item = users.select(user="code"), items.select(item="code")
    known = kept.negatives.semi_join(by_user, "user")
    unknown = kept.negatives.anti_join(by_user, "user").union(known.anti_join(by_item, "item"))
    filtered = union([kept.filtered, unknown.mutate(reason=ibis.literal("dislike_of_unknown"))])
    return replace(kept, negatives=known.semi_join(by_item, "item"), filtered=filtered)


def union(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, in their first one's columns."""
    return tables[0].union(*(table.select(*tables[0].columns) for table in tables[1:])) if tables[1:] else tables[0]


def merge_duplicates(rows: Table, policy: str, pair: Sequence[str] = PAIR) -> Table:
    """Return one row per user and item, and split where `pair` has it.

    First and last are by timestamp, then value, then event; equal in all, they are the same row. Sums are made in
    decimals, since the sum of binary fractions depends on the order.
    """
    event = ["event"] if "event" in rows.columns else []
    counted = rows.group_by(pair).agg(times=rows.count())
    twice = materialised(counted.filter(counted.times > 1).select(*pair))
    if size(twice) == 0:
        return rows
    # Few pairs occur twice, so that only they are sorted.
    once, several = rows.anti_join(twice, pair), rows.semi_join(twice, pair)
    order = [several.timestamp, several.value, *(several[name] for name in event)]
    order = [key.asc() for key in order] if policy == "keep_first" else [key.desc() for key in order]
    merged = several.mutate(place=ibis.row_number().over(group_by=pair, order_by=order))
    if policy in ("sum", "max"):
        value = several.value.cast("decimal(38, 9)").sum() if policy == "sum" else several.value.max()
        merged = merged.mutate(value=value.over(group_by=pair).cast("float64"))
    merged = merged.filter(lambda t: t.place == 0)
    columns = ("user", "item", "value", "timestamp", "split", *event)
    found = materialised(once.select(*columns).union(merged.select(*columns)))
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


def judge(rows: Table, settings: DatasetSettings) -> tuple[Table, Table | None, Table | None]:
    """Return the positives, the negatives (None unless feedback is explicit), and what is neither."""
    least, most = settings.min_value, settings.max_negative_value
    if least is None:
        return rows, None, None
    low = rows.filter(rows.value < least)
    if settings.feedback == "implicit":
        return rows.filter(rows.value >= least), None, low
    if most is None:
        return rows.filter(rows.value >= least), low, None
    return rows.filter(rows.value >= least), low.filter(low.value <= most), low.filter(low.value > most)


def check_columns(settings: DatasetSettings, names: Sequence[str]) -> None:
    """Raise ConfigError for settings about values where the files have none."""
    if "value" in names or settings.event_weights or settings.duplicates == "sum":
        return
    for key in ("min_value", "max_negative_value"):
        if getattr(settings, key) is not None:
            raise ConfigError(f"dataset.{key}={getattr(settings, key):g}: the interactions have no column 'value'; map "
                              f"it with dataset.columns.value=<name>, or leave the setting out")
