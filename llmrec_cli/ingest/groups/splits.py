"""Dividing what groups did together: by the rule of the users or one of its own, and by the same functions."""

from dataclasses import replace
from typing import Any

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.engine import materialised, scalar, size
from llmrec_cli.ingest.groups.groups import columns_of
from llmrec_cli.ingest.interactions.coding import FIRST, Coded
from llmrec_cli.ingest.interactions.order import ORDER, TIE, with_ties
from llmrec_cli.ingest.interactions.splits import Divided, divide, since
from llmrec_cli.settings.split import ColdItems, Given, LeaveLastOut, NoSplit, Random, SplitSettings, Temporal


def divide_groups(rows: Table, settings: SplitSettings, unit: str, cutoff: dict[str, int], *,
                  chosen_unit: str = "auto", users_unit: str = "",
                  items: Table | None = None, known: Table | None = None) -> tuple[Table, dict[str, int]]:
    """Return `rows` (split, group_id, item_id, value, timestamp, order) with `split` set, and ties where there are.

    Counts: `group_leaks`, rows left out since an earlier split has their pair; `group_copies_kept_in_train`, rows that
    stay in training although they were chosen for validation, since a member was trained on the pair. These pairs are
    `known` (group_id, item_id; `known_to_members`).

    `cutoff` is the first timestamp of what the users' split holds out, {valid, test}, when that split is temporal: then
    a temporal division of the groups is at the same moments, for what is known of one is known of the other. `unit` and
    `users_unit` are how the timestamps of both were written, `chosen_unit` what the settings said of it. `items`
    (item_id, and the place of its split in SPLITS) are those of a users' split that holds items out: what is cold for
    users is cold for groups.
    """
    rule = group_rule(settings, bool(scalar(rows.split.max())))
    if not unit and isinstance(rule, (LeaveLastOut, Temporal)):
        raise DataError(f"dataset.group_interactions: has no column 'timestamp', which split.group={rule.kind} needs; "
                        f"use split.group=random or map it with dataset.columns.timestamp=<name>")
    coded = with_ties(coded_groups(rows))
    if isinstance(rule, Temporal) and cutoff:
        if (unit == "order") != (users_unit == "order"):
            raise DataError(f"dataset.group_interactions: its timestamps are written in '{unit}' and the users' in "
                            f"'{users_unit}', so one cutoff cannot be for both; write them alike or use "
                            f"split.group=random")
        divided = Divided(since(coded.rows, cutoff))
    elif isinstance(rule, ColdItems) and items is not None:
        parts = coded.items.inner_join(items, "item_id").select("item", own=items.split)
        joined = coded.rows.left_join(parts, "item")
        # What no user chose is in no part; it can be learnt from.
        divided = Divided(joined.mutate(split=joined.own.fill_null(ibis.literal(FIRST, "int8"))))
    else:
        carves = isinstance(rule, Given) and rule.valid > 0
        divided = divide(coded, rule, unit, chosen_unit, _coded_pairs(known, coded) if carves else None)
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
    own: dict[str, Any] = {} if settings.group_valid is None else {"valid": settings.group_valid}
    if own and kind in ("leave_last_out", "temporal", "none"):
        raise ConfigError(f"split.group_valid={settings.group_valid:g}: has no effect on groups that are divided by "
                          f"split.group={kind}; leave it out, or set split.group=random")
    if kind == settings.kind:
        return replace(settings, **own)
    of_users = ("seed",) if isinstance(settings, Given) and not settings.valid else ("valid", "test", "seed")
    shared: dict[str, Any] = {key: getattr(settings, key) for key in of_users if hasattr(settings, key)} | own
    if kind == "temporal":
        shared.pop("seed", None)
        return Temporal(**shared)
    if kind == "given":
        return Given(valid=settings.group_valid or 0.0, seed=shared.get("seed", Given.seed), leaks=settings.leaks)
    plain: dict[str, type[SplitSettings]] = {"leave_last_out": LeaveLastOut, "none": NoSplit}
    return plain[kind]() if kind in plain else Random(**shared)
