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
        parts.append(part.select(*(identifier(part[key]).name(key) for key in raw.keys), value=value_of(part, raw),
                                 timestamp=time_of(part, raw), split=split,
                                 **{name: identifier(part[name]) for name in event}))
    for rows in raw.earlier:
        parts.append(rows.select(*raw.keys, "value", "timestamp", "split", *event))
    coded = [part.rename(user_id=raw.keys[0]).inner_join(users, "user_id").inner_join(items, "item_id")
             .select("user", "item", "value", "timestamp", "split", *event) for part in parts]
    rows = coded[0].union(*coded[1:]) if len(coded) > 1 else coded[0]
    return Coded(materialised(rows.filter(rows.value.notnull() & rows.timestamp.notnull())), users, items)


def _dictionary(raw: Raw, key: str, kind: str) -> Table:
    parts = [part.select(**{f"{kind}_id": identifier(part[key])}) for part in (*raw.parts, *raw.earlier)]
    ids = (parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]).distinct()
    ids = ids.filter(ids[f"{kind}_id"].notnull() & (ids[f"{kind}_id"] != ""))
    return materialised(ids.mutate(**{kind: ibis.row_number().over(order_by=f"{kind}_id").cast("int32")}))
