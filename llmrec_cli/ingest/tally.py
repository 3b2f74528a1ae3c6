"""Counting what was kept, and what a split leaves cold."""

from typing import Any

from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.account import Account
from llmrec_cli.ingest.engine import size
from llmrec_cli.ingest.entities import NAMED_BY, Described


def tally(rows: Table, catalogues: dict[str, Table], described: dict[str, Described], account: Account) -> None:
    """Count interactions per split, entities, and those that training does not know. Raises DataError for no training.

    `catalogues` and `described` are by kind, item and user, as `entities.number` and `entities.describe` make them.
    """
    counts = account.counts
    splits = _groups(rows, "split")
    counts |= {"interactions": sum(splits.values()), **{split: splits.get(split, 0) for split in SPLITS}}
    if not counts["train"]:
        raise DataError(f"no interaction is left to train on: {counts['read']:,} rows were read, "
                        f"{counts['rejected']:,} rejected, {counts['duplicates']:,} merged, "
                        f"{counts['below_min_value']:,} below dataset.min_value, {counts['below_core']:,} below "
                        f"dataset.min_user_interactions or min_item_interactions; relax what drops most, or the split")
    for kind, catalogue in catalogues.items():
        ranks = _groups(catalogue, "rank")
        counts[f"{kind}s"] = sum(ranks.values())
        counts[f"{kind}s_cold"] = sum(n for rank, n in ranks.items() if 0 < rank < len(NAMED_BY))
        counts[f"{kind}s_without_interactions"] = ranks.get(len(NAMED_BY), 0)
        known = described[kind].rows
        if known is not None:
            counts[f"{kind}s_not_in_file"] = size(catalogue.anti_join(known, f"{kind}_id"))
    per_user = rows.group_by("user_id").agg(size=rows.count())
    counts["users_with_one_interaction"] = size(per_user.filter(per_user["size"] == 1))
    pairs = [rows.filter(test).select("user_id", "item_id") for test in (rows.split == "train", rows.split != "train")]
    counts["held_out_also_in_train"] = size(pairs[1].semi_join(pairs[0], ["user_id", "item_id"]))
    counts["newest"] = rows.timestamp.max().to_pyarrow().as_py()


def _groups(table: Table, key: str) -> dict[Any, int]:
    rows = table.group_by(key).agg(number=table.count()).to_pyarrow().to_pylist()
    return {row[key]: row["number"] for row in rows}


def notes(counts: dict[str, int], unit: str, chosen_unit: str) -> list[str]:
    """Return what a person should know of the counts, one sentence each."""
    found = []
    if unit and chosen_unit == "auto":
        found.append(f"timestamps are taken for '{unit}'; dataset.timestamp_unit says otherwise where that is wrong")
    for kind in ("item", "user"):
        held_out = f"{counts[f'{kind}s_cold']:,} {kind}s are in validation or test only, so they are cold"
        found += [held_out] if counts[f"{kind}s_cold"] else []
        if counts.get(f"{kind}s_not_in_file"):
            found.append(f"{counts[f'{kind}s_not_in_file']:,} {kind}s of the interactions are not in dataset.{kind}s; "
                         f"they are kept without text")
        if counts.get(f"{kind}s_rejected"):
            found.append(f"{counts[f'{kind}s_rejected']:,} rows of dataset.{kind}s are bad; rejects.parquet lists them")
        if counts.get(f"{kind}s_repeated"):
            found.append(f"{counts[f'{kind}s_repeated']:,} rows of dataset.{kind}s repeat an id; the one whose columns "
                         f"sort first is kept")
        if counts[f"{kind}s_without_interactions"]:
            found.append(f"{counts[f'{kind}s_without_interactions']:,} {kind}s without a kept interaction")
    if counts["items_without_text"]:
        share = counts["items_without_text"] / counts["items"]
        found.append(f"{counts['items_without_text']:,} items ({share:.1%}) have no text")
    if counts["users_with_one_interaction"]:
        found.append(f"{counts['users_with_one_interaction']:,} users with one interaction only, for training")
    if counts["held_out_also_in_train"]:
        found.append(f"WARNING: {counts['held_out_also_in_train']:,} pairs of validation or test are in training too; "
                     f"a model that leaves seen items out cannot find them")
    return found
