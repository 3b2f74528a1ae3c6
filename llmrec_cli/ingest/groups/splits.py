"""Dividing what groups did together: by the rule of the users or one of its own, and by the same functions."""

from dataclasses import fields, replace
from typing import Any

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import materialised, scalar, size
from llmrec_cli.ingest.groups.groups import Groups, columns_of
from llmrec_cli.ingest.interactions.build import Kept
from llmrec_cli.ingest.interactions.id_codes import FIRST, Coded
from llmrec_cli.ingest.interactions.order import ORDER, TIE, with_ties
from llmrec_cli.ingest.interactions.splits import Divided, UserSplit, build_split
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.settings.split import SPLITS as RULES
from llmrec_cli.settings.split import SplitSettings


def divide_beside_users(groups: Groups, settings: SplitSettings, kept: Kept, divided: Divided, chosen_unit: str,
                        account: Account) -> Groups:
    """Return the groups with their interactions divided; `kept` and `divided` are the users' interactions."""
    if groups.rows is None:
        return groups
    # split and item_id of each item, where a split is one of items.
    cold_items = divided.rows.select("item", "split").distinct().inner_join(kept.coded.items, "item").drop("item") \
        if settings.cold == "item" else None
    rows, counts = divide_groups(groups.rows, settings, groups.unit, UserSplit(divided.cutoff, kept.unit, cold_items),
                                 chosen_unit=chosen_unit,
                                 known=known_to_members(groups.members, kept.coded, divided.rows, settings))
    account.counts |= counts
    return groups.divided(rows)


def divide_groups(rows: Table, settings: SplitSettings, unit: str, users: UserSplit, *, chosen_unit: str = "auto",
                  known: Table | None = None) -> tuple[Table, dict[str, int]]:
    """Return `rows` (split, group_id, item_id, value, timestamp, order) with `split` set, and ties where there are.

    Counts: `group_leaks`, rows left out since an earlier split has their pair; `group_copies_kept_in_train`, rows that
    stay in training although they were chosen for validation, since a member was trained on the pair. These pairs are
    `known` (group_id, item_id; `known_to_members`).

    `users` are the parts of the users' division that hold for groups too. `unit` is the unit of the timestamps,
    `chosen_unit` the one in the settings.
    """
    rule = group_rule(settings, bool(scalar(rows.split.max())))
    if not unit and rule.needs_time:
        raise DataError(f"dataset.group_interactions: has no column 'timestamp', which split.group={rule.kind} needs; "
                        f"use split.group=random or map it with dataset.columns.timestamp=<name>")
    coded = with_ties(coded_groups(rows))
    divided = build_split(rule).divide_groups(coded, users, unit, chosen_unit,
                                              _coded_pairs(known, coded) if rule.carved_share > 0 else None)
    named = divided.rows.inner_join(coded.users.rename(group_id="user_id"), "user").inner_join(coded.items, "item")
    names = ibis.cases(*((named.split == n, name) for n, name in enumerate(SPLITS)))
    counts = {"group_leaks": 0 if divided.leaks is None else size(divided.leaks),
              "group_copies_kept_in_train": divided.num_known}
    ties = [TIE] if TIE in named.columns else []
    return materialised(named.mutate(split=names).select(*columns_of(named), *ties)), counts


def known_to_members(members: Table, coded: Coded, rows: Table, settings: SplitSettings) -> Table | None:
    """Return the pairs (group_id, item_id) that a member (group_id, user_id) is trained on, None with split.leaks=keep.

    `rows` are the users' interactions after they were divided, in the codes of `coded`.
    """
    if settings.leaks == "keep":
        return None
    trained = rows.filter(rows.split == FIRST).select("user", "item")
    of_members = members.inner_join(coded.users, "user_id").inner_join(trained, "user").inner_join(coded.items, "item")
    return of_members.select("group_id", "item_id").distinct()


def _coded_pairs(known: Table | None, coded: Coded) -> Table | None:
    """Return the pairs (group_id, item_id) in the codes of groups, in the place of users, and items."""
    if known is None:
        return None
    named = known.rename(user_id="group_id")
    return materialised(named.inner_join(coded.users, "user_id").inner_join(coded.items, "item_id")
                        .select("user", "item"))


def coded_groups(rows: Table) -> Coded:
    """Return rows of text ids with the group in the place of the user, for what is written about users."""
    users, items = (materialised(ids.mutate(**{kind: ibis.row_number().over(order_by=f"{kind}_id").cast("int32")}))
                    for kind, ids in (("user", rows.select(user_id="group_id").distinct()),
                                      ("item", rows.select("item_id").distinct())))
    split = ibis.cases(*((rows.split == name, ibis.literal(n, "int8")) for n, name in enumerate(SPLITS)),
                       else_=ibis.literal(FIRST, "int8"))
    coded = rows.mutate(user_id=rows.group_id, split=split).inner_join(users, "user_id").inner_join(items, "item_id")
    more = [ORDER] if ORDER in rows.columns else []
    return Coded(materialised(coded.select("user", "item", "value", "timestamp", "split", *more)), users, items)


def group_rule(settings: SplitSettings, divided: bool) -> SplitSettings:
    """Return the split by which group interactions are divided; `divided` says whether the files do it.

    Fractions, seed and cutoffs are those of the users' split where it has them, else the defaults. Raises ConfigError
    where the setting and the files contradict each other.
    """
    kind = settings.group or ("given" if divided else settings.kind)
    rule = RULES[kind]
    if divided and not rule.is_given:
        raise ConfigError(f"split.group={kind}: dataset.group_train and its like are divided already; leave "
                          f"split.group out, or name all of it as dataset.group_interactions")
    if rule.is_given and not divided:
        raise ConfigError("split.group=given: dataset.group_interactions is one whole; name dataset.group_train with "
                          "group_valid or group_test, or set split.group=random|leave_last_out|temporal|none"
                          if settings.group else
                          "split=given: says nothing of dataset.group_interactions, which is one whole; name "
                          "dataset.group_train with group_valid or group_test, or set split.group="
                          "random|leave_last_out|temporal|none")
    own: dict[str, Any] = {} if settings.group_valid is None else {"valid": settings.group_valid}
    if own and not rule.has_group_shares:
        raise ConfigError(f"split.group_valid={settings.group_valid:g}: has no effect on groups that are divided by "
                          f"split.group={kind}; leave it out, or set split.group=random")
    if kind == settings.kind:
        return replace(settings, **own)
    # Of files that are divided only group_valid carves, and their pairs may be in several splits.
    shared = settings.for_groups() | ({"valid": 0.0, "leaks": settings.leaks} if rule.is_given else {}) | own
    own_keys = {field.name for field in fields(rule)}
    return rule(**{key: value for key, value in shared.items() if key in own_keys})
