"""Counting what was kept, before it is written; all that needs another look at the interactions is in the audit."""

from collections.abc import Mapping
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.interactions.id_codes import UNNAMED
from llmrec_cli.ingest.interactions.order import count_ties
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.texts.catalogue import Described
from llmrec_cli.ingest.texts.repeats import MERGED


def tally(rows: Table, unit: str, catalogues: Mapping[str, Table], described: Mapping[str, Described],
          account: Account) -> None:
    """Count interactions per split, entities, those that training does not know, and ties in time.

    Raises DataError for no training. `rows` has split (the place in SPLITS) and timestamp, in `unit`, "" without any;
    `catalogues` and `described` are by kind, item and user, as `id_codes.number` and `catalogue.describe` make them.
    """
    counts = account.counts
    parts = {row["split"]: row for row in collect(rows.group_by("split").agg(
        size=rows.count(), newest=rows.timestamp.max())).to_pylist()}
    sizes = {split: parts[n]["size"] if n in parts else 0 for n, split in enumerate(SPLITS)}
    counts |= {"interactions": sum(sizes.values()), **sizes}
    if not counts["train"]:
        raise DataError(f"no interaction is left to train on: {counts['read']:,} rows were read, "
                        f"{counts['rejected']:,} rejected, {counts['duplicates']:,} merged, {_dropped(counts)}"
                        f"{counts['below_min_value']:,} below dataset.min_value, {counts['below_core']:,} below "
                        f"dataset.min_user_interactions or min_item_interactions; relax what drops most, or the split")
    counts["newest"] = max(row["newest"] for row in parts.values())
    for kind, catalogue in catalogues.items():
        ranks = _by_rank(catalogue)
        counts[f"{kind}s"] = sum(ranks.values())
        counts[f"{kind}s_cold"] = sum(n for rank, n in ranks.items() if 0 < rank < UNNAMED)
        counts[f"{kind}s_without_interactions"] = ranks.get(UNNAMED, 0)
        known = described[kind].rows
        if known is not None:
            counts[f"{kind}s_not_in_file"] = size(catalogue.anti_join(known, f"{kind}_id"))
    if unit:
        counts |= count_ties(rows)


def _dropped(counts: Mapping[str, int]) -> str:
    """Return what else was left out, for a sentence."""
    why = {"not_positive": "of value 0 or below (dataset.min_value=0 keeps those of 0)",
           "dropped_ids": "of dataset.drop_users or drop_items", "ignored_events": "of events whose weight is 0",
           "outside_times": "after dataset.newest or before dataset.oldest"}
    return "".join(f"{counts[key]:,} {what}, " for key, what in why.items() if counts.get(key))


def _by_rank(catalogue: Table) -> dict[Any, int]:
    rows = collect(catalogue.group_by("rank").agg(number=catalogue.count())).to_pylist()
    return {row["rank"]: row["number"] for row in rows}


def notes(counts: Mapping[str, int], unit: str, chosen_unit: str) -> list[str]:
    """Return what a person should know of the counts, one sentence each."""
    found = []
    if unit and chosen_unit == "auto":
        found.append(f"timestamps are taken for '{unit}'; dataset.timestamp_unit says otherwise where that is wrong")
    for kind in ("item", "user"):
        held_out = f"{counts.get(f'{kind}s_cold', 0):,} {kind}s are in validation or test only, so they are cold"
        found += [held_out] if counts.get(f"{kind}s_cold") else []
        if counts.get(f"{kind}s_not_in_file"):
            found.append(f"{counts[f'{kind}s_not_in_file']:,} {kind}s of the interactions are not in dataset.{kind}s; "
                         f"they are kept without text")
        if counts.get(f"{kind}s_rejected"):
            found.append(f"{counts[f'{kind}s_rejected']:,} rows of dataset.{kind}s are bad; rejects.parquet lists them")
        if counts.get(f"{kind}s_repeated"):
            found.append(f"{counts[f'{kind}s_repeated']:,} rows of dataset.{kind}s repeat an id; they are merged "
                         f"column by column: {MERGED}")
        if counts.get(f"{kind}s_without_interactions"):
            found.append(f"{counts[f'{kind}s_without_interactions']:,} {kind}s without a kept interaction")
    if counts.get("items_without_text"):
        share = counts["items_without_text"] / counts["items"]
        found.append(f"{counts['items_without_text']:,} items ({share:.1%}) have no text")
    if counts.get("users_with_one_interaction"):
        found.append(f"{counts['users_with_one_interaction']:,} users have one interaction only, so nothing of theirs "
                     f"can be measured")
    return found
