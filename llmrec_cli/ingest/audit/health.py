"""Notes and warnings about prepared data, one sentence each.

A warning must be worth stopping a nightly run (dataset.audit=strict). Whatever may be intended is only a note.
"""

from collections.abc import Mapping
from typing import Any

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.data.scripts import ADVICE, foreign_script
from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase
from llmrec_cli.settings.encoder import MiniLMSettings
from llmrec_cli.settings.split import SplitSettings

_MANY_REPEATED, _SAME_FOR_MOST = 0.2, 0.5
_COLD_NEARLY_ALL, _ENOUGH = 0.95, 100
"""Share of the held-out interactions, and the fewest rows for which a share is meaningful."""
_HAVE_MOST, _FEW_USERS, _ENOUGH_ITEMS = 0.5, 10, 50
"""Share of the items that the average of a few users has if a column of types was taken for the users."""
_SECONDS_AS_MS = ("1970-01-12", "1970-01-27")
"""The range of the times from 2001 to 2038 if their seconds are read as milliseconds."""


def warnings(audit: dict[str, Any], split: SplitSettings, counts: Mapping[str, int]) -> list[Phrase]:
    """Return warnings about likely faults other than leakage. `counts` are those of the account."""
    rows = audit["rows"]
    lines = []
    if rows["unaccounted"]:
        values = {"num": abs(rows["unaccounted"]), "read": rows["read"], "total": rows["read"] - rows["unaccounted"]}
        lines.append(Phrase("{num:,} rows missing: {read:,} were read, but rejected, merged, filtered, negative and "
                            "kept rows add up to {total:,}; please report this as a bug", **values)
                     if rows["unaccounted"] > 0 else
                     Phrase("{num:,} rows too many: {read:,} were read, but rejected, merged, filtered, negative and "
                            "kept rows add up to {total:,}; please report this as a bug", **values))
    lines += [_nothing_held_out(part, split) for part in _empty_parts(audit, split)]
    lines += _dominated(audit) + _few_users(audit) + _cold(audit, split, counts) + _same_texts(audit)
    return lines


def cautions(audit: dict[str, Any]) -> list[Phrase]:
    """Return warnings about later commands: the usual encoder was not trained on the script of the item texts."""
    usual = MiniLMSettings()
    scripts = audit["texts"]["item"]["scripts"]
    foreign = foreign_script(scripts["letters"], usual.scripts) if scripts else None
    return [Phrase("item texts: {foreign}, but encoder={encoder}, the usual one of finetune and pretrain, was trained "
                   "on {scripts} texts; {advice}", foreign=foreign, encoder=usual.kind,
                   scripts=Joined(map(fixed_phrase, usual.scripts), " and "), advice=ADVICE)] if foreign else []


def _empty_parts(audit: dict[str, Any], split: SplitSettings) -> list[str]:
    """Return the held-out splits, valid and test, that should have rows and have none."""
    return [part for part in split.held_out() if not audit["rows"][part]]


def _nothing_held_out(part: str, split: SplitSettings) -> Phrase:
    effect = (Phrase("settings cannot be tuned on validation") if part == "valid" else
              Phrase("no test metric can be computed"))
    return Phrase("split '{part}' has no rows, so {effect}; {remedy}", part=part, effect=effect,
                  remedy=split.remedy(part))


def _few_users(audit: dict[str, Any]) -> list[Phrase]:
    """Return a warning if few users have most of the items each, as when a column of types is taken for the users."""
    whole = audit["splits"]["all"]
    users, items, kept = whole["users"], whole["items"], audit["rows"]["kept"]
    if not 0 < users <= _FEW_USERS or items < _ENOUGH_ITEMS or kept <= _HAVE_MOST * users * items:
        return []
    return [Phrase("there are {users:,} users, and the average user has {share:.0%} of the {items:,} items; check that "
                   "dataset.columns.user_id is the right column", share=kept / (users * items), users=users,
                   items=items)]


def _dominated(audit: dict[str, Any]) -> list[Phrase]:
    interactions, lines = audit["splits"]["all"], []
    if audit["time"] and interactions["interactions"] > 1 and interactions["first"] == interactions["last"]:
        lines.append(Phrase("all {num:,} interactions have the same time ({time}), so their order is decided by a "
                            "hash; check that `timestamp` is the right column", num=interactions["interactions"],
                            time=interactions["first"]))
    first, last = str(interactions["first"]), str(interactions["last"])
    if audit["time"] and _SECONDS_AS_MS[0] <= first and last < _SECONDS_AS_MS[1]:
        lines.append(Phrase("all interactions are in January 1970 ({first} to {last}), probably because seconds were "
                            "read as milliseconds; see dataset.timestamp_unit", first=first, last=last))
    most = audit["popularity"]["most_popular"][:1]
    if most and most[0]["share"] > 0.5 and interactions["interactions"] >= _ENOUGH:
        lines.append(Phrase("item '{item}' has {share:.0%} of the training interactions; is its id a placeholder?",
                            item=most[0]["item_id"], share=most[0]["share"]))
    return lines


def _cold(audit: dict[str, Any], split: SplitSettings, counts: Mapping[str, int]) -> list[Phrase]:
    """Warn when hardly any held-out interaction has a user, or an item, of training: ids may be written differently.

    A split given by the files may be cold on purpose. It counts as intended if files describe the cold users or items.
    """
    held = [audit["splits"][part] for part in ("valid", "test")]
    size = sum(part["interactions"] for part in held)
    lines = []
    for kind in ("users", "items"):
        cold = sum(part[f"cold_{kind}_interactions"] for part in held)
        if size < _ENOUGH or cold <= _COLD_NEARLY_ALL * size or f"{split.cold}s" == kind:
            continue
        remedy = Phrase("or use split=cold_{which} if this is intended", which=kind)
        if split.is_given:
            number = audit["splits"]["all"][f"cold_{kind}"]
            if counts.get(f"{kind}_not_in_file", number) <= (1 - _COLD_NEARLY_ALL) * number:
                continue
            remedy = Phrase("or, if the split has cold {kinds} on purpose, keep it and describe these {kinds} in "
                            "{setting}: cold {kinds} can only be recommended by their descriptions",
                            kinds=Phrase(kind), setting=f"dataset.{kind}")
        lines.append(Phrase("{share:.0%} of the held-out interactions have {kinds} that are not in training; check "
                            "that the files write ids in the same way, {remedy}", share=cold / size,
                            kinds=Phrase(kind), remedy=remedy))
    return lines


def _same_texts(audit: dict[str, Any]) -> list[Phrase]:
    texts = audit["texts"]["item"]
    written = texts["num"] - texts["empty"]
    if not texts["duplicated"] or written < _ENOUGH or texts["duplicated"]["most"] <= _SAME_FOR_MOST * written:
        return []
    return [Phrase("{num:,} of {total:,} items have the same text ('{text}'); choose columns for dataset.item_text in "
                   "which the items differ", num=texts["duplicated"]["most"], total=written,
                   text=texts["duplicated"]["examples"][0]["text"])]


def notes(audit: dict[str, Any]) -> list[Phrase]:
    """Return notes: facts that may be intended but are worth knowing."""
    lines = []
    for kind in ("item", "user"):
        texts = audit["texts"][kind]
        if texts["duplicated"] and texts["duplicated"]["share"] > _MANY_REPEATED:
            lines.append(Phrase("{num:,} {kinds} ({share:.0%} of the {kinds} with a text) have the same text as "
                                "another {kind}", num=texts["duplicated"]["num"], kinds=Phrase(f"{kind}s"),
                                share=texts["duplicated"]["share"], kind=Phrase(kind)))
    older = next((c for c in audit["leakage"] if c["name"] == "held_out_older_than_training"), None)
    if older and older["count"]:
        lines.append(Phrase("{share:.0%} of the held-out interactions are older than their user's newest training "
                            "interaction, so this split does not measure forecasting", share=older["share"]))
    for split in SPLITS[1:]:
        shares = {kind: audit["splits"][split][f"cold_{kind}_share"] for kind in ("users", "items")}
        lines += [Phrase("split '{split}': {share:.0%} of the interactions have {kinds} that are not in training",
                         split=split, share=share, kinds=Phrase(kind)) for kind, share in shares.items()
                  if share >= 0.1]
    return lines
