"""Interactions: which rows are sound, which of a pair's rows counts, which are kept. All of it ibis expressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import batches, collect, size
from llmrec_cli.ingest.interactions.filters import (
    PAIR,
    Selected,
    core,
    counts_of,
    merge_duplicates,
    policy_of,
    refuse_duplicates,
    select,
)
from llmrec_cli.ingest.interactions.id_codes import FIRST, Coded, encode
from llmrec_cli.ingest.interactions.order import ORDER, with_ties
from llmrec_cli.ingest.interactions.splits import LEAKED, Divided
from llmrec_cli.ingest.interactions.temporal import far_rows
from llmrec_cli.ingest.output.append import Earlier, refuse_overlap
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.cells import refuse_array_ids, refuse_array_values
from llmrec_cli.ingest.readers.checks import Raw, read_parts, unsound
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import Staged, stage
from llmrec_cli.settings.dataset import DatasetSettings

_OPTIONAL = ("value", "timestamp", "event")
_ORDERED = (*_OPTIONAL, ORDER)
"""The same with dataset.columns.order: only where it is set, since a column `order` of a file may be anything."""
_NOT_POSITIVE, _BELOW = "not_positive", "below_min_value"
"""Reasons in filtered.parquet of rows with too low a value."""
_FILES = {"user_id": ("interactions", "negatives", "filtered"), "group_id": ("group_interactions", "group_filtered")}
"""Where prepared data has all rows that were sound, those of users and those of groups."""


@dataclass(frozen=True)
class Kept:
    """Interactions that are kept, and those filtered out.

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


def stage_interactions(sources: list[Source], folder: Path, needed_by: str, weighted: bool,
                       earlier: Earlier | None = None) -> Staged:
    """Stage the files of interactions. Raises DataError when a column lacks that a setting needs.

    `needed_by` is `split=<name>` when that needs timestamps, or "". There may be no files beside `earlier` data.
    """
    if not sources and earlier is not None:
        return nothing_staged(folder, earlier, "interactions", "user_id")
    optional = _ORDERED if any(ORDER in source.columns for source in sources) else _OPTIONAL
    staged = stage(sources, folder / "interactions.staged", ("user_id", "item_id"), optional, direct=True)
    take_order_for_time(staged)
    if needed_by and "timestamp" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'timestamp', which {needed_by} needs; use split=random or map "
                        f"it with dataset.columns.timestamp=<name>, or a column that grows with time with "
                        f"dataset.columns.order=<name>")
    if weighted and "event" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'event', which dataset.event_weights needs; map it with "
                        f"dataset.columns.event=<name>")
    return staged


def nothing_staged(folder: Path, earlier: Earlier, name: str, key: str) -> Staged:
    """Return no rows with the columns that <name>.parquet of the earlier data has."""
    return Staged(folder / f"{name}.staged", [], [key, "item_id", *earlier.names(name)])


def take_order_for_time(staged: Staged) -> None:
    """Make dataset.columns.order the timestamps of files that have none: it is then timestamp_unit=order."""
    if ORDER not in staged.names or "timestamp" in staged.names:
        return
    staged.names = ["timestamp" if name == ORDER else name for name in staged.names]
    for direct in staged.direct:
        for mapping in (direct.columns, direct.types):
            mapping["timestamp"] = mapping.pop(ORDER)
    staged.order_is_time = True


def read_raw(connection: BaseBackend, staged: Staged, settings: DatasetSettings, key: str = "user_id",
             earlier: Earlier | None = None) -> Raw:
    """Return the staged rows with the unit of their timestamps. `key` is the id column beside item_id."""
    weights = settings.event_weights if key == "user_id" else {}
    names = [name for name in staged.names if name in (key, "item_id", *_ORDERED)]
    given = any(source.split for source in staged.sources) if staged.sources or earlier is None else earlier.given(key)
    raw = Raw(read_parts(connection, staged), [str(source.path) for source in staged.sources], names, (key, "item_id"),
              weights=weights, given=given)
    if not staged.sources and earlier is not None:
        raw = replace(raw, unit=earlier.manifest["timestamp_unit"] if "timestamp" in names else "")
    elif "timestamp" in names:
        chosen = "order" if staged.order_is_time else settings.time_unit
        if staged.order_is_time and settings.time_unit not in ("auto", "order"):
            key_of_time = "timestamp_format" if settings.timestamp_format else "timestamp_unit"
            raise ConfigError(f"dataset.{key_of_time}={settings.time_unit}: has no effect, since the files have "
                              f"no timestamps and are ordered by dataset.columns.order; leave it out")
        raw = replace(raw, unit=timestamps.infer_unit(raw.parts, raw.files) if chosen == "auto" else chosen)
    if earlier is None:
        return raw
    earlier.check_unit(raw.unit)
    before = [earlier.rows(connection, name, key) for name in _FILES[key]]
    return replace(raw, earlier=[_like(rows, names, given) for rows in before if rows is not None])


def _like(rows: Table, names: Sequence[str], given: bool) -> Table:
    """Return rows of before with an event where the new ones have one, and undivided unless files divide them."""
    rows = rows if given else rows.mutate(split=ibis.literal(FIRST, "int8"))
    if (ORDER in names) != (ORDER in rows.columns):
        raise ConfigError("mode=append: dataset.columns.order is set now, but was not before, or the other way round, "
                          "so the rows cannot be put in one order; set it as it was, or prepare all of it with "
                          "mode=new")
    return rows.mutate(event=ibis.literal("")) if "event" in names and "event" not in rows.columns else rows


def read_interactions(connection: BaseBackend, staged: Staged, settings: DatasetSettings, account: Account,
                      earlier: Earlier | None, force: bool) -> Kept:
    """Return the interactions of the staged files, and of `earlier` data, that are kept.

    Raises DataError for rows that dataset.duplicates=sum would count twice, unless `force`.
    """
    raw = read_raw(connection, staged, settings, earlier=earlier)
    if policy_of(settings) == "sum":
        refuse_overlap(raw, force, account)
    return keep(raw, staged, settings, account)


def keep(raw: Raw, staged: Staged, settings: DatasetSettings, account: Account) -> Kept:
    """Return the interactions that are kept. What is dropped is counted; unsound rows join the rejects."""
    coded = encode(raw, [SPLITS.index(s.split) if s.split else FIRST for s in staged.sources])
    num_sound = reject_unsound(raw, staged, coded)
    policy = policy_of(settings)
    if policy == "error":
        refuse_duplicates(raw, staged)
    chosen = select(coded, settings, raw.unit, raw.names)
    account.warnings += [far.sentence(raw.unit) for far in far_rows(chosen.rows, raw)]
    merged = merge_duplicates(coded.with_rows(chosen.rows), policy, PAIR if raw.given else PAIR[1:])
    positives, negatives, weak = judge(merged, settings)
    rows = core(positives, settings.min_user_interactions, settings.min_item_interactions)
    num_merged, num_positive, num_kept = size(merged), size(positives), size(rows)
    unused = [chosen.left_out, weak,
              outside(positives, rows).mutate(reason=ibis.literal("below_core")) if num_kept < num_positive else None]
    num_earlier = sum(size(table) for table in raw.earlier)
    num_duplicates = num_earlier + num_sound - sum(chosen.counts.values()) - num_merged
    if policy == "error" and num_duplicates:
        raise DataError(f"mode=append: {num_duplicates:,} pairs of a user and an item in {', '.join(raw.files)} are "
                        f"prepared already, and dataset.duplicates=error; remove them")
    account.counts |= {"read": sum(staged.num_read), "earlier": num_earlier, "rejected": len(staged.rejects),
                       "duplicates": num_duplicates, **counts_of(chosen.counts), **count_weak(weak),
                       "below_core": num_positive - num_kept}
    account.notes += notes_of(chosen, policy, settings, account.counts)
    tables = [table for table in unused if table is not None]
    filtered = tables or [merged.limit(0).mutate(reason=ibis.literal(""))]
    return Kept(with_ties(coded.with_rows(rows)), negatives, union(filtered), raw.unit)


def reject_unsound(raw: Raw, staged: Staged, coded: Coded) -> int:
    """Return the number of sound rows; the others join the rejects, by a second look that is taken only then."""
    refuse_array_ids(raw, staged, coded)
    sound = size(coded.rows) - sum(size(rows) for rows in raw.earlier)
    if sound != sum(staged.num_read) - len(staged.rejects):
        for part in raw.parts:
            refuse_array_values(part, raw, staged)
            for batch in batches(unsound(part, raw), 1 << 16):
                staged.rejects.extend_table(pa.Table.from_batches([batch]))
    return sound


def outside(rows: Table, kept: Table) -> Table:
    """Return the rows whose user or item is not among those of `kept`."""
    users, items = kept.select("user").distinct(), kept.select("item").distinct()
    return rows.anti_join(users, "user").union(rows.semi_join(users, "user").anti_join(items, "item"))


def without_leaks(kept: Kept, divided: Divided, account: Account) -> Kept:
    """Return the same with the rows that split.leaks left out among those that are filtered."""
    if divided.leaks is None:
        return kept
    account.counts["leaks"] = size(divided.leaks)
    leaks = divided.leaks.mutate(reason=ibis.literal(LEAKED))
    return replace(kept, filtered=union([kept.filtered, leaks]))


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


def judge(rows: Table, settings: DatasetSettings) -> tuple[Table, Table | None, Table | None]:
    """Return the positives, the negatives (None unless feedback is explicit), and what is neither, with `reason`.

    Without dataset.min_value only values above 0 are positives: a return or an unopened item is no sign of interest.
    """
    least, most = settings.min_value, settings.max_negative_value
    if least is None:
        weak = rows.filter(rows.value <= 0)
        if size(weak) == 0:
            return rows, None, None
        return rows.filter(rows.value > 0), None, weak.mutate(reason=ibis.literal(_NOT_POSITIVE))
    low = rows.filter(rows.value < least)
    enough, reason = rows.filter(rows.value >= least), ibis.literal(_BELOW)
    if settings.feedback == "implicit":
        return enough, None, low.mutate(reason=reason)
    if most is None:
        return enough, low, None
    return enough, low.filter(low.value <= most), low.filter(low.value > most).mutate(reason=reason)


def count_weak(weak: Table | None) -> dict[str, int]:
    """Return how many rows, as `judge` gives them, are neither positive nor negative, by reason."""
    found = {"not_positive": 0, "below_min_value": 0}
    if weak is None:
        return found
    sizes = collect(weak.group_by("reason").agg(size=weak.count())).to_pylist()
    return found | {row["reason"]: row["size"] for row in sizes}


def notes_of(chosen: Selected, policy: str, settings: DatasetSettings, counts: Mapping[str, int]) -> list[str]:
    """Return what a person should know of rows that are left out or merged, one sentence each."""
    found = [f"{key} names ids that no row has: {', '.join(map(repr, names[:5]))}{', ...' if names[5:] else ''}"
             for key, names in chosen.absent.items() if names]
    if counts["not_positive"]:
        found.append(f"{counts['not_positive']:,} interactions have a value of 0 or below, so they are not positives "
                     f"(filtered.parquet lists them as {_NOT_POSITIVE}); dataset.min_value=0 keeps those of 0, a lower "
                     f"one negative ones too")
    if counts["duplicates"] and policy != settings.duplicates and settings.event_weights:
        why = {"max": "the one with the largest value is kept, the earliest if several have it",
               "sum": "their values are added up, since an event has a negative weight"}[policy]
        found.append(f"{counts['duplicates']:,} rows repeat a user and an item: with dataset.event_weights {why} "
                     f"(dataset.duplicates={policy})")
    return found


def check_columns(settings: DatasetSettings, names: Sequence[str]) -> None:
    """Raise ConfigError for settings about values where the files have none."""
    if "value" in names or settings.event_weights or policy_of(settings) == "sum":
        return
    for key in ("min_value", "max_negative_value"):
        if getattr(settings, key) is not None:
            raise ConfigError(f"dataset.{key}={getattr(settings, key):g}: the interactions have no column 'value'; map "
                              f"it with dataset.columns.value=<name>, or leave the setting out")
