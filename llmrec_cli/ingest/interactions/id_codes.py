"""Temporary int32 codes for ids, and the integer ids of the catalogue.

`prepare` mostly joins, groups and sorts interactions by user and item. With int32 codes instead of text this takes a
fraction of the time and memory. Codes sort like the ids and are valid within one run only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import materialise, scalar, size
from llmrec_cli.ingest.readers.checks import RawRows, identifier, is_sound, order_of, time_of, value_of

FIRST = 0
"""The code of `train` in a column `split`, also for rows that are not split yet; valid is 1 and test 2."""


@dataclass(frozen=True)
class CodedRows:
    """Interactions with coded ids.

    Attributes
    ----------
    rows : user, item (int32), value (float64), timestamp (int64), split (int8, place in data.prepared.SPLITS), and
        event (string) and order (int64) if the files have them
    users, items : code tables with user and user_id, item and item_id; codes sort like the ids
    """

    rows: Table
    users: Table
    items: Table

    def with_rows(self, rows: Table) -> "CodedRows":
        """Return the same codes with other rows."""
        return replace(self, rows=rows)


def encode(raw: RawRows, splits: list[int]) -> CodedRows:
    """Return the sound rows with coded ids. `splits` is the split code of each file."""
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
        ids, as_read = _code_table(parts, key, kind)
        # Joined in the type of the file: casting twenty million numbers to text would dominate the time.
        parts = [part.inner_join(seen, [(key, "as_read")]) for part, seen in zip(parts, as_read, strict=True)]
        codes.append(ids)
    coded = [part.select("user", "item", "value", "timestamp", "split", *more) for part in parts]
    rows = materialise(coded[0].union(*coded[1:]) if len(coded) > 1 else coded[0])
    good = rows.filter(is_sound(rows, raw))
    return CodedRows(rows if size(good) == size(rows) else materialise(good), *codes)


def _code_table(parts: list[Table], key: str, kind: str) -> tuple[Table, list[Table]]:
    """Return the code table (<kind>, <kind>_id), and for each part a table of `as_read`, the id in the type of its
    file, and <kind>.
    """
    name = f"{kind}_id"
    seen = [materialise(part.select(as_read=part[key]).distinct()) for part in parts]
    named = [part.mutate(**{name: identifier(part.as_read)}) for part in seen]
    named = [part.filter(part[name].notnull() & (part[name] != "")) for part in named]
    ids = [part.select(name) for part in named]
    both = ids[0].union(*ids[1:]) if len(ids) > 1 else ids[0]
    codes = materialise(both.distinct().mutate(**{kind: ibis.row_number().over(order_by=name).cast("int32")}))
    return codes, [materialise(part.inner_join(codes, name).select("as_read", kind)) for part in named]


UNNAMED = len(SPLITS)
"""Rank of users and items without a kept interaction."""


def number(rows: Table, codes: Table, kind: str, others: Sequence[Table] = (), before: Table | None = None) -> Table:
    """Return the catalogue: <kind> (int64 integer id), <kind>_id, code (null without an interaction) and rank.

    The rank is the first split with an interaction: 0 for training, 1 for validation, 2 for test, and 3 for entities
    that only `others`, tables with <kind>_id, contain. Integer ids are by rank, then id, so that held-out interactions
    never change the integer ids of training. Entities of `before`, an earlier catalogue of <kind> and <kind>_id, keep
    their integer ids, and new ones follow.
    """
    key = f"{kind}_id"
    ranks = rows.group_by(kind).agg(rank=rows.split.min().cast("int64"))
    named = ranks.inner_join(codes, kind)
    best = named.select(key, "rank", code=named[kind])
    for other in others:
        more = other.select(key).distinct().anti_join(best, key).left_join(codes, key)
        best = materialise(best.union(more.select(key, rank=ibis.literal(UNNAMED, "int64"), code=more[kind])))
    if before is None:
        return _assign_numbers(best, kind, 0)
    earlier = before.select(kind, key).left_join(best, key)
    earlier = earlier.select(key, rank=earlier["rank"].fill_null(UNNAMED), code=earlier.code, **{kind: earlier[kind]})
    new = _assign_numbers(best.anti_join(before, key), kind, int(scalar(before[kind].max())) + 1)
    return materialise(earlier.union(new.select(*earlier.columns)))


def _assign_numbers(entities: Table, kind: str, first: int) -> Table:
    place = ibis.row_number().over(order_by=[entities["rank"], entities[f"{kind}_id"]])
    # Spark's row_number is INT, and ibis drops a direct cast to int64 as redundant.
    return materialise(entities.mutate(**{kind: place.cast("int32").cast("int64") + first}))
