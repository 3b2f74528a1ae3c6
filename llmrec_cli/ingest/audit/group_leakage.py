"""Whether what groups held out can be known from training: their own, and that of their members."""

from typing import Any

from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import SHOWN, Folder
from llmrec_cli.ingest.audit.leakage import check
from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.output.account import Account

PAIRS = "group_held_out_pairs_in_training"
_COUNTS = {PAIRS: "group_held_out_also_in_train", "group_held_out_known_to_members": "group_held_out_known_to_members",
           "held_out_in_training_of_groups": "held_out_in_training_of_groups"}
"""Check -> what it is called among the counts."""


def group_leakage(folder: Folder) -> list[dict[str, Any]]:
    """Return the checks of groups; none where no file says what groups did."""
    if not folder.has("group_interactions"):
        return []
    rows, members = folder.table("group_interactions"), folder.table("groups").select("group", "user")
    trained, held = rows.filter(rows.split == "train"), rows.filter(rows.split != "train")
    of_users = folder.table("interactions").select("user", "item", "split")
    num_held, user_train, user_held = (size(held), of_users.filter(of_users.split == "train"),
                                       of_users.filter(of_users.split != "train"))
    seen = held.semi_join(trained, ["group", "item"]).select("group", "item", "split")
    asked = held.select("group", "item", "split").inner_join(members, "group")
    known = asked.semi_join(user_train, ["user", "item"]).select("group", "item", "split").distinct()
    told = trained.select("group", "item").inner_join(members, "group").select("user", "item").distinct()
    leaked = user_held.semi_join(told, ["user", "item"])
    names = list(_COUNTS)
    return [_found(folder, PAIRS, "Pairs of a group and an item in its validation or test that are in its training "
                   "too. A model that leaves out what a group has seen cannot find them; one that does not has been "
                   "told the answer.", seen, num_held, "group", bad=True),
            _found(folder, names[1], "Pairs of a group and an item in its validation or test that a member has in "
                   "training. It may be as it should be: they went there alone, then together.", known, num_held,
                   "group"),
            _found(folder, names[2], "Pairs of a user and an item in validation or test that a group of theirs has in "
                   "training: a model that learns from groups has been told of them.", leaked, size(user_held), "user")]


def _found(folder: Folder, name: str, meaning: str, pairs: Table, checked: int, kind: str,
           bad: bool = False) -> dict[str, Any]:
    count = size(pairs)
    shown = collect(pairs.order_by(kind, "item", "split").limit(SHOWN)).to_pylist() if count else []
    who = folder.entities(kind, [row[kind] for row in shown])
    items = folder.entities("item", [row["item"] for row in shown])
    examples = [{f"{kind}_id": who[row[kind]][f"{kind}_id"], **items[row["item"]], "split": row["split"]}
                for row in shown]
    return check(name, meaning, count, checked, examples=examples, bad=bad and count > 0)


def count(groups: dict[str, Any] | None, checks: list[dict[str, Any]], account: Account) -> None:
    """Add what was found of groups to the counts and notes; warnings are those of `leakage.warnings`.

    `groups` is what `relations.describe_groups` says.
    """
    if groups is None:
        return
    found = {c["name"]: c for c in checks}
    account.counts |= {"group_members_without_history": groups["members_without_history"],
                       "groups_held_out_without_history": groups["held_out_without_history"]}
    if groups["members_without_history"]:
        account.notes.append(f"{groups['members_without_history']:,} of {groups['members']:,} members of groups have "
                             f"no training interaction of their own")
    if groups["held_out_without_history"]:
        account.notes.append(f"{groups['held_out_without_history']:,} groups are asked for in validation or test of "
                             f"whom training knows nothing, neither of the group nor of a member; texts and popularity "
                             f"answer them")
    account.counts |= {ours: found[name]["count"] for name, ours in _COUNTS.items() if name in found}
    for name, what in (("group_held_out_known_to_members", "of what groups hold out is in the training of a member"),
                       ("held_out_in_training_of_groups", "of what users hold out is in the training of their groups, "
                        "which a model of groups learns from")):
        if name in found and found[name]["count"]:
            account.notes.append(f"{found[name]['count']:,} pairs ({found[name]['share']:.1%}) {what}")
