"""Groups: who is in them, and what they did together.

A group's interactions are checked, merged and divided like a user's, by the same functions: for the time of such a call
the group's id has the place of the user's.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.checks import reject_empty
from llmrec_cli.ingest.coding import FIRST, Coded, encode
from llmrec_cli.ingest.earlier import Earlier
from llmrec_cli.ingest.engine import collect, materialised, read_staged, scalar, size
from llmrec_cli.ingest.interactions import judge, merge_duplicates, read_raw, reject_unsound
from llmrec_cli.ingest.numbering import UNNAMED, number
from llmrec_cli.ingest.sources import Sources
from llmrec_cli.ingest.splits import divide, since
from llmrec_cli.ingest.staging import Staged, stage
from llmrec_cli.ingest.writing import typed, write_table
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.split import Given, LeaveLastOut, NoSplit, Random, SplitSettings, Temporal

MEMBERS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("user", pa.int64()), ("user_id", pa.string())])
INTERACTIONS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("item", pa.int64()),
                          ("item_id", pa.string()), ("value", pa.float64()), ("timestamp", pa.int64()),
                          ("split", pa.string())])
_COLUMNS = ("split", "group_id", "item_id", "value", "timestamp")


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
    found = materialised(rows.select(*_COLUMNS))
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


def divide_groups(rows: Table, settings: SplitSettings, unit: str, cutoff: dict[str, int], *,
                  chosen_unit: str = "auto", users_unit: str = "") -> Table:
    """Return `rows` (split, group_id, item_id, value, timestamp) with `split` set to train, valid or test.

    `cutoff` is the first timestamp of what the users' split holds out, {valid, test}, when that split is temporal: then
    a temporal division of the groups is at the same moments, for what is known of one is known of the other. `unit` and
    `users_unit` are how the timestamps of both were written, `chosen_unit` what the settings said of it.
    """
    rule = group_rule(settings, bool(scalar(rows.split.max())))
    if isinstance(rule, Given):
        return rows
    if not unit and isinstance(rule, (LeaveLastOut, Temporal)):
        raise DataError(f"dataset.group_interactions: has no column 'timestamp', which split.group={rule.kind} needs; "
                        f"use split.group=random or map it with dataset.columns.timestamp=<name>")
    coded = _coded(rows)
    if isinstance(rule, Temporal) and cutoff:
        if (unit == "order") != (users_unit == "order"):
            raise DataError(f"dataset.group_interactions: its timestamps are written in '{unit}' and the users' in "
                            f"'{users_unit}', so one cutoff cannot be for both; write them alike or use "
                            f"split.group=random")
        divided = since(coded.rows, cutoff)
    else:
        divided = divide(coded, rule, unit, chosen_unit).rows
    named = divided.inner_join(coded.users.rename(group_id="user_id"), "user").inner_join(coded.items, "item")
    names = ibis.cases(*((named.split == n, name) for n, name in enumerate(SPLITS)))
    return materialised(named.mutate(split=names).select(*_COLUMNS))


def _coded(rows: Table) -> Coded:
    """Return rows of text ids with the group in the place of the user, for what is written about users."""
    users, items = (materialised(ids.mutate(**{kind: ibis.row_number().over(order_by=f"{kind}_id").cast("int32")}))
                    for kind, ids in (("user", rows.select(user_id="group_id").distinct()),
                                      ("item", rows.select("item_id").distinct())))
    split = ibis.cases(*((rows.split == name, ibis.literal(n, "int8")) for n, name in enumerate(SPLITS)),
                       else_=ibis.literal(FIRST, "int8"))
    coded = rows.mutate(user_id=rows.group_id, split=split).inner_join(users, "user_id").inner_join(items, "item_id")
    return Coded(materialised(coded.select("user", "item", "value", "timestamp", "split")), users, items)


def group_rule(settings: SplitSettings, divided: bool) -> SplitSettings:
    """Return the split by which group interactions are divided; `divided` says whether the files do it.

    Fractions, seed and cutoffs are those of the users' split where it has them, else the defaults. Raises ConfigError
    where the setting and the files contradict each other.
    """
    kind = settings.group or ("given" if divided else settings.kind)
    if divided and kind != "given":
        raise ConfigError(f"split.group={kind}: dataset.group_train and its like are divided already; leave "
                          f"split.group out, or name all of it as dataset.group_interactions")
    if kind == "given" and not divided:
        raise ConfigError("split.group=given: dataset.group_interactions is one whole; name dataset.group_train with "
                          "group_valid or group_test, or set split.group=random|leave_last_out|temporal|none"
                          if settings.group else
                          "split=given: says nothing of dataset.group_interactions, which is one whole; name "
                          "dataset.group_train with group_valid or group_test, or set split.group="
                          "random|leave_last_out|temporal|none")
    if kind == settings.kind:
        return settings
    shared: dict[str, Any] = {key: getattr(settings, key) for key in ("valid", "test", "seed")
                              if hasattr(settings, key)}
    if kind == "temporal":
        shared.pop("seed", None)
        return Temporal(**shared)
    plain: dict[str, type[SplitSettings]] = {"leave_last_out": LeaveLastOut, "none": NoSplit, "given": Given}
    return plain[kind]() if kind in plain else Random(**shared)


def write_groups(folder: Path, groups: Groups, users: Table, items: Table, account: Account,
                 before: Table | None = None) -> list[str]:
    """Write groups.parquet and, where there are such rows, group_interactions.parquet; return the content hashes.

    `users` and `items` are the catalogues (user, user_id and item, item_id); rows of `groups` have their split. Members
    that the users do not have, and rows whose item or group is unknown, are left out and counted. Groups of `before`
    (group, group_id) keep their numbers.
    """
    members = materialised(groups.members.inner_join(users.select("user_id", "user"), "user_id"))
    account.counts["group_members_unknown"] = size(groups.members) - size(members)
    rows = None if groups.rows is None else _known(groups.rows, members, items, account)
    numbers = _numbers(members, rows, before)
    _count(members, rows, numbers, account)
    account.notes += notes(account.counts)
    account.warnings += warnings(account.counts)
    by_group = (members.inner_join(numbers, "group_id").order_by("group", "user")
                .select("group", "group_id", "user", "user_id"))
    content = [write_table(folder / "groups.parquet", MEMBERS, typed(MEMBERS, by_group))]
    if rows is not None:
        numbered = (rows.inner_join(numbers, "group_id").order_by("group", "timestamp", "item", "split", "value")
                    .select(*INTERACTIONS.names))
        content.append(write_table(folder / "group_interactions.parquet", INTERACTIONS, typed(INTERACTIONS, numbered)))
    return content


def _known(rows: Table, members: Table, items: Table, account: Account) -> Table:
    """Return the rows whose group has members and whose item is in the catalogue, with `item`."""
    of_groups = rows.semi_join(members, "group_id")
    strangers = rows.anti_join(members, "group_id")
    known = materialised(of_groups.inner_join(items.select("item_id", "item"), "item_id"))
    account.counts |= {"groups_without_members": size(strangers.select("group_id").distinct()),
                       "group_interactions_without_members": size(strangers),
                       "group_interactions_unknown_item": size(of_groups) - size(known)}
    return known


def _numbers(members: Table, rows: Table | None, before: Table | None) -> Table:
    """Return group (int64), group_id and rank: numbered like users, groups without an interaction last."""
    if rows is None:
        rows = members.limit(0).select("group_id", item_id="user_id", value=ibis.literal(1.0),
                                       timestamp=ibis.literal(0, "int64"), split=ibis.literal(""))
    coded = _coded(rows)
    codes = coded.users.rename(group="user", group_id="user_id")
    return number(coded.rows.rename(group="user"), codes, "group", [members], before)


def _count(members: Table, rows: Table | None, numbers: Table, account: Account) -> None:
    sizes = members.group_by("group_id").agg(size=members.count())
    ranks = {row["rank"]: row["size"] for row in collect(_sizes(numbers, "rank")).to_pylist()}
    counts = account.counts
    counts |= {"groups": sum(ranks.values()), "group_members": size(members),
               "group_users": size(members.select("user_id").distinct()),
               "groups_of_one": size(sizes.filter(sizes["size"] == 1))}
    if rows is None:
        return
    splits = {row["split"]: row["size"] for row in collect(_sizes(rows, "split")).to_pylist()}
    pairs = [rows.filter(test).select("group_id", "item_id") for test in (rows.split == "train", rows.split != "train")]
    counts |= {f"group_{split}": splits.get(split, 0) for split in SPLITS}
    counts |= {"groups_cold": sum(n for rank, n in ranks.items() if 0 < rank < UNNAMED),
               "groups_without_interactions": ranks.get(UNNAMED, 0),
               "group_held_out_also_in_train": size(pairs[1].semi_join(pairs[0], ["group_id", "item_id"]))}


def _sizes(table: Table, key: str) -> Table:
    return table.group_by(key).agg(size=table.count())


_NOTES = (("group_members_rejected", "rows of dataset.groups are bad; rejects.parquet lists them"),
          ("group_members_repeated", "rows of dataset.groups name a member of a group again; each counts once"),
          ("group_members_unknown", "members of groups are not among the users; they are left out"),
          ("groups_of_one", "groups have one member"),
          ("groups_cold", "groups are in validation or test only, so they are cold"),
          ("groups_without_interactions", "groups without a kept interaction"),
          ("group_interactions_rejected", "rows of group interactions are bad; rejects.parquet lists them"),
          ("group_duplicates", "rows of group interactions repeat a group and an item; dataset.duplicates merged them"),
          ("group_below_min_value", "rows of group interactions are below dataset.min_value"),
          ("group_interactions_unknown_item", "rows of group interactions name an item that is not among the items; "
                                              "they are left out"))


def notes(counts: dict[str, int]) -> list[str]:
    """Return what a person should know of the counts, one sentence each."""
    told = (f"{counts['groups']:,} groups with {counts['group_members']:,} memberships of {counts['group_users']:,} "
            f"users")
    if "group_train" in counts:
        told += (f"; their interactions: {counts['group_train']:,} train, {counts['group_valid']:,} valid, "
                 f"{counts['group_test']:,} test")
    return [told, *(f"{counts[key]:,} {why}" for key, why in _NOTES if counts.get(key))]


def warnings(counts: dict[str, int]) -> list[str]:
    """Return what is likely to be wrong."""
    found = []
    if counts.get("groups_without_members"):
        found.append(f"{counts['groups_without_members']:,} groups have interactions "
                     f"({counts['group_interactions_without_members']:,} rows, left out) but no members in "
                     f"dataset.groups; is it the file of another data set?")
    if counts.get("group_held_out_also_in_train"):
        found.append(f"{counts['group_held_out_also_in_train']:,} pairs of a group and an item are in its validation "
                     f"or test and in its training too; a model that leaves seen items out cannot find them")
    return found
