"""The order of interactions: by time, then by dataset.columns.order, then by a salted hash of the row.

Many clocks are coarse: of dates alone, a user's interactions of a day share their time. Ordered by the item's id, they
would make a pattern that a model learns and that nobody's behaviour has, and the ids would decide what is held out.
Ordered as they stand in the file, the same rows would give another split after a shuffle. So a salted hash of user and
item decides, which differs from user to user.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis.expr.types import StringValue, Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import materialised, size
from llmrec_cli.ingest.interactions.id_codes import Coded

_SHARE_DIGITS = 8


def salted(seed: int, text: StringValue) -> StringValue:
    """Return the hexadecimal MD5 of the text with its salt."""
    return (ibis.literal(f"{seed}\x1f") + text).hexdigest("md5")


def of_pair(seed: int, rows: Table) -> StringValue:
    """Return the hash of user_id and item_id."""
    return salted(seed, rows.user_id + "\x1f" + rows.item_id)


def end_of(share: float) -> str:
    """Return the text below which this share (0 to 1) of all hashes is, by their first eight digits."""
    return f"{int(share * 16 ** _SHARE_DIGITS):08x}" if share < 1 else "g"


def start_of(hashed: StringValue) -> StringValue:
    """Return what of a hash is compared with `end_of`."""
    return hashed.left(_SHARE_DIGITS)


ORDER, TIE = "order", "tie"
"""Columns: dataset.columns.order (int64) where it is set, and the hash (12 hexadecimal digits, "" for no tie)."""
_MANY = 0.1
"""Share of ties in time above which they are a warning."""
_SALT = 1_913_579
"""Differs from every split.seed that is likely, so that ties do not follow what split=random holds out."""
_TIE_DIGITS = 12  # so few that DuckDB keeps them beside the other columns


def keys_of(rows: Table) -> list[str]:
    """Return the columns that put the interactions of one user in order."""
    return ["timestamp", *(name for name in (ORDER, TIE) if name in rows.columns)]


def pair_hash(rows: Table) -> StringValue:
    """Return the tie hash of rows with user_id and item_id."""
    return of_pair(_SALT, rows).left(_TIE_DIGITS)


def row_hash(rows: Table) -> StringValue:
    """Return a hash that tells rows of one pair (user_id, item_id) apart, by value and event."""
    # As a decimal, since engines write binary fractions in different ways.
    content = rows.user_id + "\x1f" + rows.item_id + "\x1f" + rows.value.cast("decimal(38, 9)").cast("string")
    return salted(_SALT, content + "\x1f" + rows.event.fill_null("") if "event" in rows.columns else content)


def with_ties(coded: Coded) -> Coded:
    """Return the same interactions with TIE, where some share user, time and order with another; else unchanged."""
    rows = coded.rows
    moment = ["user", "timestamp", *([ORDER] if ORDER in rows.columns else [])]
    counted = rows.group_by(moment).agg(times=rows.count())
    shared = materialised(counted.filter(counted.times > 1).select(*moment))
    if size(shared) == 0:
        return coded
    named = rows.semi_join(shared, moment).inner_join(coded.users, "user").inner_join(coded.items, "item")
    tied = named.mutate(**{TIE: pair_hash(named)}).select(*rows.columns, TIE)
    others = rows.anti_join(shared, moment).mutate(**{TIE: ibis.literal("")})
    return coded.with_rows(materialised(others.select(*rows.columns, TIE).union(tied)))


@dataclass(frozen=True)
class Ties:
    """Ties in time among the interactions of users or groups, from the counts of `count_ties`.

    Attributes
    ----------
    whose : user | group
    interactions, tied : all of them, and those that share time and `order` with another of theirs
    held_out, held_out_tied : users with held-out interactions, and those of whom one is tied
    ordered : whether dataset.columns.order is set
    """

    whose: str
    interactions: int
    tied: int
    held_out: int
    held_out_tied: int
    ordered: bool = False

    @property
    def share(self) -> float:
        """Share of the interactions."""
        return _share(self.tied, self.interactions)

    @property
    def held_out_share(self) -> float:
        """Share of those with held-out interactions."""
        return _share(self.held_out_tied, self.held_out)

    def described(self) -> dict[str, Any]:
        """Return the entry of manifest.json and audit.json."""
        rule = ["timestamp", *(["dataset.columns.order"] if self.ordered else []), "salted hash"]
        return {"rule": rule, "interactions": self.tied, "share": self.share, f"held_out_{self.whose}s":
                self.held_out_tied, "held_out_share": self.held_out_share}

    def sentence(self) -> str:
        """Return what a person should know; "" without ties."""
        if not self.tied:
            return ""
        told = f"{self.tied:,} interactions ({self.share:.1%}) share {self.whose} and time with another"
        if self.held_out:
            told += (f", and {self.held_out_tied:,} of {self.held_out:,} {self.whose}s ({self.held_out_share:.1%}) "
                     f"have a tied held-out interaction")
        told += "; a salted hash orders equal times, so their order is not the true one"
        if self.many:
            told += ("; if a column has the true order, name it with dataset.columns.order=<name>"
                     if not self.ordered else "")
        return told

    @property
    def many(self) -> bool:
        """True if the share of ties calls for a warning."""
        return max(self.share, self.held_out_share) > _MANY


def ties_of(counts: Mapping[str, int], ordered: bool) -> list[Ties]:
    """Return the ties of users, and of groups, where there are times."""
    found = []
    for whose, prefix in (("user", ""), ("group", "group_")):
        if f"{prefix}interactions_tied" in counts:
            tied, held_out, held_out_tied = (counts[f"{prefix}{key}"] for key in
                                             ("interactions_tied", "held_out", "held_out_tied"))
            found.append(Ties(whose, sum(counts[f"{prefix}{split}"] for split in SPLITS), tied, held_out,
                              held_out_tied, ordered))
    return found


def count_ties(rows: Table, who: str = "user", prefix: str = "") -> dict[str, int]:
    """Return how many rows, and of how many of those with held-out rows one at least, share their time with another.

    `rows` have `who`, split (0 for train) and, where there are ties, TIE; `prefix` begins the names of the counts.
    """
    names = [f"{prefix}{name}" for name in ("interactions_tied", "held_out", "held_out_tied")]
    counts, held = dict.fromkeys(names, 0), rows.filter(rows.split != 0)
    counts[names[1]] = size(held.select(who).distinct())
    if TIE in rows.columns:
        counts[names[0]] = size(rows.filter(rows[TIE] != ""))
        counts[names[2]] = size(held.filter(held[TIE] != "").select(who).distinct())
    return counts


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
