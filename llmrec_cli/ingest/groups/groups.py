"""Groups: their members and interactions.

The same functions check, merge and split interactions of users and of groups. For groups, the group id takes the place
of the user id.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import ibis
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import collect, materialise, read_staged, size
from llmrec_cli.ingest.interactions.build import (
    count_weak,
    divide_by_value,
    read_raw,
    reject_unsound,
    stage_nothing,
    union,
    use_order_as_time,
)
from llmrec_cli.ingest.interactions.filters import counts_of, merge_duplicates, policy_of, select
from llmrec_cli.ingest.interactions.id_codes import FIRST, CodedRows, encode
from llmrec_cli.ingest.interactions.order import ORDER
from llmrec_cli.ingest.output.append import EarlierData
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.cells import refuse_arrays
from llmrec_cli.ingest.readers.checks import reject_empty
from llmrec_cli.ingest.readers.raw_files import has_column
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.ingest.readers.staging import StagedFiles, stage
from llmrec_cli.settings.dataset import DatasetSettings

_COLUMNS = ("split", "group_id", "item_id", "value", "timestamp")


def columns_of(rows: Table) -> list[str]:
    """Return _COLUMNS, and ORDER if the rows have it."""
    return [*_COLUMNS, *([ORDER] if ORDER in rows.columns else [])]


@dataclass(frozen=True)
class Groups:
    """Groups as read from files.

    Attributes
    ----------
    members : group_id, user_id, without repeats
    rows : split ("" if the files do not give it), group_id, item_id, value, timestamp, and order if
        dataset.columns.order is set; None without files of group interactions
    filtered : sound rows that are not used, with the same columns and `reason`
    unit : unit of the timestamps, "" without timestamps
    staged : the staged files, with their rejects
    """

    members: Table
    rows: Table | None = None
    filtered: Table | None = None
    unit: str = ""
    staged: list[StagedFiles] = field(default_factory=list)

    def with_rows(self, rows: Table) -> "Groups":
        """Return the same groups with other rows."""
        return replace(self, rows=rows)


def read_groups(connection: BaseBackend, sources: Sources, settings: DatasetSettings, scratch: Path,
                account: Account, earlier: EarlierData | None = None) -> Groups | None:
    """Return the groups of a data set, or None if it has none. Unsound rows are added to the rejects of `staged`."""
    if not sources.members:
        return None
    staged = stage(sources.members, scratch / "members.staged", ("group_id", "user_id"), ())
    members = _members(connection, staged, account)
    members = members.filter(~members.user_id.isin(settings.drop_users)) if settings.drop_users else members
    if sources.group_interactions:
        files, optional = _order_columns(sources.group_interactions)
        by_group = stage(files, scratch / "group_interactions.staged", ("group_id", "item_id"), optional)
        use_order_as_time(by_group)
    elif earlier is not None and (earlier.folder / "group_interactions.parquet").is_file():
        by_group = stage_nothing(scratch, earlier, "group_interactions", "group_id")
    else:
        return Groups(members, staged=[staged])
    rows, filtered, unit = _interactions(connection, by_group, settings, account, earlier)
    return Groups(members, rows, filtered, unit, [staged, by_group])


def _order_columns(files: list[Source]) -> tuple[list[Source], tuple[str, ...]]:
    """Return the files and their optional columns, with dataset.columns.order only if all files have it."""
    if all(ORDER in file.columns and has_column(file, ORDER) for file in files):
        return files, ("value", "timestamp", ORDER)
    plain = [replace(file, columns={k: v for k, v in file.columns.items() if k != ORDER}) for file in files]
    return plain, ("value", "timestamp")


def refuse_group_texts(sources: Sources, settings: DatasetSettings) -> None:
    """Raise ConfigError for settings about the texts of groups if no file describes groups."""
    for key in ("group_text", "group_attributes"):
        if getattr(settings, key) and not sources.groups:
            raise ConfigError(f"dataset.{key}={getattr(settings, key)}: " + (
                "groups made of users have no texts and attributes; remove the setting"
                if settings.synthetic_group_rule else
                "there is no file that describes groups; set dataset.group_info=<file> beside dataset.groups, or "
                "remove the setting"))


def _members(connection: BaseBackend, staged: StagedFiles, account: Account) -> Table:
    """Return group_id, user_id without repeats."""
    raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
    reject_empty(raw, staged, ("group_id", "user_id"))
    refuse_arrays(raw, staged, ("group_id", "user_id"))
    sound = raw.filter(raw.group_id.fill_null("") != "", raw.user_id.fill_null("") != "")
    members = materialise(sound.select("group_id", "user_id").distinct())
    read, rejected = sum(staged.num_read), len(staged.rejects)
    account.counts |= {"group_members_read": read, "group_members_rejected": rejected,
                       "group_members_repeated": read - rejected - size(members)}
    return members


def _interactions(connection: BaseBackend, staged: StagedFiles, settings: DatasetSettings, account: Account,
                  earlier: EarlierData | None) -> tuple[Table, Table, str]:
    """Return the filtered and merged rows, the sound rows that are not used, and the unit of time."""
    raw = read_raw(connection, staged, settings, "group_id", earlier)
    coded = encode(raw, [SPLITS.index(s.split) if s.split else FIRST for s in staged.sources])
    reject_unsound(raw, staged, coded)
    selected = select(coded, settings, raw.unit, raw.names, of_groups=True)
    merged = _merge(coded.with_rows(selected.rows), policy_of(settings, weighted=False), staged)
    # Without a column of values all rows are positives.
    positives, low, weak = divide_by_value(merged, settings) if "value" in staged.names else (merged, None, None)
    low = None if low is None else low.mutate(reason=ibis.literal("dislike"))
    presplit = raw.is_presplit
    rows = materialise(_decode(positives, coded, presplit))
    unused = [_decode(table, coded, presplit) for table in (selected.left_out, weak, low) if table is not None]
    filtered = union([rows.limit(0).mutate(reason=ibis.literal("")), *unused])
    counts = count_weak(weak)
    left_out = {name: number for name, number in counts_of(selected.counts, "group_").items() if number}
    account.counts |= {"group_interactions_read": sum(staged.num_read), "group_interactions_rejected":
                       len(staged.rejects), "group_duplicates": size(selected.rows) - size(merged), **left_out,
                       "group_below_min_value": counts["below_min_value"] + (0 if low is None else size(low)),
                       "group_not_positive": counts["not_positive"]}
    return rows, materialise(filtered), raw.unit


def _decode(rows: Table, coded: CodedRows, is_presplit: bool) -> Table:
    """Return coded rows with group_id, item_id and the name of their split, "" unless the files give it."""
    names = ibis.cases(*((rows.split == n, name) for n, name in enumerate(SPLITS)))
    named = rows.mutate(split=names if is_presplit else ibis.literal(""))
    named = named.inner_join(coded.users.rename(group_id="user_id"), "user").inner_join(coded.items, "item")
    return named.select(*columns_of(rows), *(["reason"] if "reason" in rows.columns else []))


def _merge(coded: CodedRows, policy: str, staged: StagedFiles) -> Table:
    """Return one row per group, item and split by dataset.duplicates. Raises DataError if that is `error`."""
    rows = coded.rows
    if policy != "error":
        return materialise(merge_duplicates(coded, policy))
    pairs = rows.group_by("split", "user", "item").agg(times=rows.count())
    twice = pairs.filter(pairs.times > 1).inner_join(coded.users, "user").inner_join(coded.items, "item")
    for row in collect(twice.order_by("user_id", "item_id", "split").limit(1)).to_pylist():
        files = ", ".join(str(source.path) for source in staged.sources)
        raise DataError(f"{files}: group '{row['user_id']}' and item '{row['item_id']}' are in {row['times']} rows, "
                        f"and dataset.duplicates=error; choose keep_last, keep_first, sum or max, or remove the "
                        f"duplicates")
    return rows
