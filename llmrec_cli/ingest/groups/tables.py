"""Writing groups: their numbers, tables and texts, and what is counted and said of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import collect, materialised, size
from llmrec_cli.ingest.groups.groups import Groups, columns_of
from llmrec_cli.ingest.groups.splits import coded_groups
from llmrec_cli.ingest.interactions.build import union
from llmrec_cli.ingest.interactions.id_codes import UNNAMED, number
from llmrec_cli.ingest.interactions.order import ORDER, count_ties, keys_of
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.writing import typed, write_entities, write_left_out, write_table
from llmrec_cli.ingest.texts.catalogue import Described, fit_classes
from llmrec_cli.ingest.texts.repeats import MERGED
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.settings.dataset import DatasetSettings

MEMBERS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("user", pa.int64()), ("user_id", pa.string())])
_INTERACTIONS = pa.schema([("group", pa.int64()), ("group_id", pa.string()), ("item", pa.int64()),
                           ("item_id", pa.string()), ("value", pa.float64()), ("timestamp", pa.int64()),
                           ("split", pa.string())])


@dataclass(frozen=True)
class Numbered:
    """Groups as they are written.

    Attributes
    ----------
    members : group_id, user_id, user
    rows : split, group_id, item_id, item, value, timestamp, order and ties where there are; None where no file says
        what groups did
    filtered : sound rows that are not used, with reason; None where no file says what groups did
    catalogue : group (int64), group_id and rank, 0 for standing groups, which training names
    """

    members: Table
    rows: Table | None
    filtered: Table | None
    catalogue: Table


def number_groups(groups: Groups, users: Table, items: Table, account: Account,
                  before: Table | None = None) -> Numbered:
    """Return the groups numbered like users: standing ones first, those without an interaction last.

    `users` and `items` are the catalogues (user, user_id and item, item_id); rows of `groups` have their split. Members
    that the users do not have, and rows whose item or group is unknown, are left out and counted. Groups of `before`
    (group, group_id) keep their numbers.
    """
    members = materialised(groups.members.inner_join(users.select("user_id", "user"), "user_id"))
    account.counts["group_members_unknown"] = size(groups.members) - size(members)
    rows = filtered = None
    if groups.rows is not None:
        rows, unknown = _known(groups.rows, members, items, account)
        parts = [table for table in (groups.filtered, *unknown) if table is not None]
        filtered = union(parts) if groups.filtered is not None else None
    found = Numbered(members, rows, filtered, _catalogue(members, rows, before))
    _count(found, account)
    if rows is not None and groups.unit:
        code = ibis.cases(*((rows.split == name, n) for n, name in enumerate(SPLITS)))
        account.counts |= count_ties(rows.mutate(split=code), "group_id", "group_")
    return found


def write_group_tables(folder: Path, groups: Groups, users: Table, items: Table, described: Described,
                       rules: Mapping[str, TextRules], settings: DatasetSettings, account: Account,
                       before: Table | None) -> tuple[list[str], dict[str, TextRules]]:
    """Number the groups and write their tables; return the content hashes, and `rules` (by kind) with theirs fitted.

    For `before` see `number_groups`.
    """
    numbered = number_groups(groups, users, items, account, before)
    hashes = write_groups(folder, numbered)
    of_texts, fitted = write_group_texts(folder, numbered, described, rules["group"], account)
    account.notes += notes(account.counts, settings.synthetic_group_rule)
    account.warnings += warnings(account.counts)
    return [*hashes, *of_texts], {**rules, "group": fitted}


def write_groups(folder: Path, groups: Numbered) -> list[str]:
    """Write groups.parquet and, where there are such rows, group_interactions.parquet; return the content hashes.

    What is sound and not used goes to group_filtered.parquet, for mode=append.
    """
    by_group = (groups.members.inner_join(groups.catalogue, "group_id").order_by("group", "user")
                .select(*MEMBERS.names))
    content = [write_table(folder / "groups.parquet", MEMBERS, typed(MEMBERS, by_group))]
    if groups.rows is not None:
        more = [(ORDER, pa.int64())] if ORDER in groups.rows.columns else []
        target = pa.schema([*_INTERACTIONS, *more])
        numbered = (groups.rows.inner_join(groups.catalogue, "group_id")
                    .order_by("group", *keys_of(groups.rows), "item", "split", "value").select(*target.names))
        content.append(write_table(folder / "group_interactions.parquet", target, typed(target, numbered)))
        if groups.filtered is not None and size(groups.filtered):
            target = pa.schema([*((name, target.field(name).type) for name in columns_of(groups.rows)),
                                ("reason", pa.string())])
            unused = groups.filtered.order_by("group_id", "item_id", "timestamp", "split", "value", "reason")
            write_table(folder / "group_filtered.parquet", target, typed(target, unused.select(*target.names)))
    return content


def write_group_texts(folder: Path, groups: Numbered, described: Described, rules: TextRules,
                      account: Account) -> tuple[list[str], TextRules]:
    """Write group_texts.parquet where a file tells of groups; return the content hash and the rules as fitted.

    What is told of groups that have no members goes to groups_left_out.parquet.
    """
    if described.rows is None:
        return [], rules
    fitted = fit_classes(rules, groups.catalogue, described)
    content = write_entities(folder, groups.catalogue, described, "group", fitted, account)
    write_left_out(folder, groups.catalogue, described, "group")
    account.counts |= {"groups_not_in_file": size(groups.catalogue.anti_join(described.rows, "group_id")),
                       "groups_left_out": size(described.rows.anti_join(groups.catalogue, "group_id"))}
    return [content], fitted


def _known(rows: Table, members: Table, items: Table, account: Account) -> tuple[Table, list[Table]]:
    """Return the rows whose group has members and whose item is in the catalogue, with `item`; the others, with reason.
    """
    of_groups = rows.semi_join(members, "group_id")
    strangers = rows.anti_join(members, "group_id")
    known = materialised(of_groups.inner_join(items.select("item_id", "item"), "item_id"))
    account.counts |= {"groups_without_members": size(strangers.select("group_id").distinct()),
                       "group_interactions_without_members": size(strangers),
                       "group_interactions_unknown_item": size(of_groups) - size(known)}
    unknown = of_groups.anti_join(items, "item_id")
    return known, [table.mutate(reason=ibis.literal(reason)) for table, reason in
                   ((strangers, "group_without_members"), (unknown, "unknown_item"))]


def _catalogue(members: Table, rows: Table | None, before: Table | None) -> Table:
    """Return group (int64), group_id and rank."""
    if rows is None:
        rows = members.limit(0).select("group_id", item_id="user_id", value=ibis.literal(1.0),
                                       timestamp=ibis.literal(0, "int64"), split=ibis.literal(""))
    coded = coded_groups(rows)
    codes = coded.users.rename(group="user", group_id="user_id")
    return number(coded.rows.rename(group="user"), codes, "group", [members], before)


def _count(groups: Numbered, account: Account) -> None:
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


_NOTES = (("group_members_rejected", "rows of dataset.groups are bad; rejects.parquet lists them"),
          ("group_members_repeated", "rows of dataset.groups name a member of a group again; each counts once"),
          ("group_members_unknown", "members of groups are not among the users; they are left out"),
          ("groups_of_one", "groups have one member"),
          ("groups_cold", "groups are in validation or test only, so they are cold"),
          ("groups_without_interactions", "groups without a kept interaction"),
          ("group_interactions_rejected", "rows of group interactions are bad; rejects.parquet lists them"),
          ("group_duplicates", "rows of group interactions repeat a group and an item; dataset.duplicates merged them"),
          ("group_below_min_value", "rows of group interactions are below dataset.min_value"),
          ("group_not_positive", "rows of group interactions have a value of 0 or below, so they are not positives; "
                                 "dataset.min_value=0 keeps those of 0"),
          ("group_dropped_ids", "rows of group interactions name an item of dataset.drop_items"),
          ("group_outside_times", "rows of group interactions are after dataset.newest or before dataset.oldest"),
          ("group_leaks", "rows of group interactions are held out and in an earlier split too; split.leaks left them "
                          "out"),
          ("group_copies_kept_in_train", "rows of group interactions were chosen for validation and stay in training, "
                                         "since a member's training has the pair; split.leaks=keep takes them"),
          ("groups_rejected", "rows of dataset.group_info are bad; rejects.parquet lists them"),
          ("groups_repeated", "rows of dataset.group_info repeat an id; they are merged column by column: "
                              + MERGED),
          ("groups_not_in_file", "groups are not in dataset.group_info; they are kept without text"),
          ("groups_left_out", "groups of dataset.group_info have no members; they are left out"),
          ("group_interactions_unknown_item", "rows of group interactions name an item that is not among the items; "
                                              "they are left out"))


def notes(counts: dict[str, int], synthetic: str = "") -> list[str]:
    """Return what a person should know of the counts, one sentence each; `synthetic` is how groups were made, if so."""
    made = [f"the groups are synthetic ({synthetic}), made of users for a demonstration: nobody observed them"]
    told = (f"{counts['groups']:,} groups ({counts['groups_standing']:,} standing, which training knows, and "
            f"{counts['groups_occasional']:,} occasional) with {counts['group_members']:,} memberships of "
            f"{counts['group_users']:,} users")
    if "group_train" in counts:
        told += (f"; their interactions: {counts['group_train']:,} train, {counts['group_valid']:,} valid, "
                 f"{counts['group_test']:,} test")
    return [*(made if synthetic else []), told, *(f"{counts[key]:,} {why}" for key, why in _NOTES if counts.get(key))]


def warnings(counts: dict[str, int]) -> list[str]:
    """Return what is likely to be wrong."""
    found = []
    if counts.get("groups_without_members"):
        found.append(f"{counts['groups_without_members']:,} groups have interactions "
                     f"({counts['group_interactions_without_members']:,} rows, left out) but no members in "
                     f"dataset.groups; is it the file of another data set?")
    if counts.get("group_copies_kept_in_train") and not counts.get("group_valid"):
        found.append("every row of groups that was chosen for validation is in a member's training, so groups have no "
                     "validation; raise split.group_valid, or take copies with split.leaks=keep")
    return found
