"""Leakage from training into held-out interactions of users and groups."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share
from llmrec_cli.ingest.audit.shape import Part, moment
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.settings.split import SplitSettings

PAIRS, CHOSEN = "held_out_pairs_in_training", "validation_pairs_in_test"
AT_ONCE = 4_000_000
"""Interactions that are compared with each other at a time, about."""
_ITEMS = 1 << 31
_MEANINGS = {PAIRS: "Pairs of validation or test that are in training too. A model that leaves out what a user has "
                    "seen cannot find them; one that does not has been told the answer.",
             CHOSEN: "Pairs of validation that are in the test too: what is chosen by one is chosen by the other."}


def check(name: str, meaning: str, count: int = 0, checked: int = 0, *, examples: Sequence[dict[str, Any]] = (),
          bad: bool = False, note: str = "") -> dict[str, Any]:
    """Return a check of the audit: how many of what was looked at were found, and whether that is a warning."""
    return {"name": name, "meaning": meaning, "count": count, "checked": checked, "share": share(count, checked),
            "examples": list(examples), "verdict": "warning" if bad else "ok", "note": note}


def leakage(folder: Folder, parts: dict[str, Part], per_user: Table, per_item: Table, split: SplitSettings,
            unit: str) -> list[dict[str, Any]]:
    """Return the checks that look at interactions and at items. The unit is "" without times.

    `per_user` has user and newest (the last moment of training), where the split is not temporal and there are times.
    """
    rows = folder.table("interactions")
    held = sum(part.size for split, part in parts.items() if split != "train")
    found = _repeated_pairs(folder, rows, parts, held)
    if unit:
        found.append(_after_cutoff(folder, rows, parts, unit) if split.by_cutoff else
                     _older_than_training(rows, per_user, held, split.kind))
        found.append(_described_later(folder, per_item, parts, unit))
    if folder.has("negatives"):
        found.append(_disliked(folder, rows, held))
    return found


def _repeated_pairs(folder: Folder, rows: Table, parts: dict[str, Part], held: int) -> list[dict[str, Any]]:
    """Return the checks for pairs that are in two splits."""
    counts = {PAIRS: 0, CHOSEN: 0}
    examples: dict[str, list[dict[str, Any]]] = {PAIRS: [], CHOSEN: []}
    for some in _by_users(rows, sum(part.size for part in parts.values())) if held else []:
        found = _both(some.filter(some.split != "test"), some.filter(some.split != "train"))
        found = found.filter(found.earlier != found.split)
        name = (found.earlier == "train").ifelse(PAIRS, CHOSEN)
        for row in collect(found.group_by(name=name).agg(size=found.count())).to_pylist():
            counts[row["name"]] += row["size"]
            if len(examples[row["name"]]) < SHOWN:
                chosen = found.filter(name == row["name"]).select("user", "item", "split")
                examples[row["name"]] += _first(folder, chosen)
    checked = {PAIRS: held, CHOSEN: parts["test"].size if "test" in parts else 0}
    return [check(name, _MEANINGS[name], counts[name], checked[name], examples=examples[name][:SHOWN],
                  bad=counts[name] > 0) for name in (PAIRS, CHOSEN)]


def _by_users(rows: Table, num_rows: int) -> Iterator[Table]:
    """Yield the rows of some users at a time, so that a join of them takes little memory however many there are."""
    num_parts = math.ceil(num_rows / AT_ONCE)
    width = math.ceil((int(scalar(rows.user.max())) + 1) / num_parts) if num_parts > 1 else 0
    for first in range(0, num_parts * width, width) if width else []:
        yield rows.filter(rows.user.between(first, first + width - 1))
    if not width:
        yield rows


def _both(left: Table, right: Table) -> Table:
    """Return user, item and split of the rows of `right` whose pair is in `left` too, and left's split, `earlier`."""
    # One number for two, in which no two pairs are the same: the join takes half the time and memory.
    pairs = left.select(pair=left.user * _ITEMS + left.item, earlier=left.split)
    return pairs.inner_join(right.select("user", "item", "split", pair=right.user * _ITEMS + right.item), "pair")


def _first(folder: Folder, found: Table) -> list[dict[str, Any]]:
    return folder.pairs(collect(found.order_by("user", "item", "split").limit(SHOWN)).to_pylist())


def cutoff_of(parts: dict[str, Part]) -> int | None:
    """Return the first moment that is held out; None when nothing is."""
    return min((part.first for split, part in parts.items() if split != "train"), default=None)


def _after_cutoff(folder: Folder, rows: Table, parts: dict[str, Part], unit: str) -> dict[str, Any]:
    name, meaning = "training_after_cutoff", ("Training interactions at or after the first one that is held out, and "
                                              "validation at or after the first of the test: the future is trained on.")
    earlier = [("train", cutoff_of(parts))]
    if "test" in parts:
        earlier.append(("valid", parts["test"].first))
    late = [(split, cutoff) for split, cutoff in earlier
            if cutoff is not None and split in parts and parts[split].last >= cutoff]
    checked = sum(parts[split].size for split, _ in earlier if split in parts)
    if not late:
        return check(name, meaning, 0, checked)
    tables = [rows.filter(rows.split == split, rows.timestamp >= cutoff) for split, cutoff in late]
    found = tables[0].union(*tables[1:]) if tables[1:] else tables[0]
    shown = collect(found.order_by("user", "item", "split").limit(SHOWN).select("user", "item", "split", "timestamp"))
    examples = [{**row, "timestamp": moment(row["timestamp"], unit)} for row in folder.pairs(shown.to_pylist())]
    return check(name, meaning, size(found), checked, examples=examples, bad=True)


def _older_than_training(rows: Table, per_user: Table, held: int, kind: str) -> dict[str, Any]:
    name, meaning = "held_out_older_than_training", ("Held-out interactions that are older than the newest one that "
                                                     "their user is trained on.")
    if not held:
        return check(name, meaning)
    joined = rows.filter(rows.split != "train").select("user", "timestamp") \
        .inner_join(per_user.filter(per_user.newest.notnull()).select("user", "newest"), "user")
    count = size(joined.filter(joined.timestamp < joined.newest))
    note = f"split={kind} does not measure forecasting: it measures filling gaps in a history." if count else ""
    return check(name, meaning, count, held, note=note)


def _described_later(folder: Folder, per_item: Table, parts: dict[str, Part], unit: str) -> dict[str, Any]:
    name, meaning = "items_described_after_cutoff", (
        "Items of training whose description (column `timestamp` of items.parquet) is from after the first held-out "
        "interaction: it may say what only the future knew.")
    items, cutoff = folder.table("items"), cutoff_of(parts)
    if "timestamp" not in items.columns or cutoff is None:
        return check(name, meaning, note="not looked at: there is no column `timestamp` in the items"
                     if cutoff is not None else "not looked at: nothing is held out")
    if parts["train"].last > cutoff:
        return check(name, meaning, note="not looked at: the split has no one moment at which training ends")
    at = timestamps.parse(items.timestamp, unit)
    if unit in ("s", "ms"):
        at = at.coalesce(timestamps.parse(items.timestamp, "iso"))  # never taken for a number, nor one for it
    timed = items.select("item", "timestamp", at=at).filter(items.timestamp.fill_null("") != "")
    trained = timed.semi_join(per_item.filter(per_item.train > 0), "item")
    late = trained.filter(trained["at"] >= cutoff)
    checked, unread, count = (size(t) for t in (trained, trained.filter(trained["at"].isnull()), late))
    shown = collect(late.order_by(late["at"].desc(), "item").limit(SHOWN).select("item", "timestamp")).to_pylist()
    names = folder.entities("item", [row["item"] for row in shown])
    examples = [{**names[row["item"]], "timestamp": row["timestamp"]} for row in shown]
    note = f"{unread:,} of these timestamps are not readable as the interactions' are ('{unit}')" if unread else ""
    return check(name, meaning, count, checked, examples=examples, bad=count > 0, note=note)


def _disliked(folder: Folder, rows: Table, held: int) -> dict[str, Any]:
    name, meaning = "held_out_disliked_in_training", ("Held-out pairs that are dislikes in training: a model that "
                                                      "learns from dislikes will rank them low.")
    negatives = folder.table("negatives")
    found = _both(negatives.filter(negatives.split == "train"), rows.filter(rows.split != "train"))
    found = found.select("user", "item", "split")
    count = size(found)
    return check(name, meaning, count, held, examples=_first(folder, found) if count else ())


def warnings(checks: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each check that is a warning."""
    return [_SENTENCES[c["name"]].format(**c) for c in checks if c["verdict"] == "warning"]


_SENTENCES = {
    PAIRS: "{count:,} pairs of validation or test ({share:.2%}) are in training too; a model that leaves seen items "
           "out cannot find them; split.leaks=drop leaves them out of what is held out",
    CHOSEN: "{count:,} pairs of validation are in the test too ({share:.2%} of it); what is chosen by one is chosen by "
            "the other; split.leaks=drop leaves them out of the test",
    "group_held_out_pairs_in_training": "{count:,} pairs of a group and an item ({share:.2%}) are in its validation or "
                                        "test and in its training too; a model that leaves seen items out cannot find "
                                        "them; split.leaks=drop leaves them out of what is held out",
    "training_after_cutoff": "{count:,} interactions of training or validation are at or after the first one that is "
                             "held out after them; split.test_from and split.valid_from set one cutoff",
    "items_described_after_cutoff": "{count:,} items of training were described at or after the first held-out "
                                    "interaction; their texts may say what only the future knew",
    "held_out_titles_in_user_texts": "{count:,} of {checked:,} held-out titles looked for ({share:.2%}) are in their "
                                     "user's text; make dataset.user_text of what was known before"}


_OWN_PAIRS = "group_held_out_pairs_in_training"
_COUNTS = {_OWN_PAIRS: "group_held_out_also_in_train",
           "group_held_out_known_to_members": "group_held_out_known_to_members",
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
    return [_found(folder, _OWN_PAIRS,
                   "Pairs of a group and an item in its validation or test that are in its training "
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
        account.notes.append(f"{groups['held_out_without_history']:,} groups in validation or test have no training "
                             f"interactions, neither their own nor a member's; they get lists by text or popularity")
    account.counts |= {ours: found[name]["count"] for name, ours in _COUNTS.items() if name in found}
    for name, what in (("group_held_out_known_to_members", "of what groups hold out is in the training of a member"),
                       ("held_out_in_training_of_groups", "of what users hold out is in the training of their groups, "
                        "which a model of groups learns from")):
        if name in found and found[name]["count"]:
            account.notes.append(f"{found[name]['count']:,} pairs ({found[name]['share']:.1%}) {what}")
