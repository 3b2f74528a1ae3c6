"""Ids as small numbers that sort as the ids do, and the order of the catalogue by training.

Nearly all that `prepare` does with interactions is joining, grouping and sorting by user and item; with four bytes
instead of text this takes a fraction of the time and memory. The numbers are of this run only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import materialised, scalar, size
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


UNNAMED = len(SPLITS)
"""Rank of what no kept interaction names."""


def number(rows: Table, codes: Table, kind: str, others: Sequence[Table] = (), before: Table | None = None) -> Table:
    """Return the catalogue: <kind> (int64 number), <kind>_id, code (null for what no interaction names) and rank.

    The rank is 0 for what training names, 1 for what only validation, 2 for what only the test names, 3 for the rest:
    what `others`, tables with <kind>_id, have besides. Numbers go by rank, then id, so that what is held out never
    moves a number that is trained on. With `before`, a catalogue of <kind> and <kind>_id, what is there keeps its
    number and the rest comes after it.
    """
    key = f"{kind}_id"
    ranks = rows.group_by(kind).agg(rank=rows.split.min().cast("int64"))
    named = ranks.inner_join(codes, kind)
    best = named.select(key, "rank", code=named[kind])
    for other in others:
        more = other.select(key).distinct().anti_join(best, key).left_join(codes, key)
        best = materialised(best.union(more.select(key, rank=ibis.literal(UNNAMED, "int64"), code=more[kind])))
    if before is None:
        return _placed(best, kind, 0)
    known = before.select(kind, key).left_join(best, key)
    known = known.select(key, rank=known["rank"].fill_null(UNNAMED), code=known.code, **{kind: known[kind]})
    new = _placed(best.anti_join(before, key), kind, int(scalar(before[kind].max())) + 1)
    return materialised(known.union(new.select(*known.columns)))


def _placed(entities: Table, kind: str, first: int) -> Table:
    place = ibis.row_number().over(order_by=[entities["rank"], entities[f"{kind}_id"]])
    # Spark's row_number is INT, and ibis drops a cast that it takes for none.
    return materialised(entities.mutate(**{kind: place.cast("int32").cast("int64") + first}))
