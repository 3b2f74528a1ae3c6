"""Where every row that was read is now."""

from typing import Any

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.audit.folder import Folder
from llmrec_cli.ingest.engine import collect

MOST_GROUPS = 50
"""Reasons, and files, of rejects that are told one by one."""


def account_of_rows(folder: Folder, counts: dict[str, int], sizes: dict[str, int]) -> dict[str, Any]:
    """Return where the rows went: read + earlier = rejected + duplicates + filtered + negatives + kept.

    `sizes` is the number of interactions by split, `counts` what was counted while reading.
    """
    reasons = _filtered(folder, counts)
    rows = {"read": counts.get("read", 0), "earlier": counts.get("earlier", 0), "rejected": counts.get("rejected", 0),
            "duplicates": counts.get("duplicates", 0), "filtered": sum(reasons.values()),
            "negatives": folder.size("negatives"), "kept": sum(sizes.values())}
    accounted = sum(rows[key] for key in ("rejected", "duplicates", "filtered", "negatives", "kept"))
    return {**rows, **{split: sizes.get(split, 0) for split in SPLITS}, "filtered_by_reason": reasons,
            "unaccounted": rows["read"] + rows["earlier"] - accounted}


def _filtered(folder: Folder, counts: dict[str, int]) -> dict[str, int]:
    """Return the rows that are sound and not used, by reason."""
    if not folder.has("filtered"):
        return {key: counts[key] for key in ("below_min_value", "below_core") if counts.get(key)}
    table = folder.table("filtered")
    found = collect(table.group_by("reason").agg(rows=table.count()).order_by("reason")).to_pylist()
    return {row["reason"]: row["rows"] for row in found}


def account_of_rejects(folder: Folder) -> dict[str, Any]:
    """Return the rejects of all files: total, by_reason (column, reason, rows) and by_file (file, rows), most first.

    Reasons have what they quote taken out, so that rows with the same fault are one line. Beyond MOST_GROUPS lines the
    rest is one of them, called `other`.
    """
    table = folder.table("rejects")
    # Up to the last "' is", for what is quoted may have quotes in it; then whatever else is quoted.
    reason = table.reason.re_replace("(?s)^'.*' is", "'…' is").re_replace("'[^']*'", "'…'")
    named = table.select("file", "column", reason=reason)
    by_reason = named.group_by("column", "reason").agg(rows=named.count())
    by_file = named.group_by("file").agg(rows=named.count())
    reasons = collect(by_reason.order_by(by_reason.rows.desc(), "column", "reason").limit(MOST_GROUPS)).to_pylist()
    files = collect(by_file.order_by(by_file.rows.desc(), "file").limit(MOST_GROUPS)).to_pylist()
    total = folder.size("rejects")
    return {"total": total, "by_reason": _with_rest(reasons, total, {"column": "", "reason": "other"}),
            "by_file": _with_rest(files, total, {"file": "other"})}


def _with_rest(rows: list[dict[str, Any]], total: int, name: dict[str, str]) -> list[dict[str, Any]]:
    rest = total - sum(row["rows"] for row in rows)
    return [*rows, {**name, "rows": rest}] if rest else rows
