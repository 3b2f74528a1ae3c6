"""Interactions from raw rows: validation, duplicates, positives and negatives, k-core. All as ibis expressions."""

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
    Selection,
    counts_of,
    k_core,
    merge_duplicates,
    note_absent_events,
    policy_of,
    refuse_duplicates,
    select,
)
from llmrec_cli.ingest.interactions.id_codes import FIRST, CodedRows, encode
from llmrec_cli.ingest.interactions.order import ORDER, num_at_equal_times, with_ties
from llmrec_cli.ingest.interactions.splits import LEAKED, SplitRows
from llmrec_cli.ingest.interactions.suspicious_rows import warn_of_rejected_times, warn_of_suspicious_rows
from llmrec_cli.ingest.interactions.temporal import find_far_rows
from llmrec_cli.ingest.output.append import EarlierData, refuse_overlap
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.ingest.readers.cells import refuse_array_ids, refuse_array_values
from llmrec_cli.ingest.readers.checks import RawRows, are_totals, divide_by_weight, read_parts, unsound_rows
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import StagedFiles, stage
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.dataset import DatasetSettings

_OPTIONAL = ("value", "timestamp", "event")
_ORDERED = (*_OPTIONAL, ORDER)
"""The optional columns with dataset.columns.order; only if it is set, since a file's column `order` may be anything."""
_ROWS_OF_A_FILE = 1 << 40
"""More rows than a file has."""
_NOT_POSITIVE, _BELOW = "not_positive", "below_min_value"
"""Reasons in filtered.parquet of rows with too low a value."""
_FILES = {"user_id": ("interactions", "negatives", "filtered"), "group_id": ("group_interactions", "group_filtered")}
"""Files of prepared data that hold all sound rows, of users and of groups."""


@dataclass(frozen=True)
class CleanRows:
    """Interactions after filtering and merging.

    Attributes
    ----------
    coded : the positives; `split` is the split given by the files, or 0
    negatives : dislikes, with the columns of the positives; None unless feedback is explicit
    filtered : rows that are not used, with the same columns and `reason`
    returned : those of the filtered rows whose item was returned, without `reason`; None if there are none
    unit : unit of the timestamps, "" without timestamps
    """

    coded: CodedRows
    negatives: Table | None
    filtered: Table
    unit: str
    returned: Table | None = None


def stage_interactions(sources: list[Source], folder: Path, needed_by: str, weighted: bool,
                       earlier: EarlierData | None = None) -> StagedFiles:
    """Stage the files of interactions. Raises DataError if a setting needs a column that is missing.

    `needed_by` is `split=<name>` if that split needs timestamps, else "". `sources` may be empty if there is `earlier`
    data.
    """
    if not sources and earlier is not None:
        return stage_nothing(folder, earlier, "interactions", "user_id")
    optional = _ORDERED if any(ORDER in source.columns for source in sources) else _OPTIONAL
    staged = stage(sources, folder / "interactions.staged", ("user_id", "item_id"), optional, direct=True)
    use_order_as_time(staged)
    if needed_by and "timestamp" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'timestamp', which {needed_by} needs; use split=random, map "
                        f"it with dataset.columns.timestamp=<name>, or name a column that grows with time with "
                        f"dataset.columns.order=<name>")
    if weighted and "event" not in staged.names:
        raise DataError(f"{sources[0].path}: no column 'event', which dataset.event_weights needs; map it with "
                        f"dataset.columns.event=<name>")
    return staged


def stage_nothing(folder: Path, earlier: EarlierData, name: str, key: str) -> StagedFiles:
    """Return an empty staged file with the columns of <name>.parquet of the earlier data."""
    return StagedFiles(folder / f"{name}.staged", [], [key, "item_id", *earlier.names(name)])


def use_order_as_time(staged: StagedFiles) -> None:
    """Use dataset.columns.order as timestamps, in timestamp_unit=order, if the files have no timestamps."""
    if ORDER not in staged.names or "timestamp" in staged.names:
        return
    staged.names = ["timestamp" if name == ORDER else name for name in staged.names]
    for direct in staged.direct:
        for mapping in (direct.columns, direct.types):
            mapping["timestamp"] = mapping.pop(ORDER)
    staged.order_is_time = True


def read_raw(connection: BaseBackend, staged: StagedFiles, settings: DatasetSettings, key: str = "user_id",
             earlier: EarlierData | None = None) -> RawRows:
    """Return the staged rows with the unit of their timestamps. `key` is the id column beside item_id."""
    weights = settings.event_weights if key == "user_id" else {}
    names = [name for name in staged.names if name in (key, "item_id", *_ORDERED)]
    is_presplit = (any(source.split for source in staged.sources) if staged.sources or earlier is None
                   else earlier.is_presplit(key))
    parts = read_parts(connection, staged)
    if settings.equal_times == "file":
        refuse_file_order(staged, earlier is not None)
        parts, names = [in_file_order(part) for part in parts], [*names, ORDER]
    raw = RawRows(parts, [str(source.path) for source in staged.sources], names,
                  (key, "item_id"), weights=weights, is_presplit=is_presplit)
    if not staged.sources and earlier is not None:
        raw = replace(raw, unit=earlier.manifest["timestamp_unit"] if "timestamp" in names else "")
    elif "timestamp" in names:
        unit = "order" if staged.order_is_time else settings.time_unit
        if staged.order_is_time and settings.time_unit not in ("auto", "order"):
            key_of_time = "timestamp_format" if settings.timestamp_format else "timestamp_unit"
            raise ConfigError(f"dataset.{key_of_time}={settings.time_unit}: has no effect, since the files have no "
                              f"timestamps and are ordered by dataset.columns.order; remove the setting")
        raw = replace(raw, unit=timestamps.infer_unit(raw.parts, raw.files) if unit == "auto" else unit)
    if earlier is None:
        return raw
    earlier.check_unit(raw.unit)
    before = [earlier.rows(connection, name, key) for name in _FILES[key]]
    return replace(raw, earlier=[_like(rows, names, is_presplit) for rows in before if rows is not None])


def refuse_file_order(staged: StagedFiles, appends: bool) -> None:
    """Raise ConfigError if dataset.equal_times=file has no effect on the files, or `appends` is True."""
    if appends:
        raise ConfigError("mode=append: dataset.equal_times=file orders rows by their place in the files, and earlier "
                          "files are not read again; prepare all files with mode=new, or name a column that grows with "
                          "time with dataset.columns.order=<name>")
    if staged.order_is_time or ORDER in staged.names:
        raise ConfigError("dataset.equal_times=file: has no effect with dataset.columns.order; leave out one of both")
    if "timestamp" not in staged.names:
        raise ConfigError(f"dataset.equal_times=file: has no effect, since {staged.sources[0].path} has no timestamps; "
                          f"map them with dataset.columns.timestamp=<name>, or leave it out")


def in_file_order(part: Table) -> Table:
    """Return the raw rows with their place in the files as `order`."""
    return part.mutate(**{ORDER: part.file.cast("int64") * _ROWS_OF_A_FILE + part.line})


def _like(rows: Table, names: Sequence[str], is_presplit: bool) -> Table:
    """Give earlier rows the columns of the new ones; set their split to 0 unless the files give it."""
    rows = rows if is_presplit else rows.mutate(split=ibis.literal(FIRST, "int8"))
    if (ORDER in names) != (ORDER in rows.columns):
        raise ConfigError("mode=append: dataset.columns.order is set now but was not before, or the reverse, so old "
                          "and new rows cannot be ordered; set it as before, or prepare all files with mode=new")
    return rows.mutate(event=ibis.literal("")) if "event" in names and "event" not in rows.columns else rows


def read_interactions(connection: BaseBackend, staged: StagedFiles, settings: DatasetSettings, account: Account,
                      earlier: EarlierData | None, force: bool) -> CleanRows:
    """Return the filtered and merged interactions of the staged files and of `earlier` data.

    Raises DataError for rows that dataset.duplicates=sum would count twice, unless `force`.
    """
    raw = read_raw(connection, staged, settings, earlier=earlier)
    if policy_of(settings) == "sum":
        refuse_overlap(raw, force, account)
    had_returns = earlier is not None and bool(earlier.manifest["counts"].get("returned"))
    return filter_interactions(raw, staged, settings, account, had_returns)


def filter_interactions(raw: RawRows, staged: StagedFiles, settings: DatasetSettings, account: Account,
                        had_returns: bool = False) -> CleanRows:
    """Filter and merge the interactions; count what is dropped, and add unsound rows to the rejects.

    `had_returns` is True if earlier data has returned items.
    """
    coded = encode(raw, [SPLITS.index(s.split) if s.split else FIRST for s in staged.sources])
    num_sound, num_ignored = reject_unsound(raw, staged, coded)
    policy = policy_of(settings)
    if policy == "error":
        refuse_duplicates(raw, staged)
    selected = select(coded, settings, raw.unit, raw.names)
    far_rows = find_far_rows(selected.rows, raw)
    account.warnings += [far.sentence(raw.unit) for far in far_rows]
    warn_of_suspicious_rows(coded, selected.rows, raw.unit, far_rows, account)
    warn_of_rejected_times(raw.files, staged.rejects, account)
    merged = merge_duplicates(coded.with_rows(selected.rows), policy, PAIR if raw.is_presplit else PAIR[1:])
    positives, negatives, weak = divide_by_value(merged, settings)
    returned = find_returned(weak, selected.rows, policy, had_returns)
    rows = k_core(positives, settings.min_user_interactions, settings.min_item_interactions)
    num_merged, num_positive, num_kept = size(merged), size(positives), size(rows)
    few = rows_outside(positives, rows).mutate(reason=ibis.literal("below_core")) if num_kept < num_positive else None
    unused = [selected.left_out, weak, few]
    num_earlier = sum(size(table) for table in raw.earlier)
    num_duplicates = num_earlier + num_sound - sum(selected.counts.values()) - num_merged
    if policy == "error" and num_duplicates:
        raise DataError(f"mode=append: {num_duplicates:,} user-item pairs in {', '.join(raw.files)} are in the "
                        f"prepared data already, and dataset.duplicates=error; remove them")
    account.counts |= {"read": sum(staged.num_read), "earlier": num_earlier, "rejected": len(staged.rejects),
                       "duplicates": num_duplicates, **counts_of(selected.counts), **count_weak(weak),
                       "below_core": num_positive - num_kept}
    account.counts["ignored_events"] += num_ignored
    if num_ignored:
        account.counts["ignored_unsound"] = num_ignored
    if returned is not None:
        account.counts["returned"] = size(returned)
    if settings.equal_times == "file":
        account.notes.append(Phrase("{num:,} interactions have the same user and time as another, and are in the "
                                    "order of the files (dataset.equal_times=file)", num=num_at_equal_times(rows)))
    account.notes += note_absent_events(raw) + notes_of(selected, policy, settings, account.counts, weak)
    tables = [table for table in unused if table is not None]
    filtered = tables or [merged.limit(0).mutate(reason=ibis.literal(""))]
    return CleanRows(with_ties(coded.with_rows(rows)), negatives, union(filtered), raw.unit, returned)


def reject_unsound(raw: RawRows, staged: StagedFiles, coded: CodedRows) -> tuple[int, int]:
    """Return the numbers of sound rows and of unsound rows whose event has weight 0.

    If there are unsound rows, a second pass finds them and rejects those whose event counts.
    """
    refuse_array_ids(raw, staged, coded)
    sound, ignored = size(coded.rows) - sum(size(rows) for rows in raw.earlier), 0
    if sound != sum(staged.num_read) - len(staged.rejects):
        for part in raw.parts:
            counting, of_weight_0 = divide_by_weight(part, raw)
            refuse_array_values(counting, raw, staged)
            for batch in batches(unsound_rows(counting, raw, are_totals(counting, staged, raw.keys)), 1 << 16):
                staged.rejects.extend_table(pa.Table.from_batches([batch]))
            ignored += 0 if of_weight_0 is None else size(unsound_rows(of_weight_0, raw))
    return sound, ignored


def rows_outside(rows: Table, selected: Table) -> Table:
    """Return the rows whose user or item does not occur in `selected`."""
    users, items = selected.select("user").distinct(), selected.select("item").distinct()
    return rows.anti_join(users, "user").union(rows.semi_join(users, "user").anti_join(items, "item"))


def filter_leaks(clean: CleanRows, divided: SplitRows, account: Account) -> CleanRows:
    """Move the rows that split.leaks=drop removed to the filtered rows."""
    if divided.leaks is None:
        return clean
    account.counts["leaks"] = size(divided.leaks)
    leaks = divided.leaks.mutate(reason=ibis.literal(LEAKED))
    return replace(clean, filtered=union([clean.filtered, leaks]))


def filter_unknown_dislikes(clean: CleanRows, users: Table, items: Table) -> CleanRows:
    """Keep only the negatives whose user and item are in the catalogues; move the others to the filtered rows."""
    if clean.negatives is None:
        return clean
    by_user, by_item = users.select(user="code"), items.select(item="code")
    of_known = clean.negatives.semi_join(by_user, "user")
    unknown = clean.negatives.anti_join(by_user, "user").union(of_known.anti_join(by_item, "item"))
    filtered = union([clean.filtered, unknown.mutate(reason=ibis.literal("dislike_of_unknown"))])
    return replace(clean, negatives=of_known.semi_join(by_item, "item"), filtered=filtered)


def union(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, with the columns of the first."""
    return tables[0].union(*(table.select(*tables[0].columns) for table in tables[1:])) if tables[1:] else tables[0]


def divide_by_value(rows: Table, settings: DatasetSettings) -> tuple[Table, Table | None, Table | None]:
    """Divide rows by value into positives, negatives (None unless feedback is explicit), and others, with `reason`.

    Without dataset.min_value only values above 0 are positives: a returned or unopened item is no sign of interest.
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


def find_returned(weak: Table | None, rows: Table, policy: str, had_returns: bool) -> Table | None:
    """Return the pairs of `weak`, the third result of `divide_by_value`, whose item was returned; None without any.

    A value below 0 is a return. A sum of 0 is one too, if any of the summed `rows` is negative (or was, in earlier
    data: `had_returns`); other values of 0 are items that were never used.
    """
    if weak is None:
        return None
    sums = policy == "sum" and (had_returns or size(rows.filter(rows.value < 0)) > 0)
    returned = weak.filter(weak.value <= 0 if sums else weak.value < 0).drop("reason")
    return returned if size(returned) else None


def count_weak(weak: Table | None) -> dict[str, int]:
    """Return the number of rows that are neither positive nor negative, by reason.

    `weak` is the third result of `divide_by_value`.
    """
    counts = {"not_positive": 0, "below_min_value": 0}
    if weak is None:
        return counts
    sizes = collect(weak.group_by("reason").agg(size=weak.count())).to_pylist()
    return counts | {row["reason"]: row["size"] for row in sizes}


def notes_of(selected: Selection, policy: str, settings: DatasetSettings, counts: Mapping[str, int],
             weak: Table | None) -> list[Phrase]:
    """Return notes on filtered and merged rows, one sentence each; `weak` is the third result of `divide_by_value`."""
    lines = [Phrase("{setting} has ids that are in no row: {ids}", setting=key,
                    ids=f"{', '.join(map(repr, names[:5]))}{', ...' if names[5:] else ''}")
             for key, names in selected.absent.items() if names]
    if counts["not_positive"]:
        lines.append(Phrase("{num:,} interactions have a value of 0 or below, so they are not positives "
                            "(filtered.parquet lists them as {reason}); dataset.min_value=0 keeps those with 0, and a "
                            "lower dataset.min_value also keeps negative values", num=counts["not_positive"],
                            reason=_NOT_POSITIVE))
    if counts.get("returned"):
        lines.append(Phrase("{num:,} of the filtered pairs of user and item are returns (a value below 0, or a sum of "
                            "0 with dataset.duplicates=sum); `recommend` and `evaluate` leave these items out of their "
                            "users' lists, unless exclude_seen=false", num=counts["returned"]))
    num_negative = size(weak.filter(weak.value < 0)) if weak is not None and policy != "sum" else 0
    if counts["not_positive"] and num_negative:
        lines.append(Phrase("{num:,} of these values are negative; if they are returns, dataset.duplicates=sum "
                            "subtracts them from what the same user bought of the item", num=num_negative))
    if counts["duplicates"] and policy != settings.duplicates and settings.event_weights:
        why = {"max": Phrase("the row with the largest value is kept, of several the earliest"),
               "sum": Phrase("their values are summed, since an event has a negative weight")}[policy]
        lines.append(Phrase("{num:,} rows repeat a user-item pair; with dataset.event_weights {why} "
                            "(dataset.duplicates={policy})", num=counts["duplicates"], why=why, policy=policy))
    return lines


def check_columns(settings: DatasetSettings, names: Sequence[str]) -> None:
    """Raise ConfigError for settings about values if the files have no column of values."""
    if "value" in names or settings.event_weights or policy_of(settings) == "sum":
        return
    for key in ("min_value", "max_negative_value"):
        if getattr(settings, key) is not None:
            raise ConfigError(f"dataset.{key}={getattr(settings, key):g}: the interactions have no column 'value'; map "
                              f"it with dataset.columns.value=<name>, or remove the setting")
