"""The audit of prepared data, written to `audit.json`.

Keys are stable. Numbers are finite, shares are from 0 to 1, times are ISO 8601 (or numbers of an order):

- `format`; `rows`: read, rejected, duplicates, filtered, negatives, kept, train, valid, test, filtered_by_reason,
  unaccounted (0 when every row read is counted exactly once); `rejects`: total, by_reason, by_file (of all files, also
  those of items and users)
- `splits`: for train, valid, test and all: interactions, users, items, density, first, last,
  users_with_one_interaction, cold_users, cold_users_interactions, cold_users_share (of the interactions; the same for
  items), per_user and per_item: num, min, q1, median, q3, max, mean. For `all`, cold_* counts what is cold in valid or
  test, and its share of all interactions
- `popularity`: gini, top (percent of the training items -> share of the training interactions), curve (points of share
  of items, share of interactions), most_popular; `histograms`: per_user, per_item: from, to, num
- `time`: unit, edges, and counts by split for each bin between two edges; null without timestamps
- `values`: values (up to 20 distinct ones) or edges (of 20 bins), and counts by split
- `texts`: for item, user, and group where a file describes groups: num, empty, empty_share, title_is_id, lengths,
  longest, duplicated, scripts (with `letters`, the share of the letters in each script)
- `groups`, `knowledge`: counts; null without them. `links`, with knowledge only: the report of `ingest.knowledge` on
  links and on contradictions between items and entities; the `note` of each example link is in `notes` too
- `leakage`: checks with name, meaning, count, checked, share, examples, verdict (ok | warning), and two sentences or
  "": note, and not_checked, the reason why the check was skipped
- `ties`: of users, and of groups, where there are times: rule, interactions (with the same user and time as another
  one) and their share, held_out_users (with a tied interaction in valid or test) and held_out_share
- `warnings`, `notes`: all warnings and notes of `prepare`
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ibis.backends import BaseBackend

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.audit import health, placeholders
from llmrec_cli.ingest.audit import leakage as leaks
from llmrec_cli.ingest.audit.folder import Folder
from llmrec_cli.ingest.audit.leakage import count, group_leakage
from llmrec_cli.ingest.audit.relations import describe_groups, describe_knowledge
from llmrec_cli.ingest.audit.shape import (
    InteractionCounts,
    count_by_split,
    describe_splits,
    over_time,
    over_values,
    parts_of,
    popularity,
)
from llmrec_cli.ingest.audit.texts import describe_texts
from llmrec_cli.ingest.audit.title_leakage import held_out_titles
from llmrec_cli.ingest.engine import collect, drop_tables
from llmrec_cli.ingest.interactions.order import Ties
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.summary import notes
from llmrec_cli.ingest.output.writing import TABLES
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.pace import still_working
from llmrec_cli.settings.dataset import DatasetSettings
from llmrec_cli.settings.split import SplitSettings

_MOST_GROUPS = 50
"""Most reasons, and most files, of rejects that are listed one by one."""


def account_of_rows(folder: Folder, counts: dict[str, int], sizes: dict[str, int]) -> dict[str, Any]:
    """Count the rows by outcome: read + earlier = rejected + duplicates + filtered + negatives + kept.

    `sizes` is the number of interactions by split, `counts` the counts made while reading.
    """
    reasons = _filtered(folder, counts)
    rows = {"read": counts.get("read", 0), "earlier": counts.get("earlier", 0), "rejected": counts.get("rejected", 0),
            "duplicates": counts.get("duplicates", 0), "filtered": sum(reasons.values()),
            "negatives": folder.size("negatives"), "kept": sum(sizes.values())}
    accounted = sum(rows[key] for key in ("rejected", "duplicates", "filtered", "negatives", "kept"))
    return {**rows, **{split: sizes.get(split, 0) for split in SPLITS}, "filtered_by_reason": reasons,
            "unaccounted": rows["read"] + rows["earlier"] - accounted}


def _filtered(folder: Folder, counts: dict[str, int]) -> dict[str, int]:
    """Return the number of rows that a setting filtered out, by reason; unsound rows of events with weight 0 too."""
    if not folder.has("filtered"):
        return {key: counts[key] for key in ("below_min_value", "below_core") if counts.get(key)}
    table = folder.table("filtered")
    rows = collect(table.group_by("reason").agg(rows=table.count()).order_by("reason")).to_pylist()
    by_reason = {row["reason"]: row["rows"] for row in rows}
    if unsound := counts.get("ignored_unsound"):
        by_reason["event_without_weight"] = by_reason.get("event_without_weight", 0) + unsound
    return by_reason


def account_of_rejects(folder: Folder) -> dict[str, Any]:
    """Return the rejects of all files: total, by_reason (column, reason, rows) and by_file (file, rows), most first.

    Quoted values are removed from the reasons, so that rows with the same fault share a line. Beyond _MOST_GROUPS
    lines the rest is one line, `other`.
    """
    table = folder.table("rejects")
    # First up to the last "' is", since the quoted value may contain quotes; then all other quoted values.
    reason = table.reason.re_replace("(?s)^'.*' is", "'…' is").re_replace("'[^']*'", "'…'")
    named = table.select("file", "column", reason=reason)
    by_reason = named.group_by("column", "reason").agg(rows=named.count())
    by_file = named.group_by("file").agg(rows=named.count())
    reasons = collect(by_reason.order_by(by_reason.rows.desc(), "column", "reason").limit(_MOST_GROUPS)).to_pylist()
    files = collect(by_file.order_by(by_file.rows.desc(), "file").limit(_MOST_GROUPS)).to_pylist()
    total = folder.size("rejects")
    return {"total": total, "by_reason": _with_rest(reasons, total, {"column": "", "reason": Phrase("other")}),
            "by_file": _with_rest(files, total, {"file": Phrase("other")})}


def _with_rest(rows: list[dict[str, Any]], total: int, name: dict[str, str]) -> list[dict[str, Any]]:
    rest = total - sum(row["rows"] for row in rows)
    return [*rows, {**name, "rows": rest}] if rest else rows


_FORMAT = 1


@still_working("auditing the data")
def audit(connection: BaseBackend, path: Path, dataset: DatasetSettings, split: SplitSettings, unit: str,
          account: Account, ties: Sequence[Ties] = ()) -> dict[str, Any]:
    """Audit the Parquet files in `path`; add warnings, notes and counts to `account`, and return the audit.

    `unit` is the unit of the timestamps, "" without timestamps. Adds negatives, users_with_one_interaction and
    held_out_also_in_train to the counts.
    """
    folder = Folder(connection, path)
    rows = folder.table("interactions")
    parts = parts_of(rows)
    per_user = count_by_split(rows, "user", newest=bool(unit) and not split.by_cutoff)
    per_item = count_by_split(rows, "item")
    users, items = InteractionCounts(per_user), InteractionCounts(per_item)
    suspect = placeholders.warnings(folder, per_user, per_item, account.busy_users)
    sizes = {name: part.size for name, part in parts.items()}
    out: dict[str, Any] = {
        "format": _FORMAT, "rows": account_of_rows(folder, account.counts, sizes),
        "rejects": account_of_rejects(folder), "splits": describe_splits(parts, users, items, unit),
        "popularity": popularity(folder, per_item, items),
        "histograms": {"per_user": users.tallies["all"].doubling(), "per_item": items.tallies["all"].doubling()},
        "time": over_time(rows, parts, unit), "values": over_values(rows, sum(sizes.values())),
        "texts": {kind: describe_texts(folder, kind) for kind, file in TABLES.items() if folder.has(file)},
        "groups": describe_groups(folder, dataset.synthetic_group_rule),
        "knowledge": describe_knowledge(folder, folder.size("items")),
        "leakage": [*leaks.leakage(folder, parts, per_user, per_item, split, unit), held_out_titles(folder),
                    *group_leakage(folder)],
        "ties": {f"{one.whose}s": one.to_dict() for one in ties}}
    drop_tables(per_user, per_item)
    if folder.has("negatives"):
        account.counts["negatives"] = out["rows"]["negatives"]
    account.counts |= {"users_with_one_interaction": out["splits"]["all"]["users_with_one_interaction"],
                       "held_out_also_in_train": next(c["count"] for c in out["leakage"] if c["name"] == leaks.PAIRS)}
    count(out["groups"], out["leakage"], account)
    account.warnings += leaks.warnings(out["leakage"]) + health.warnings(out, split, account.counts)
    account.warnings += suspect
    account.warnings += [one.sentence() for one in ties if one.many]
    account.caution(*health.cautions(out))
    account.notes += notes(account, unit, dataset.time_unit) + health.notes(out)
    account.notes += [one.sentence() for one in ties if one.tied and not one.many]
    return {**out, "warnings": list(account.warnings), "notes": list(account.notes)}
