"""Ids as small numbers that sort as the ids do.

Nearly all that `prepare` does with interactions is joining, grouping and sorting by user and item; with four bytes
instead of text this takes a fraction of the time and memory. The numbers are of this run only.
"""

from dataclasses import dataclass, replace

import ibis
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import materialised, size
from llmrec_cli.ingest.readers.checks import Raw, identifier, order_of, sound, time_of, value_of

FIRST = 0
"""The code of `train` in a column `split`, and of rows not yet divided; valid is 1 and test 2."""


@dataclass(frozen=True)
class Coded:
    """Interactions with coded ids.

    Attributes
    ----------
    rows : user, item (int32), value (float64), timestamp (int64), split (int8, place in data.prepared.SPLITS), and
        event (string) and order (int64) where the files have them
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
    more = [name for name in ("event", "order") if name in raw.names]
    parts = []
    for part in raw.parts:
        split = ibis.cases(*((part.file == n, ibis.literal(code, "int8")) for n, code in enumerate(splits))) \
            if any(splits) else ibis.literal(FIRST, "int8")
        parts.append(part.select(*raw.keys, value=value_of(part, raw), timestamp=time_of(part, raw), split=split,
                                 **{name: order_of(part) if name == "order" else identifier(part[name])
                                    for name in more}))
    parts += [before.select(*raw.keys, "value", "timestamp", "split", *more) for before in raw.earlier]
    codes = []
    for key, kind in zip(raw.keys, ("user", "item"), strict=True):
        ids, as_read = _dictionary(parts, key, kind)
        # Looked up as what they are: making text of twenty million numbers costs more than all else here.
        parts = [part.inner_join(seen, [(key, "as_read")]) for part, seen in zip(parts, as_read, strict=True)]
        codes.append(ids)
    coded = [part.select("user", "item", "value", "timestamp", "split", *more) for part in parts]
    rows = materialised(coded[0].union(*coded[1:]) if len(coded) > 1 else coded[0])
    good = rows.filter(sound(rows, raw))
    return Coded(rows if size(good) == size(rows) else materialised(good), *codes)


def _dictionary(parts: list[Table], key: str, kind: str) -> tuple[Table, list[Table]]:
    """Return <kind> and <kind>_id of all ids, and for each part `as_read`, the id as its file has it, and <kind>."""
    name = f"{kind}_id"
    seen = [materialised(part.select(as_read=part[key]).distinct()) for part in parts]
    named = [part.mutate(**{name: identifier(part.as_read)}) for part in seen]
    named = [part.filter(part[name].notnull() & (part[name] != "")) for part in named]
    ids = [part.select(name) for part in named]
    both = ids[0].union(*ids[1:]) if len(ids) > 1 else ids[0]
    codes = materialised(both.distinct().mutate(**{kind: ibis.row_number().over(order_by=name).cast("int32")}))
    return codes, [materialised(part.inner_join(codes, name).select("as_read", kind)) for part in named]
