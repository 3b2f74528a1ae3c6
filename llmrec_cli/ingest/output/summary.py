"""Counts of the kept interactions, made before they are written. The audit makes all counts that need another pass."""

from collections.abc import Mapping, Sequence
from typing import Any

from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import DataError
from llmrec_cli.ingest.audit.folder import SHOWN, shorten
from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.interactions.id_codes import UNNAMED, CodedRows
from llmrec_cli.ingest.interactions.order import count_ties
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.texts.catalogue import Descriptions
from llmrec_cli.language.phrases import Phrase


def count_interactions(rows: Table, unit: str, catalogues: Mapping[str, Table], described: Mapping[str, Descriptions],
                       coded: CodedRows, account: Account) -> None:
    """Count interactions by split, users and items, cold users and items, and ties in time.

    `rows` has split (the place in SPLITS) and timestamp in `unit`, "" without timestamps. `catalogues`, from
    `id_codes.number`, and `described`, from `catalogue.describe`, are by kind, item and user. `coded` has the ids of
    all rows that were read. Raises DataError if no training interaction remains.
    """
    counts = account.counts
    parts = {row["split"]: row for row in collect(rows.group_by("split").agg(
        size=rows.count(), newest=rows.timestamp.max())).to_pylist()}
    sizes = {split: parts[n]["size"] if n in parts else 0 for n, split in enumerate(SPLITS)}
    counts |= {"interactions": sum(sizes.values()), **sizes}
    if not counts["train"]:
        raise DataError(f"no interaction is left for training: {counts['read']:,} rows were read, "
                        f"{counts['rejected']:,} rejected, {counts['duplicates']:,} merged, {_optional_filters(counts)}"
                        f"{counts['below_min_value']:,} below dataset.min_value, {counts['below_core']:,} below "
                        f"dataset.min_user_interactions or min_item_interactions; relax the filter that drops most, or "
                        f"choose another split")
    counts["newest"] = max(row["newest"] for row in parts.values())
    for kind, catalogue in catalogues.items():
        ranks = _by_rank(catalogue)
        counts[f"{kind}s"] = sum(ranks.values())
        counts[f"{kind}s_cold"] = sum(n for rank, n in ranks.items() if 0 < rank < UNNAMED)
        counts[f"{kind}s_without_interactions"] = ranks.get(UNNAMED, 0)
        account.examples[f"{kind}s_without_interactions"] = _examples(
            catalogue.filter(catalogue["rank"] == UNNAMED), kind, counts[f"{kind}s_without_interactions"])
        gone = (coded.users if kind == "user" else coded.items).anti_join(catalogue, f"{kind}_id")
        counts[f"{kind}s_gone"] = size(gone)
        account.examples[f"{kind}s_gone"] = _examples(gone, kind, counts[f"{kind}s_gone"])
        described_rows = described[kind].rows
        if described_rows is not None:
            unknown = catalogue.anti_join(described_rows, f"{kind}_id")
            counts[f"{kind}s_not_in_file"] = size(unknown)
            account.examples[f"{kind}s_not_in_file"] = _examples(unknown, kind, counts[f"{kind}s_not_in_file"])
    if unit:
        counts |= count_ties(rows)


def _optional_filters(counts: Mapping[str, int]) -> str:
    """Return the counts of optional filters as a part of a sentence."""
    why = {"not_positive": "with a value of 0 or below (dataset.min_value=0 keeps those with 0)",
           "dropped_ids": "in dataset.drop_users or drop_items", "ignored_events": "with an event of weight 0",
           "outside_times": "after dataset.newest or before dataset.oldest"}
    return "".join(f"{counts[key]:,} {what}, " for key, what in why.items() if counts.get(key))


def _by_rank(catalogue: Table) -> dict[Any, int]:
    rows = collect(catalogue.group_by("rank").agg(number=catalogue.count())).to_pylist()
    return {row["rank"]: row["number"] for row in rows}


def _examples(rows: Table, kind: str, number: int) -> list[str]:
    """Return the first ids of `number` users or items, in order."""
    ids: list[str] = collect(rows.order_by(f"{kind}_id").limit(SHOWN).select(id=f"{kind}_id"))["id"].to_pylist() \
        if number else []
    return ids


def _named(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]], key: str) -> str:
    """Return the examples of a count's ids for a sentence, "" without any: " ('a', 'b', ...)"."""
    ids = examples.get(key, ())
    listed = ", ".join(f"'{shorten(text)}'" for text in ids)
    return f" ({listed}{', ...' if counts[key] > len(ids) else ''})" if ids else ""


def notes(account: Account, unit: str, chosen_unit: str) -> list[Phrase]:
    """Return notes on the counts, one sentence each."""
    lines, counts, examples = [], account.counts, account.examples
    if unit and chosen_unit == "auto":
        lines.append(Phrase("timestamps are read in the unit '{unit}'; if that is wrong, set dataset.timestamp_unit",
                            unit=unit))
    for kind in ("item", "user"):
        kinds = Phrase(f"{kind}s")
        if counts.get(f"{kind}s_cold"):
            lines.append(Phrase("{num:,} cold {kinds}: in validation or test, not in training",
                                num=counts[f"{kind}s_cold"], kinds=kinds))
        if counts.get(f"{kind}s_not_in_file"):
            lines.append(Phrase("{num:,} {kinds} of the interactions are not in {setting}; they stay in the data, "
                                "without text{examples}", num=counts[f"{kind}s_not_in_file"], kinds=kinds,
                                setting=f"dataset.{kind}s",
                                examples=_named(counts, examples, f"{kind}s_not_in_file")))
        if counts.get(f"{kind}s_rejected"):
            lines.append(Phrase("{num:,} rows of {setting} rejected; listed in rejects.parquet",
                                num=counts[f"{kind}s_rejected"], setting=f"dataset.{kind}s"))
        if counts.get(f"{kind}s_repeated"):
            lines.append(Phrase("{num:,} rows of {setting} repeat an id; they are merged column by column: the newest "
                                "file wins, and within a file the first row that is not empty",
                                num=counts[f"{kind}s_repeated"], setting=f"dataset.{kind}s"))
        if counts.get(f"{kind}s_without_interactions"):
            lines.append(Phrase("{num:,} {kinds} have no interactions left{examples}",
                                num=counts[f"{kind}s_without_interactions"], kinds=kinds,
                                examples=_named(counts, examples, f"{kind}s_without_interactions")))
        if counts.get(f"{kind}s_gone"):
            lines.append(Phrase("{num:,} {kinds} of the files of interactions are not in the data, since each of their "
                                "rows was rejected or filtered{examples}", num=counts[f"{kind}s_gone"], kinds=kinds,
                                examples=_named(counts, examples, f"{kind}s_gone")))
    if counts.get("items_without_text"):
        lines.append(Phrase("{num:,} items ({share:.1%}) have no text", num=counts["items_without_text"],
                            share=counts["items_without_text"] / counts["items"]))
    if counts.get("users_with_one_interaction"):
        lines.append(Phrase("{num:,} users have only one interaction, so nothing can be held out for them",
                            num=counts["users_with_one_interaction"]))
    return lines
