"""Numbering of groups, their tables and texts, and the counts, notes and warnings about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import collect, materialise, size
from llmrec_cli.ingest.groups.groups import Groups, columns_of
from llmrec_cli.ingest.groups.splits import coded_groups
from llmrec_cli.ingest.interactions.build import union
from llmrec_cli.ingest.interactions.id_codes import UNNAMED, number
from llmrec_cli.ingest.interactions.order import ORDER, count_ties, order_columns
from llmrec_cli.ingest.output.row_accounting import Account, count_notes
from llmrec_cli.ingest.output.writing import cast_batches, write_entities, write_left_out, write_table
from llmrec_cli.ingest.texts.catalogue import Descriptions, fit_classes
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.language.phrases import Phrase, fixed_phrase
from llmrec_cli.settings.dataset import DatasetSettings

MEMBERS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("user", pa.int64()), ("user_id", pa.string())])
_INTERACTIONS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("item", pa.int64()),
                           ("item_id", pa.string()), ("value", pa.float64()), ("timestamp", pa.int64()),
                           ("split", pa.string())])


@dataclass(frozen=True)
class NumberedGroups:
    """Groups as written.

    Attributes
    ----------
    members : group_id, user_id, user
    rows : split, group_id, item_id, item, value, timestamp, and order and ties if present; None without group
        interactions
    filtered : sound rows that are not used, with `reason`; None without group interactions
    catalogue : group (int64), group_id and rank; the rank is 0 for standing groups, which have training interactions
    """

    members: Table
    rows: Table | None
    filtered: Table | None
    catalogue: Table


def number_groups(groups: Groups, users: Table, items: Table, account: Account,
                  before: Table | None = None) -> NumberedGroups:
    """Number the groups like users: standing groups first, groups without interactions last.

    `users` and `items` are the catalogues (user, user_id and item, item_id); the rows of `groups` have their split.
    Members missing from the users, and rows of unknown items or groups without members, are dropped and counted. Groups
    of `before` (group, group_id) keep their integer ids.
    """
    members = materialise(groups.members.inner_join(users.select("user_id", "user"), "user_id"))
    account.counts["group_members_unknown"] = size(groups.members) - size(members)
    rows = filtered = None
    if groups.rows is not None:
        rows, unknown = _select_known(groups.rows, members, items, account)
        parts = [table for table in (groups.filtered, *unknown) if table is not None]
        filtered = union(parts) if groups.filtered is not None else None
    numbered = NumberedGroups(members, rows, filtered, _catalogue(members, rows, before))
    _count(numbered, account)
    if rows is not None and groups.unit:
        code = ibis.cases(*((rows.split == name, n) for n, name in enumerate(SPLITS)))
        account.counts |= count_ties(rows.mutate(split=code), "group_id", "group_")
    return numbered


def write_group_tables(folder: Path, groups: Groups, users: Table, items: Table, described: Descriptions,
                       rules: Mapping[str, TextRules], settings: DatasetSettings, account: Account,
                       before: Table | None) -> tuple[list[str], dict[str, TextRules]]:
    """Number the groups and write their tables; return the content hashes, and `rules` with the fitted group rules.

    `before` is the earlier catalogue, as in `number_groups`.
    """
    numbered = number_groups(groups, users, items, account, before)
    hashes = write_groups(folder, numbered)
    of_texts, fitted = write_group_texts(folder, numbered, described, rules["group"], account)
    account.notes += notes(account.counts, settings.synthetic_group_rule)
    account.warnings += warnings(account.counts)
    return [*hashes, *of_texts], {**rules, "group": fitted}


def write_groups(folder: Path, groups: NumberedGroups) -> list[str]:
    """Write groups.parquet and, if there are group interactions, group_interactions.parquet; return content hashes.

    Sound rows that are not used go to group_filtered.parquet, for mode=append.
    """
    by_group = (groups.members.inner_join(groups.catalogue, "group_id").order_by("group", "user")
                .select(*MEMBERS.names))
    content = [write_table(folder / "groups.parquet", MEMBERS, cast_batches(MEMBERS, by_group))]
    if groups.rows is not None:
        more = [(ORDER, pa.int64())] if ORDER in groups.rows.columns else []
        target = pa.schema([*_INTERACTIONS, *more])
        numbered = (groups.rows.inner_join(groups.catalogue, "group_id")
                    .order_by("group", *order_columns(groups.rows), "item", "split", "value").select(*target.names))
        content.append(write_table(folder / "group_interactions.parquet", target, cast_batches(target, numbered)))
        if groups.filtered is not None and size(groups.filtered):
            target = pa.schema([*((name, target.field(name).type) for name in columns_of(groups.rows)),
                                ("reason", pa.string())])
            unused = groups.filtered.order_by("group_id", "item_id", "timestamp", "split", "value", "reason")
            write_table(folder / "group_filtered.parquet", target, cast_batches(target, unused.select(*target.names)))
    return content


def write_group_texts(folder: Path, groups: NumberedGroups, described: Descriptions, rules: TextRules,
                      account: Account) -> tuple[list[str], TextRules]:
    """Write group_texts.parquet if a file describes groups; return the content hash and the fitted rules.

    Descriptions of groups without members go to groups_left_out.parquet.
    """
    if described.rows is None:
        return [], rules
    fitted = fit_classes(rules, groups.catalogue, described)
    content = write_entities(folder, groups.catalogue, described, "group", fitted, account)
    write_left_out(folder, groups.catalogue, described, "group")
    account.counts |= {"groups_not_in_file": size(groups.catalogue.anti_join(described.rows, "group_id")),
                       "groups_left_out": size(described.rows.anti_join(groups.catalogue, "group_id"))}
    return [content], fitted


def _select_known(rows: Table, members: Table, items: Table, account: Account) -> tuple[Table, list[Table]]:
    """Return the rows whose group has members and whose item is known, with `item`; and the other rows, with `reason`.
    """
    of_groups = rows.semi_join(members, "group_id")
    strangers = rows.anti_join(members, "group_id")
    with_item = materialise(of_groups.inner_join(items.select("item_id", "item"), "item_id"))
    account.counts |= {"groups_without_members": size(strangers.select("group_id").distinct()),
                       "group_interactions_without_members": size(strangers),
                       "group_interactions_unknown_item": size(of_groups) - size(with_item)}
    unknown = of_groups.anti_join(items, "item_id")
    return with_item, [table.mutate(reason=ibis.literal(reason)) for table, reason in
                   ((strangers, "group_without_members"), (unknown, "unknown_item"))]


def _catalogue(members: Table, rows: Table | None, before: Table | None) -> Table:
    """Return group (int64), group_id and rank."""
    if rows is None:
        rows = members.limit(0).select("group_id", item_id="user_id", value=ibis.literal(1.0),
                                       timestamp=ibis.literal(0, "int64"), split=ibis.literal(""))
    coded = coded_groups(rows)
    codes = coded.users.rename(group="user", group_id="user_id")
    return number(coded.rows.rename(group="user"), codes, "group", [members], before)


def _count(groups: NumberedGroups, account: Account) -> None:
    members, rows = groups.members, groups.rows
    sizes = members.group_by("group_id").agg(size=members.count())
    ranks = {row["rank"]: row["size"] for row in collect(_sizes(groups.catalogue, "rank")).to_pylist()}
    counts = account.counts
    counts |= {"groups": sum(ranks.values()), "group_members": size(members),
               "group_users": size(members.select("user_id").distinct()),
               "groups_of_one": size(sizes.filter(sizes["size"] == 1)), "groups_standing": ranks.get(0, 0),
               "groups_occasional": sum(n for rank, n in ranks.items() if rank > 0)}
    if rows is None:
        return
    splits = {row["split"]: row["size"] for row in collect(_sizes(rows, "split")).to_pylist()}
    counts |= {f"group_{split}": splits.get(split, 0) for split in SPLITS}
    counts |= {"groups_cold": sum(n for rank, n in ranks.items() if 0 < rank < UNNAMED),
               "groups_without_interactions": ranks.get(UNNAMED, 0)}


def _sizes(table: Table, key: str) -> Table:
    return table.group_by(key).agg(size=table.count())


_NOTES = (("group_members_rejected", "{num:,} rows of dataset.groups rejected; listed in rejects.parquet"),
          ("group_members_repeated", "{num:,} rows of dataset.groups repeat a member of a group; each member counts "
                                     "once"),
          ("group_members_unknown", "{num:,} members of groups ignored: not among the users"),
          ("groups_of_one", "{num:,} groups have one member"),
          ("groups_cold", "{num:,} cold groups: in validation or test, not in training"),
          ("groups_without_interactions", "{num:,} groups have no interactions left"),
          ("group_interactions_rejected", "{num:,} rows of group interactions rejected; listed in rejects.parquet"),
          ("group_duplicates", "{num:,} rows of group interactions repeat a group and an item; merged by "
                               "dataset.duplicates"),
          ("group_below_min_value", "{num:,} rows of group interactions dropped: value below dataset.min_value"),
          ("group_not_positive", "{num:,} rows of group interactions dropped: value of 0 or below; "
                                 "dataset.min_value=0 keeps those with 0"),
          ("group_dropped_ids", "{num:,} rows of group interactions dropped: item in dataset.drop_items"),
          ("group_outside_times", "{num:,} rows of group interactions dropped: after dataset.newest or before "
                                  "dataset.oldest"),
          ("group_leaks", "{num:,} held-out rows of group interactions removed by split.leaks: an earlier split has "
                          "them too"),
          ("group_copies_kept_in_train", "{num:,} rows of group interactions stay in training instead of validation, "
                                         "since a member has the pair in training; split.leaks=keep moves them to "
                                         "validation"),
          ("groups_rejected", "{num:,} rows of dataset.group_info rejected; listed in rejects.parquet"),
          ("groups_repeated", "{num:,} rows of dataset.group_info repeat an id; they are merged column by column: the "
                              "newest file wins, and within a file the first row that is not empty"),
          ("groups_not_in_file", "{num:,} groups are not in dataset.group_info; they are kept, without text"),
          ("groups_left_out", "{num:,} groups of dataset.group_info ignored: no members"),
          ("group_interactions_unknown_item", "{num:,} rows of group interactions ignored: item not among the items"))


def notes(counts: dict[str, int], synthetic: str = "") -> list[Phrase]:
    """Return notes on groups, one sentence each; `synthetic` is the rule that made the groups, "" for real groups."""
    origin = [Phrase("the groups are synthetic ({how}): made of users for demonstration, not observed",
                     how=fixed_phrase(synthetic))]
    summary = Phrase("{groups:,} groups ({standing:,} standing, with training interactions, and {occasional:,} "
                     "occasional) with {members:,} memberships of {users:,} users", groups=counts["groups"],
                     standing=counts["groups_standing"], occasional=counts["groups_occasional"],
                     members=counts["group_members"], users=counts["group_users"])
    if "group_train" in counts:
        summary = Phrase("{summary}; their interactions: {train:,} train, {valid:,} valid, {test:,} test",
                         summary=summary, **{split: counts[f"group_{split}"] for split in SPLITS})
    return [*(origin if synthetic else []), summary, *count_notes(counts, _NOTES)]


def warnings(counts: dict[str, int]) -> list[Phrase]:
    """Return warnings about groups, one sentence each."""
    lines = []
    if counts.get("groups_without_members"):
        lines.append(Phrase("{num:,} groups have interactions ({rows:,} rows, ignored) but no members in "
                            "dataset.groups; is it the file of another data set?",
                            num=counts["groups_without_members"], rows=counts["group_interactions_without_members"]))
    if counts.get("group_copies_kept_in_train") and not counts.get("group_valid"):
        lines.append(Phrase("groups have no validation interactions: each one chosen for validation is also in a "
                            "member's training; raise split.group_valid, or use them anyway with split.leaks=keep"))
    return lines
