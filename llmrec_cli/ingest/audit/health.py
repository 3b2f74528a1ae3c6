"""Notes and warnings about prepared data, a sentence each.

A warning has to be worth stopping a nightly run for (dataset.audit=strict), so that all that can be as it should be is
a note.
"""

from collections.abc import Mapping
from typing import Any

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.settings.split import SplitSettings

_MANY_REPEATED, _SAME_FOR_MOST = 0.2, 0.5
_COLD_NEARLY_ALL, _ENOUGH = 0.95, 100
"""Share of what is held out, and rows from which on a share says anything."""
_SECONDS_AS_MS = ("1970-01-12", "1970-01-27")
"""Where the times from 2001 to 2038 are when their seconds are taken for milliseconds."""


def warnings(audit: dict[str, Any], split: SplitSettings, counts: Mapping[str, int]) -> list[str]:
    """Return what is likely to be wrong, apart from leakage. `counts` are those of the account."""
    rows = audit["rows"]
    found = []
    if rows["unaccounted"]:
        found.append(f"{abs(rows['unaccounted']):,} rows {'are lost' if rows['unaccounted'] > 0 else 'are too many'}: "
                     f"{rows['read']:,} were read, but rejected, merged, filtered, negative and kept rows are "
                     f"{rows['read'] - rows['unaccounted']:,}; please report this as a bug")
    found += [_nothing_held_out(part, split) for part in _empty_parts(audit, split)]
    found += _one_of_all(audit) + _cold(audit, split, counts) + _same_texts(audit)
    return found


def _empty_parts(audit: dict[str, Any], split: SplitSettings) -> list[str]:
    """Return valid and test where they should have rows and have none."""
    return [part for part in split.held_out() if not audit["rows"][part]]


def _nothing_held_out(part: str, split: SplitSettings) -> str:
    purpose = "no setting can be chosen on validation" if part == "valid" else "nothing can be measured on test"
    return f"split '{part}' has no rows, so {purpose}; {split.remedy(part)}"


def _one_of_all(audit: dict[str, Any]) -> list[str]:
    kept, found = audit["splits"]["all"], []
    if audit["time"] and kept["interactions"] > 1 and kept["first"] == kept["last"]:
        found.append(f"all {kept['interactions']:,} interactions are at one time ({kept['first']}), so a hash decides "
                     f"which is first or last; check that `timestamp` is the right column")
    if audit["time"] and _SECONDS_AS_MS[0] <= str(kept["first"]) and str(kept["last"]) < _SECONDS_AS_MS[1]:
        found.append(f"all interactions are in January 1970 ({kept['first']} to {kept['last']}), probably because "
                     f"seconds were read as milliseconds; see dataset.timestamp_unit")
    most = audit["popularity"]["most_popular"][:1]
    if most and most[0]["share"] > 0.5 and kept["interactions"] >= _ENOUGH:
        found.append(f"item '{most[0]['item_id']}' has {most[0]['share']:.0%} of the training interactions; is its id "
                     f"a placeholder?")
    return found


def _cold(audit: dict[str, Any], split: SplitSettings, counts: Mapping[str, int]) -> list[str]:
    """Warn when hardly anything held out is about users, or items, of training: the ids may be of another kind.

    A split that the files give may be cold on purpose, and is taken to be where the catalogue describes what is cold.
    """
    held = [audit["splits"][part] for part in ("valid", "test")]
    size = sum(part["interactions"] for part in held)
    found = []
    for kind in ("users", "items"):
        cold = sum(part[f"cold_{kind}_interactions"] for part in held)
        if size < _ENOUGH or cold <= _COLD_NEARLY_ALL * size or f"{split.cold}s" == kind:
            continue
        remedy = f"or use split=cold_{kind} if it is meant"
        if split.is_given:
            number = audit["splits"]["all"][f"cold_{kind}"]
            if counts.get(f"{kind}_not_in_file", number) <= (1 - _COLD_NEARLY_ALL) * number:
                continue
            remedy = (f"or, if the split has cold {kind} on purpose, leave it as it is and describe these {kind} in "
                      f"dataset.{kind}: new {kind} are recommended by their descriptions")
        found.append(f"{cold / size:.0%} of the held-out interactions have {kind} that are not in training; check that "
                     f"the files write ids in the same way, {remedy}")
    return found


def _same_texts(audit: dict[str, Any]) -> list[str]:
    texts = audit["texts"]["item"]
    written = texts["num"] - texts["empty"]
    if not texts["duplicated"] or written < _ENOUGH or texts["duplicated"]["most"] <= _SAME_FOR_MOST * written:
        return []
    return [f"{texts['duplicated']['most']:,} of {written:,} items have the same text "
            f"('{texts['duplicated']['examples'][0]['text']}'); choose columns for dataset.item_text in which the "
            f"items differ"]


def notes(audit: dict[str, Any]) -> list[str]:
    """Return what is worth knowing and can be as it should be."""
    found = []
    for kind in ("item", "user"):
        texts = audit["texts"][kind]
        if texts["duplicated"] and texts["duplicated"]["share"] > _MANY_REPEATED:
            found.append(f"{texts['duplicated']['num']:,} {kind}s ({texts['duplicated']['share']:.0%} of the {kind}s "
                         f"with a text) have the same text as another {kind}")
    older = next((c for c in audit["leakage"] if c["name"] == "held_out_older_than_training"), None)
    if older and older["count"]:
        found.append(f"{older['share']:.0%} of the held-out interactions are older than their user's newest training "
                     f"interaction, so this split does not measure forecasting")
    for split in SPLITS[1:]:
        shares = {kind: audit["splits"][split][f"cold_{kind}_share"] for kind in ("users", "items")}
        found += [f"split '{split}': {share:.0%} of the interactions have {kind} that are not in training"
                  for kind, share in shares.items() if share >= 0.1]
    return found
