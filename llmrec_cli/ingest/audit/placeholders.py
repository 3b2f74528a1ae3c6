"""Ids that stand for no person and no item: placeholders, and users with an outsized share of the interactions."""

import math
from collections.abc import Collection
from typing import Any

import ibis
from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import Folder
from llmrec_cli.ingest.engine import collect
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.typed_lists import list_setting

_NAMES = ("nan", "null", "none", "nil", "na", "n/a", "undefined", "unknown", "unk", "anonymous", "anon", "guest",
          "visitor", "not set", "notset", "missing", "-1")
"""Ids that exports write for a missing user or item, in lower case and without surrounding punctuation."""
_LARGE, _TIMES, _ENOUGH = 0.05, 3, 100
"""A user is outsized above this share of the interactions and this many times the mean, given this many rows."""
_ZERO_TIMES = 10
_AROUND = r"[\s\"'()<>\[\]{}._?-]+"
_NUM_EXAMPLES = 5


def warnings(folder: Folder, per_user: Table, per_item: Table, busy_users: Collection[str] = ()) -> list[Phrase]:
    """Return warnings about placeholders and outsized users from the interactions of each split by user and item.

    `busy_users` are users that another warning names.
    """
    lines = []
    for kind, table in (("user", per_user), ("item", per_item)):
        sized = table.select(kind, size=table.train + table.valid + table.test)
        rows = _placeholders(folder, kind, sized)
        if rows:
            named = ", ".join(f"'{row['id']}' ({row['size']:,})" for row in rows[:_NUM_EXAMPLES])
            values = {"kind": Phrase(kind), "kinds": Phrase(f"{kind}s"), "size": sum(row["size"] for row in rows),
                      "examples": f"{named}{', ...' if rows[_NUM_EXAMPLES:] else ''}",
                      "setting": list_setting(f"dataset.drop_{kind}s", [row["id"] for row in rows])}
            lines.append(Phrase("{num} {kind} ids may stand for unknown {kinds}, each counted as one {kind} ({size:,} "
                                "interactions in all): {examples}; {setting} leaves them out", num=len(rows), **values)
                         if rows[1:] else
                         Phrase("1 {kind} id may stand for unknown {kinds}, each counted as one {kind} ({size:,} "
                                "interactions in all): {examples}; {setting} leaves it out", **values))
    return lines + _outsized(folder, per_user, busy_users)


def _placeholders(folder: Folder, kind: str, sized: Table) -> list[dict[str, Any]]:
    """Return id and number of interactions of the users or items whose id is a placeholder, most first."""
    named = folder.table(f"{kind}s").select(kind, id=f"{kind}_id").inner_join(sized, kind)
    # Blanks and quotes around a word are removed; the sign of "-1" is not.
    bare = named.id.lower().re_replace(r"^" + _AROUND, "").re_replace(_AROUND + "$", "")
    plain = named.id.lower().strip()
    suspect = named.filter(bare.isin(list(_NAMES)) | plain.isin(list(_NAMES)) | (bare == ""))
    rows = collect(suspect.order_by(ibis.desc("size"), "id").select("id", "size")).to_pylist()
    return rows + _zero(named, kind)


def _zero(named: Table, kind: str) -> list[dict[str, Any]]:
    """Return the id 0 where it looks like a placeholder: other ids are words, or user 0 has many times the mean.

    Items are not compared with the mean, since popular items have many times the mean.
    """
    zero = collect(named.filter(named.id.isin(["0", "0.0"])).select("id", "size")).to_pylist()
    if not zero:
        return []
    others = named.filter(~named.id.isin(["0", "0.0"]))
    [about] = collect(others.agg(num=others.count(), numbers=others.count(where=others.id.re_search("^-?[0-9.]+$")),
                                 mean=others["size"].mean())).to_pylist()
    words = about["num"] and about["numbers"] < about["num"]
    outsized = _ZERO_TIMES * about["mean"] if kind == "user" and about["mean"] else math.inf
    return [row for row in zero if words or row["size"] > outsized]


def _outsized(folder: Folder, per_user: Table, busy_users: Collection[str]) -> list[Phrase]:
    sized = per_user.select("user", size=per_user.train + per_user.valid + per_user.test)
    [all_] = collect(sized.agg(num=sized.count(), total=sized["size"].sum())).to_pylist()
    total = int(all_["total"] or 0)  # DuckDB's sums are decimals.
    if total < _ENOUGH:
        return []
    least = max(_LARGE * total, _TIMES * total / all_["num"])
    rows = collect(sized.filter(sized["size"] > least).order_by(ibis.desc("size"), "user")).to_pylist()
    names = folder.entities("user", [row["user"] for row in rows[:_NUM_EXAMPLES]])
    examples = [(names[row["user"]]["user_id"], row["size"]) for row in rows[:_NUM_EXAMPLES]]
    return [Phrase("user '{user}' has {share:.0%} of the interactions ({num:,} of {total:,}); if it is not one person, "
                   "{setting} leaves it out", user=user, share=size / total, num=size, total=total,
                   setting=list_setting("dataset.drop_users", [user])) for user, size in examples
            if user not in busy_users]
