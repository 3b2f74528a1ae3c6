"""The core: users and items that have enough interactions with each other."""

from itertools import count

from ibis.expr.types import Table

from llmrec_cli.ingest.engine import materialised, size

_ROUNDS = 4
"""Rounds that look rows up in who has gone before those that are left are written anew."""


def core(rows: Table, min_user: int, min_item: int) -> Table:
    """Drop users and items with fewer interactions than `min_user` and `min_item` until all that are left have enough.

    The result does not depend on the order of dropping (Seidman 1983).
    """
    least = {key: number for key, number in (("user", min_user), ("item", min_item)) if number > 1}
    if not least:
        return rows
    base = left = rows
    gone: dict[str, Table] = {}
    for attempt in count(1):
        stable = True
        for key, number in least.items():
            counted = left.group_by(key).agg(size=left.count())
            few = materialised(counted.filter(counted["size"] < number).select(key))
            if size(few) == 0:
                continue
            stable = False
            gone[key] = materialised(gone[key].union(few)) if key in gone else few
            left = base
            for other, keys in gone.items():
                left = left.anti_join(keys, other)
        if stable:
            return materialised(left) if gone else base
        if attempt % _ROUNDS == 0:
            base = left = materialised(left)
            gone = {}
    raise AssertionError
