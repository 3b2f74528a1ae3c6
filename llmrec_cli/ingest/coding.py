"""Ids as small numbers that sort as the ids do.

Nearly all that `prepare` does with interactions is joining, grouping and sorting by user and item; with four bytes
instead of text this takes a fraction of the time and memory. The numbers are of this run only.
"""

from dataclasses import dataclass, replace

import ibis
from ibis.expr.types import Table

from llmrec_cli.ingest.checks import Raw, identifier, time_of, value_of
from llmrec_cli.ingest.engine import materialised

FIRST = 0
"""The code of `train` in a column `split`, and of rows not yet divided; valid is 1 and test 2."""


@dataclass(frozen=True)
class Coded:
    """Interactions with coded ids.

    Attributes
    ----------
    rows : user, item (int32), value (float64), timestamp (int64), split (int8, place in data.prepared.SPLITS), and
        event (string) where the files have it
    users, items : user, user_id and item, item_id; a code's order is its id's
    """

    rows: Table
    users: Table
    items: Table

    def with_rows(self, rows: Table) -> "Coded":
        """Return the same codes with other rows."""
        return replace(self, rows=rows)


def encode(raw: Raw, splits: list[int]) -> Coded:
    """Return the sound rows. `splits` is the code of the split of each file."""
    users, items = (_dictionary(raw, key, kind) for key, kind in zip(raw.keys, ("user", "item"), strict=True))
    event = ["event"] if "event" in raw.names else []
    parts = []
    for part in raw.parts:
        split = ibis.cases(*((part.file == n, ibis.literal(code, "int8")) for n, code in enumerate(splits))) \
            if any(splits) else ibis.literal(FIRST, "int8")
        read = part.select(*raw.keys, value=value_of(part, raw), timestamp=time_of(part, raw), split=split,
                           **{name: identifier(part[name]) for name in event})
        parts.append(_coded(read, raw, users, items, event))
    for before in raw.earlier:
        parts.append(_coded(before, raw, users, items, event))
    rows = parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]
    return Coded(materialised(rows.filter(rows.value.notnull() & rows.timestamp.notnull())), users, items)


def _coded(rows: Table, raw: Raw, users: Table, items: Table, event: list[str]) -> Table:
    for key, kind, codes in zip(raw.keys, ("user", "item"), (users, items), strict=True):
        if not rows[key].type().is_string():
            # Looked up as what they are: making text of twenty million numbers costs more than all else here.
            distinct = rows.select(as_read=rows[key]).distinct()
            named = distinct.mutate(**{f"{kind}_id": identifier(distinct.as_read)}).inner_join(codes, f"{kind}_id")
            rows = rows.inner_join(materialised(named.select("as_read", kind)), [(key, "as_read")])
        else:
            rows = rows.inner_join(codes, [(key, f"{kind}_id")])
    return rows.select("user", "item", "value", "timestamp", "split", *event)


def _dictionary(raw: Raw, key: str, kind: str) -> Table:
    parts = []
    for part in (*raw.parts, *raw.earlier):
        distinct = part.select(as_read=part[key]).distinct()
        parts.append(distinct.select(**{f"{kind}_id": identifier(distinct.as_read)}))
    ids = parts[0].union(*parts[1:], distinct=True) if len(parts) > 1 else parts[0].distinct()
    ids = ids.filter(ids[f"{kind}_id"].notnull() & (ids[f"{kind}_id"] != ""))
    return materialised(ids.mutate(**{kind: ibis.row_number().over(order_by=f"{kind}_id").cast("int32")}))
