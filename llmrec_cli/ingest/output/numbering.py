"""The catalogues of users and items, numbered by who is trained on."""

from collections.abc import Sequence

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import materialised, scalar

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
