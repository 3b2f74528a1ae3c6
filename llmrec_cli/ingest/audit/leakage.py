"""Leakage from training into held-out interactions of users and groups."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share
from llmrec_cli.ingest.audit.shape import Part, format_time
from llmrec_cli.ingest.engine import collect, scalar, size
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers import timestamps
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.split import SplitSettings

PAIRS, TUNED = "held_out_pairs_in_training", "validation_pairs_in_test"
AT_ONCE = 4_000_000
"""Approximate number of interactions compared with each other at a time."""
_ITEMS = 1 << 31
_MEANINGS = {PAIRS: Phrase("Validation and test pairs that are also in training. A model that excludes seen items "
                           "cannot recommend them; any other model was trained on the answer."),
             TUNED: Phrase("Validation pairs that are also in the test: tuning on validation would tune on the test.")}


def check(name: str, meaning: Phrase, count: int = 0, checked: int = 0, *, examples: Sequence[dict[str, Any]] = (),
          bad: bool = False, note: Phrase | None = None, not_checked: Phrase | None = None) -> dict[str, Any]:
    """Return a check of the audit: how many of the `checked` rows are affected, and whether that is a warning.

    `not_checked` is the reason why the check was skipped.
    """
    return {"name": name, "meaning": meaning, "count": count, "checked": checked, "share": share(count, checked),
            "examples": list(examples), "verdict": "warning" if bad else "ok", "note": note or "",
            "not_checked": not_checked or ""}


def leakage(folder: Folder, parts: dict[str, Part], per_user: Table, per_item: Table, split: SplitSettings,
            unit: str) -> list[dict[str, Any]]:
    """Return the leakage checks of interactions and items. The unit is "" without times.

    `per_user` has user and newest (the last time in training) if there are times and the split is not temporal.
    """
    rows = folder.table("interactions")
    held = sum(part.size for split, part in parts.items() if split != "train")
    checks = _repeated_pairs(folder, rows, parts, held)
    if unit:
        checks.append(_after_cutoff(folder, rows, parts, unit) if split.by_cutoff else
                     _older_than_training(rows, per_user, held, split.kind))
        checks.append(_described_later(folder, per_item, parts, unit))
    if folder.has("negatives"):
        checks.append(_disliked(folder, rows, held))
    return checks


def _repeated_pairs(folder: Folder, rows: Table, parts: dict[str, Part], held: int) -> list[dict[str, Any]]:
    """Return the checks for user-item pairs in two splits."""
    counts = {PAIRS: 0, TUNED: 0}
    examples: dict[str, list[dict[str, Any]]] = {PAIRS: [], TUNED: []}
    for some in _by_users(rows, sum(part.size for part in parts.values())) if held else []:
        repeated = _both(some.filter(some.split != "test"), some.filter(some.split != "train"))
        repeated = repeated.filter(repeated.earlier != repeated.split)
        name = (repeated.earlier == "train").ifelse(PAIRS, TUNED)
        for row in collect(repeated.group_by(name=name).agg(size=repeated.count())).to_pylist():
            counts[row["name"]] += row["size"]
            if len(examples[row["name"]]) < SHOWN:
                selected = repeated.filter(name == row["name"]).select("user", "item", "split")
                examples[row["name"]] += _first(folder, selected)
    checked = {PAIRS: held, TUNED: parts["test"].size if "test" in parts else 0}
    return [check(name, _MEANINGS[name], counts[name], checked[name], examples=examples[name][:SHOWN],
                  bad=counts[name] > 0) for name in (PAIRS, TUNED)]


def _by_users(rows: Table, num_rows: int) -> Iterator[Table]:
    """Yield the rows of some users at a time, so that joining them takes little memory."""
    num_parts = math.ceil(num_rows / AT_ONCE)
    width = math.ceil((int(scalar(rows.user.max())) + 1) / num_parts) if num_parts > 1 else 0
    for first in range(0, num_parts * width, width) if width else []:
        yield rows.filter(rows.user.between(first, first + width - 1))
    if not width:
        yield rows


def _both(left: Table, right: Table) -> Table:
    """Return user, item and split of the rows of `right` whose pair is also in `left`, and left's split, `earlier`."""
    # Each pair as one distinct number: the join takes half the time and memory.
    pairs = left.select(pair=left.user * _ITEMS + left.item, earlier=left.split)
    return pairs.inner_join(right.select("user", "item", "split", pair=right.user * _ITEMS + right.item), "pair")


def _first(folder: Folder, pairs: Table) -> list[dict[str, Any]]:
    return folder.pairs(collect(pairs.order_by("user", "item", "split").limit(SHOWN)).to_pylist())


def cutoff_of(parts: dict[str, Part]) -> int | None:
    """Return the time of the first held-out interaction; None when nothing is held out."""
    return min((part.first for split, part in parts.items() if split != "train"), default=None)


def _after_cutoff(folder: Folder, rows: Table, parts: dict[str, Part], unit: str) -> dict[str, Any]:
    name, meaning = "training_after_cutoff", Phrase("Training interactions at or after the first held-out one, and "
                                                    "validation interactions at or after the first of the test: a "
                                                    "model would be trained on the future.")
    earlier = [("train", cutoff_of(parts))]
    if "test" in parts:
        earlier.append(("valid", parts["test"].first))
    late = [(split, cutoff) for split, cutoff in earlier
            if cutoff is not None and split in parts and parts[split].last >= cutoff]
    checked = sum(parts[split].size for split, _ in earlier if split in parts)
    if not late:
        return check(name, meaning, 0, checked)
    tables = [rows.filter(rows.split == split, rows.timestamp >= cutoff) for split, cutoff in late]
    late_rows = tables[0].union(*tables[1:]) if tables[1:] else tables[0]
    first = collect(late_rows.order_by("user", "item", "split").limit(SHOWN)
                    .select("user", "item", "split", "timestamp"))
    examples = [{**row, "timestamp": format_time(row["timestamp"], unit)} for row in folder.pairs(first.to_pylist())]
    return check(name, meaning, size(late_rows), checked, examples=examples, bad=True)


def _older_than_training(rows: Table, per_user: Table, held: int, kind: str) -> dict[str, Any]:
    name, meaning = "held_out_older_than_training", Phrase("Held-out interactions that are older than their user's "
                                                           "newest training interaction.")
    if not held:
        return check(name, meaning)
    joined = rows.filter(rows.split != "train").select("user", "timestamp") \
        .inner_join(per_user.filter(per_user.newest.notnull()).select("user", "newest"), "user")
    count = size(joined.filter(joined.timestamp < joined.newest))
    note = Phrase("split={kind} does not measure forecasting; it measures how well gaps in a history are filled.",
                  kind=kind) if count else None
    return check(name, meaning, count, held, note=note)


def _described_later(folder: Folder, per_item: Table, parts: dict[str, Part], unit: str) -> dict[str, Any]:
    name, meaning = "items_described_after_cutoff", Phrase(
        "Training items with a description from the time of the first held-out interaction or later (column "
        "`timestamp` of items.parquet): it may contain information from the future.")
    items, cutoff = folder.table("items"), cutoff_of(parts)
    if "timestamp" not in items.columns or cutoff is None:
        return check(name, meaning, not_checked=Phrase("The items have no column `timestamp`.") if cutoff is not None
                     else Phrase("Nothing is held out."))
    if parts["train"].last > cutoff:
        return check(name, meaning, not_checked=Phrase("The split has no single time at which training ends."))
    at = timestamps.parse(items.timestamp, unit)
    if unit in ("s", "ms"):
        at = at.coalesce(timestamps.parse(items.timestamp, "iso"))  # no text is both a number and ISO 8601
    timed = items.select("item", "timestamp", at=at).filter(items.timestamp.fill_null("") != "")
    trained = timed.semi_join(per_item.filter(per_item.train > 0), "item")
    late = trained.filter(trained["at"] >= cutoff)
    checked, unread, count = (size(t) for t in (trained, trained.filter(trained["at"].isnull()), late))
    latest = collect(late.order_by(late["at"].desc(), "item").limit(SHOWN).select("item", "timestamp")).to_pylist()
    names = folder.entities("item", [row["item"] for row in latest])
    examples = [{**names[row["item"]], "timestamp": row["timestamp"]} for row in latest]
    note = Phrase("{num:,} of these timestamps cannot be read in the interactions' unit ('{unit}').", num=unread,
                  unit=unit) if unread else None
    return check(name, meaning, count, checked, examples=examples, bad=count > 0, note=note)


def _disliked(folder: Folder, rows: Table, held: int) -> dict[str, Any]:
    name, meaning = "held_out_disliked_in_training", Phrase("Held-out pairs that are dislikes in training: a model "
                                                            "that learns from dislikes ranks them low.")
    negatives = folder.table("negatives")
    pairs = _both(negatives.filter(negatives.split == "train"), rows.filter(rows.split != "train"))
    pairs = pairs.select("user", "item", "split")
    count = size(pairs)
    return check(name, meaning, count, held, examples=_first(folder, pairs) if count else ())


def warnings(checks: Sequence[dict[str, Any]]) -> list[Phrase]:
    """Return the warning of each check whose verdict is `warning`."""
    return [Phrase(_NOTES[c["name"]], **{key: c[key] for key in ("count", "checked", "share")})
            for c in checks if c["verdict"] == "warning"]


_NOTES = {
    PAIRS: "{count:,} validation or test pairs ({share:.2%}) are also in training; a model that excludes seen items "
           "cannot recommend them; split.leaks=drop removes them from validation and test",
    TUNED: "{count:,} validation pairs are also in the test ({share:.2%} of it), so tuning on validation tunes on the "
            "test; split.leaks=drop removes them from the test",
    "group_held_out_pairs_in_training": "{count:,} validation or test pairs of groups ({share:.2%}) are also in the "
                                        "group's training; a model that excludes seen items cannot recommend them; "
                                        "split.leaks=drop removes them from validation and test",
    "training_after_cutoff": "{count:,} training or validation interactions are at or after the first interaction of "
                             "a later split; split.test_from and split.valid_from set one cutoff for all users",
    "items_described_after_cutoff": "{count:,} training items were described at or after the first held-out "
                                    "interaction; their texts may contain information from the future",
    "held_out_titles_in_user_texts": "{count:,} of {checked:,} checked held-out titles ({share:.2%}) are in their "
                                     "user's text; make dataset.user_text only of columns that were known before"}


_OWN_PAIRS = "group_held_out_pairs_in_training"
_COUNTS = {_OWN_PAIRS: "group_held_out_also_in_train",
           "group_held_out_known_to_members": "group_held_out_known_to_members",
           "held_out_in_training_of_groups": "held_out_in_training_of_groups"}
"""Name of a check -> its name in the counts."""


def group_leakage(folder: Folder) -> list[dict[str, Any]]:
    """Return the leakage checks of groups; none without group interactions."""
    if not folder.has("group_interactions"):
        return []
    rows, members = folder.table("group_interactions"), folder.table("groups").select("group", "user")
    trained, held = rows.filter(rows.split == "train"), rows.filter(rows.split != "train")
    of_users = folder.table("interactions").select("user", "item", "split")
    num_held, user_train, user_held = (size(held), of_users.filter(of_users.split == "train"),
                                       of_users.filter(of_users.split != "train"))
    seen = held.semi_join(trained, ["group", "item"]).select("group", "item", "split")
    held_by_member = held.select("group", "item", "split").inner_join(members, "group")
    seen_by_members = held_by_member.semi_join(user_train, ["user", "item"]).select("group", "item", "split").distinct()
    group_training = trained.select("group", "item").inner_join(members, "group").select("user", "item").distinct()
    leaked = user_held.semi_join(group_training, ["user", "item"])
    names = list(_COUNTS)
    return [_pair_check(folder, _OWN_PAIRS,
                        Phrase("Validation and test pairs of groups that are also in the group's training. A model "
                               "that excludes seen items cannot recommend them; any other model was trained on the "
                               "answer."), seen, num_held, "group", bad=True),
            _pair_check(folder, names[1],
                        Phrase("Validation and test pairs of groups that a member has in training. This may be right: "
                               "a member may have been there alone, then with the group."),
                        seen_by_members, num_held, "group"),
            _pair_check(folder, names[2],
                        Phrase("Validation and test pairs of users that one of their groups has in training: a model "
                               "trained on groups has seen them."), leaked, size(user_held), "user")]


def _pair_check(folder: Folder, name: str, meaning: Phrase, pairs: Table, checked: int, kind: str,
                bad: bool = False) -> dict[str, Any]:
    count = size(pairs)
    rows = collect(pairs.order_by(kind, "item", "split").limit(SHOWN)).to_pylist() if count else []
    who = folder.entities(kind, [row[kind] for row in rows])
    items = folder.entities("item", [row["item"] for row in rows])
    examples = [{f"{kind}_id": who[row[kind]][f"{kind}_id"], **items[row["item"]], "split": row["split"]}
                for row in rows]
    return check(name, meaning, count, checked, examples=examples, bad=bad and count > 0)


def count(groups: dict[str, Any] | None, checks: list[dict[str, Any]], account: Account) -> None:
    """Add the findings about groups to the counts and notes of `account`; `warnings` returns the warnings.

    `groups` is the result of `relations.describe_groups`.
    """
    if groups is None:
        return
    by_name = {c["name"]: c for c in checks}
    account.counts |= {"group_members_without_history": groups["members_without_history"],
                       "groups_held_out_without_history": groups["held_out_without_history"]}
    if groups["members_without_history"]:
        account.notes.append(Phrase("{num:,} of {total:,} members of groups have no training interaction of their own",
                                    num=groups["members_without_history"], total=groups["members"]))
    if groups["held_out_without_history"]:
        account.notes.append(Phrase("{num:,} groups in validation or test have no training interactions, neither their "
                                    "own nor a member's; they get lists by text or popularity",
                                    num=groups["held_out_without_history"]))
    account.counts |= {ours: by_name[name]["count"] for name, ours in _COUNTS.items() if name in by_name}
    for name, template in _GROUP_NOTES:
        if name in by_name and by_name[name]["count"]:
            account.notes.append(Phrase(template, num=by_name[name]["count"], share=by_name[name]["share"]))


_GROUP_NOTES = (
    ("group_held_out_known_to_members", "{num:,} held-out pairs of groups ({share:.1%}) are in the training of a "
                                        "member"),
    ("held_out_in_training_of_groups", "{num:,} held-out pairs of users ({share:.1%}) are in the training of one of "
                                       "their groups"))
