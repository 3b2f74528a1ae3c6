"""Splitting group interactions, by the split rule of the users or by a rule of their own."""

from dataclasses import fields, replace
from typing import Any

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import materialise, scalar, size
from llmrec_cli.ingest.groups.groups import Groups, columns_of
from llmrec_cli.ingest.interactions.build import CleanRows
from llmrec_cli.ingest.interactions.id_codes import FIRST, CodedRows
from llmrec_cli.ingest.interactions.order import ORDER, TIE, with_ties
from llmrec_cli.ingest.interactions.splits import SplitRows, UserSplit, build_split
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.settings.split import SPLITS as RULES
from llmrec_cli.settings.split import SplitSettings


def split_beside_users(groups: Groups, settings: SplitSettings, clean: CleanRows, divided: SplitRows, chosen_unit: str,
                        account: Account) -> Groups:
    """Split the interactions of groups; `clean` and `divided` are the users' interactions before and after the split.
    """
    if groups.rows is None:
        return groups
    # item_id and split of each item, if the split holds out items.
    cold_items = divided.rows.select("item", "split").distinct().inner_join(clean.coded.items, "item").drop("item") \
        if settings.cold == "item" else None
    rows, counts = divide_groups(groups.rows, settings, groups.unit, UserSplit(divided.cutoff, clean.unit, cold_items),
                                 chosen_unit=chosen_unit,
                                 seen=known_to_members(groups.members, clean.coded, divided.rows, settings))
    account.counts |= counts
    return groups.with_rows(rows)


def divide_groups(rows: Table, settings: SplitSettings, unit: str, users: UserSplit, *, chosen_unit: str = "auto",
                  seen: Table | None = None) -> tuple[Table, dict[str, int]]:
    """Set `split` of `rows` (split, group_id, item_id, value, timestamp, order) and add ties; return rows and counts.

    Counts: `group_leaks`, rows removed because an earlier split has their pair; `group_copies_kept_in_train`, rows
    chosen for validation that stay in training because a member has the pair in training. `seen` (group_id, item_id)
    are these pairs, from `known_to_members`.

    `users` are the parts of the users' split that groups share. `unit` is the unit of the timestamps, `chosen_unit`
    the unit in the settings.
    """
    rule = group_rule(settings, bool(scalar(rows.split.max())))
    if not unit and rule.needs_time:
        raise DataError(f"dataset.group_interactions: no column 'timestamp', which split.group={rule.kind} needs; use "
                        f"split.group=random or map it with dataset.columns.timestamp=<name>")
    coded = with_ties(coded_groups(rows))
    divided = build_split(rule).divide_groups(coded, users, unit, chosen_unit,
                                              _coded_pairs(seen, coded) if rule.carved_share > 0 else None)
    named = divided.rows.inner_join(coded.users.rename(group_id="user_id"), "user").inner_join(coded.items, "item")
    names = ibis.cases(*((named.split == n, name) for n, name in enumerate(SPLITS)))
    counts = {"group_leaks": 0 if divided.leaks is None else size(divided.leaks),
              "group_copies_kept_in_train": divided.num_known}
    ties = [TIE] if TIE in named.columns else []
    return materialise(named.mutate(split=names).select(*columns_of(named), *ties)), counts


def known_to_members(members: Table, coded: CodedRows, rows: Table, settings: SplitSettings) -> Table | None:
    """Return the pairs (group_id, item_id) that a member has in training; None with split.leaks=keep.

    `members` has group_id and user_id; `rows` are the users' split interactions, in the codes of `coded`.
    """
    if settings.leaks == "keep":
        return None
    trained = rows.filter(rows.split == FIRST).select("user", "item")
    of_members = members.inner_join(coded.users, "user_id").inner_join(trained, "user").inner_join(coded.items, "item")
    return of_members.select("group_id", "item_id").distinct()


def _coded_pairs(seen: Table | None, coded: CodedRows) -> Table | None:
    """Return the pairs (group_id, item_id) as codes (user, item), with groups in the place of users."""
    if seen is None:
        return None
    named = seen.rename(user_id="group_id")
    return materialise(named.inner_join(coded.users, "user_id").inner_join(coded.items, "item_id")
                        .select("user", "item"))


def coded_groups(rows: Table) -> CodedRows:
    """Return rows of text ids as coded rows, with groups in the place of users, for functions written for users."""
    users, items = (materialise(ids.mutate(**{kind: ibis.row_number().over(order_by=f"{kind}_id").cast("int32")}))
                    for kind, ids in (("user", rows.select(user_id="group_id").distinct()),
                                      ("item", rows.select("item_id").distinct())))
    split = ibis.cases(*((rows.split == name, ibis.literal(n, "int8")) for n, name in enumerate(SPLITS)),
                       else_=ibis.literal(FIRST, "int8"))
    coded = rows.mutate(user_id=rows.group_id, split=split).inner_join(users, "user_id").inner_join(items, "item_id")
    more = [ORDER] if ORDER in rows.columns else []
    return CodedRows(materialise(coded.select("user", "item", "value", "timestamp", "split", *more)), users, items)


def group_rule(settings: SplitSettings, divided: bool) -> SplitSettings:
    """Return the split settings for group interactions; `divided` is True if the files give the split.

    Shares, seed and cutoffs are those of the users' split if it has them, else the defaults. Raises ConfigError if
    settings and files contradict each other.
    """
    kind = settings.group or ("given" if divided else settings.kind)
    rule = RULES[kind]
    if divided and not rule.is_given:
        raise ConfigError(f"split.group={kind}: the files dataset.group_train and so on are split already; remove "
                          f"split.group, or give all files as dataset.group_interactions")
    if rule.is_given and not divided:
        key = "split.group=given" if settings.group else "split=given"
        raise ConfigError(f"{key}: dataset.group_interactions is not split; use dataset.group_train with group_valid "
                          f"or group_test, or set split.group=random|leave_last_out|temporal|none")
    own: dict[str, Any] = {} if settings.group_valid is None else {"valid": settings.group_valid}
    if own and not rule.has_group_shares:
        raise ConfigError(f"split.group_valid={settings.group_valid:g}: has no effect on groups with "
                          f"split.group={kind}; remove it, or set split.group=random")
    if kind == settings.kind:
        return replace(settings, **own)
    # In split files only group_valid carves validation, and pairs may be in several splits.
    shared = settings.for_groups() | ({"valid": 0.0, "leaks": settings.leaks} if rule.is_given else {}) | own
    own_keys = {field.name for field in fields(rule)}
    return rule(**{key: value for key, value in shared.items() if key in own_keys})
