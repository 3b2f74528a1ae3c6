"""Groups: who is in them, and what they did together.

A group's interactions are checked, merged and divided like a user's, by the same functions: for the time of such a call
the group's id has the place of the user's.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import ibis
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.checks import reject_empty
from llmrec_cli.ingest.coding import FIRST, encode
from llmrec_cli.ingest.earlier import Earlier
from llmrec_cli.ingest.engine import collect, materialised, read_staged, size
from llmrec_cli.ingest.interactions import judge, merge_duplicates, read_raw, reject_unsound
from llmrec_cli.ingest.sources import Sources
from llmrec_cli.ingest.staging import Staged, stage
from llmrec_cli.settings.dataset import DatasetSettings

COLUMNS = ("split", "group_id", "item_id", "value", "timestamp")


@dataclass(frozen=True)
class Groups:
    """What the files say of groups.

    Attributes
    ----------
    members : group_id, user_id, each pair once
    rows : split ("" where the files do not say it), group_id, item_id, value, timestamp; None without a file of them
    unit : how timestamps were written, "" without any
    staged : the files, whose rejects are to be looked at
    """

    members: Table
    rows: Table | None = None
    unit: str = ""
    staged: list[Staged] = field(default_factory=list)

    def divided(self, rows: Table) -> "Groups":
        """Return the same with other rows."""
        return replace(self, rows=rows)


def read_groups(connection: BaseBackend, sources: Sources, settings: DatasetSettings, scratch: Path,
                account: Account, earlier: Earlier | None = None) -> Groups | None:
    """Return the groups of a data set, or None when it has none. Unsound rows join the rejects of `staged`."""
    if not sources.members:
        return None
    staged = stage(sources.members, scratch / "members.staged", ("group_id", "user_id"), ())
    members = _members(connection, staged, account)
    if not sources.group_interactions:
        return Groups(members, staged=[staged])
    by_group = stage(sources.group_interactions, scratch / "group_interactions.staged", ("group_id", "item_id"),
                     ("value", "timestamp"))
    rows, unit = _interactions(connection, by_group, settings, account, earlier)
    return Groups(members, rows, unit, [staged, by_group])


def refuse_group_texts(sources: Sources, settings: DatasetSettings) -> None:
    """Raise ConfigError for settings about the texts of groups where no file tells of groups."""
    for key in ("group_text", "group_attributes"):
        if getattr(settings, key) and not sources.groups:
            raise ConfigError(f"dataset.{key}={getattr(settings, key)}: " + (
                "groups that are made of users have no texts and attributes; leave it out" if settings.made_groups else
                "there is no file of groups to make it of; set dataset.group_info=<file> beside dataset.groups, or "
                "leave it out"))


def _members(connection: BaseBackend, staged: Staged, account: Account) -> Table:
    """Return group_id, user_id: who is named twice is in the group once."""
    raw = read_staged(connection, staged.path).rename({name: f"c{n}" for n, name in enumerate(staged.names)})
    reject_empty(raw, staged, ("group_id", "user_id"))
    sound = raw.filter(raw.group_id.fill_null("") != "", raw.user_id.fill_null("") != "")
    members = materialised(sound.select("group_id", "user_id").distinct())
    read, rejected = sum(staged.num_read), len(staged.rejects)
    account.counts |= {"group_members_read": read, "group_members_rejected": rejected,
                       "group_members_repeated": read - rejected - size(members)}
    return members


def _interactions(connection: BaseBackend, staged: Staged, settings: DatasetSettings, account: Account,
                  earlier: Earlier | None) -> tuple[Table, str]:
    """Return the sound rows, those of a pair merged, without those that are too low, and their unit of time."""
    raw = read_raw(connection, staged, settings, "group_id", earlier)
    coded = encode(raw, [SPLITS.index(s.split) if s.split else FIRST for s in staged.sources])
    sound = reject_unsound(raw, staged, coded)
    merged = _merged(coded.rows, coded.users, coded.items, settings.duplicates, staged)
    kept = judge(merged, settings)[0] if "value" in staged.names else merged
    names = ibis.cases(*((kept.split == n, name) for n, name in enumerate(SPLITS)))
    split = names if any(source.split for source in staged.sources) else ibis.literal("")
    rows = (kept.mutate(split=split).inner_join(coded.users.rename(group_id="user_id"), "user")
            .inner_join(coded.items, "item"))
    found = materialised(rows.select(*COLUMNS))
    merged_size, kept_size = size(merged), size(found)
    account.counts |= {"group_interactions_read": sum(staged.num_read), "group_interactions_rejected":
                       len(staged.rejects), "group_duplicates": sound - merged_size,
                       "group_below_min_value": merged_size - kept_size}
    return found, raw.unit


def _merged(rows: Table, groups: Table, items: Table, policy: str, staged: Staged) -> Table:
    """Return one row per group, item and split, by dataset.duplicates, which may refuse them."""
    if policy != "error":
        return materialised(merge_duplicates(rows, policy))
    pairs = rows.group_by("split", "user", "item").agg(times=rows.count())
    twice = pairs.filter(pairs.times > 1).inner_join(groups, "user").inner_join(items, "item")
    for row in collect(twice.order_by("user_id", "item_id", "split").limit(1)).to_pylist():
        files = ", ".join(str(source.path) for source in staged.sources)
        raise DataError(f"{files}: group '{row['user_id']}' has {row['times']} interactions with item "
                        f"'{row['item_id']}', and dataset.duplicates=error; choose keep_last, keep_first, sum or max, "
                        f"or remove the duplicates")
    return rows
