"""The core: users and items that have enough interactions with each other."""

from ibis.expr.types import Table

from llmrec_cli.ingest.engine import materialised, size

_SHRUNK = 0.8
"""Rows are written anew when fewer than this share is left; else each round looks them up in who is left."""


def core(rows: Table, min_user: int, min_item: int) -> Table:
    """Drop users and items with fewer interactions than `min_user` and `min_item` until all that are left have enough.

    The result does not depend on the order of dropping (Seidman 1983).
    """
    least = {key: number for key, number in (("user", min_user), ("item", min_item)) if number > 1}
    if not least:
        return rows
    left = base = rows
    now, in_base = size(rows), size(rows)
    enough: dict[str, Table] = {}
    before = -1
    while now != before:
        for key, number in least.items():
            counted = left.group_by(key).agg(size=left.count())
            enough[key] = materialised(counted.filter(counted["size"] >= number).select(key))
            # Who is left of one round is among who was left of the last, so two joins do, whatever the round.
            left = base
            for other, keys in enough.items():
                left = left.semi_join(keys, other)
        before, now = now, size(left)
        if now < _SHRUNK * in_base:
            left = base = materialised(left)
            in_base, enough = now, {}
    return base if now == in_base else materialised(left)
