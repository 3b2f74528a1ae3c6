"""The order of interactions: by time, then by dataset.columns.order, then by a salted hash of user and item.

Many clocks are coarse: if times are dates, all interactions of a user on one day are tied. Breaking ties by item id
would create a pattern that a model learns although no user behaves like that, and the ids would decide what is held
out. Breaking them by the order of the file would change the split when the file is shuffled. So a salted hash, which
orders the items of each user differently, breaks ties, unless dataset.equal_times=file says that the file is in order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis.expr.types import StringValue, Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.engine import collect, materialise, size
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.dataset import DatasetSettings

_SHARE_DIGITS = 8


def salted_hash(seed: int, text: StringValue) -> StringValue:
    """Return the hexadecimal MD5 of the text, salted with `seed`."""
    return (ibis.literal(f"{seed}\x1f") + text).hexdigest("md5")


def pair_hash(seed: int, rows: Table) -> StringValue:
    """Return the hash of user_id and item_id."""
    return salted_hash(seed, rows.user_id + "\x1f" + rows.item_id)


def hash_limit(share: float) -> str:
    """Return the threshold below which this share (0 to 1) of all hashes is, compared by their first eight digits."""
    return f"{int(share * 16 ** _SHARE_DIGITS):08x}" if share < 1 else "g"


def hash_prefix(hashed: StringValue) -> StringValue:
    """Return the first digits of a hash, which are compared with `hash_limit`."""
    return hashed.left(_SHARE_DIGITS)


ORDER, TIE = "order", "tie"
"""Names of columns: dataset.columns.order, or the place in the files, (int64) if set; and the tie hash (12 hexadecimal
digits, "" for no tie)."""
_MANY = 0.1
"""Share of ties in time above which `prepare` warns."""
_SALT = 1_913_579
"""Differs from any likely split.seed, so that the order of ties is independent of what split=random holds out."""
_TIE_DIGITS = 12  # DuckDB stores strings of up to 12 bytes inline


def order_setting(settings: DatasetSettings, rows: Table) -> str:
    """Return the setting that orders equal times of `rows` before the salted hash, or ""."""
    if settings.equal_times == "file":
        return "dataset.equal_times=file"
    return "dataset.columns.order" if ORDER in rows.columns else ""


def order_columns(rows: Table) -> list[str]:
    """Return the columns that order the interactions of a user."""
    return ["timestamp", *(name for name in (ORDER, TIE) if name in rows.columns)]


def tie_hash(rows: Table) -> StringValue:
    """Return the tie hash of rows with user_id and item_id."""
    return pair_hash(_SALT, rows).left(_TIE_DIGITS)


def row_hash(rows: Table) -> StringValue:
    """Return a hash of user_id, item_id, value and event, which orders the rows of one pair."""
    # As a decimal, since engines print floating point numbers in different ways.
    content = rows.user_id + "\x1f" + rows.item_id + "\x1f" + rows.value.cast("decimal(38, 9)").cast("string")
    return salted_hash(_SALT, content + "\x1f" + rows.event.fill_null("") if "event" in rows.columns else content)


def with_ties(coded: CodedRows) -> CodedRows:
    """Add the column TIE if some interactions share user, time and order with another; else return them unchanged."""
    rows = coded.rows
    moment = ["user", "timestamp", *([ORDER] if ORDER in rows.columns else [])]
    counted = rows.group_by(moment).agg(times=rows.count())
    shared = materialise(counted.filter(counted.times > 1).select(*moment))
    if size(shared) == 0:
        return coded
    named = rows.semi_join(shared, moment).inner_join(coded.users, "user").inner_join(coded.items, "item")
    tied = named.mutate(**{TIE: tie_hash(named)}).select(*rows.columns, TIE)
    others = rows.anti_join(shared, moment).mutate(**{TIE: ibis.literal("")})
    return coded.with_rows(materialise(others.select(*rows.columns, TIE).union(tied)))


def num_at_equal_times(rows: Table) -> int:
    """Return the number of interactions with the user and time of another, whatever orders them."""
    counted = rows.group_by("user", "timestamp").agg(times=rows.count())
    return int(collect(counted.filter(counted.times > 1).agg(num=counted.times.sum()))["num"][0].as_py() or 0)


@dataclass(frozen=True)
class Ties:
    """Ties in time among the interactions of users or groups, from the counts of `count_ties`.

    Attributes
    ----------
    whose : user | group
    interactions, tied : number of interactions, and of those with the time and `order` of another of the same user
    held_out, held_out_tied : number of users with held-out interactions, and of those with a tied held-out interaction
    ordered_by : setting that orders equal times before the salted hash, or ""
    """

    whose: str
    interactions: int
    tied: int
    held_out: int
    held_out_tied: int
    ordered_by: str = ""

    @property
    def share(self) -> float:
        """Share of tied interactions."""
        return _share(self.tied, self.interactions)

    @property
    def held_out_share(self) -> float:
        """Share of users with a tied held-out interaction among those with held-out interactions."""
        return _share(self.held_out_tied, self.held_out)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry for manifest.json and audit.json."""
        rule = ["timestamp", *([self.ordered_by] if self.ordered_by else []), "salted hash"]
        return {"rule": rule, "interactions": self.tied, "share": self.share, f"held_out_{self.whose}s":
                self.held_out_tied, "held_out_share": self.held_out_share}

    def sentence(self) -> Phrase:
        """Return the note or warning about the ties."""
        tied = Phrase("{num:,} interactions ({share:.1%}) have the same {whose} and time as another", num=self.tied,
                      share=self.share, whose=Phrase(self.whose))
        if self.held_out:
            tied = Phrase("{tied}, and {num:,} of {total:,} {audience} ({share:.1%}) have a tied held-out interaction",
                          tied=tied, num=self.held_out_tied, total=self.held_out, audience=Phrase(f"{self.whose}s"),
                          share=self.held_out_share)
        if self.many and not self.ordered_by:
            return Phrase("{tied}; a salted hash orders equal times, so their order is arbitrary; if a column has the "
                          "true order, name it with dataset.columns.order=<name>", tied=tied)
        return Phrase("{tied}; a salted hash orders equal times, so their order is arbitrary", tied=tied)

    @property
    def many(self) -> bool:
        """True if the share of ties calls for a warning."""
        return max(self.share, self.held_out_share) > _MANY


def ties_of(counts: Mapping[str, int], ordered_by: str) -> list[Ties]:
    """Return the counts of equal times in interactions of users, and of groups; empty without times."""
    ties = []
    for whose, prefix in (("user", ""), ("group", "group_")):
        if f"{prefix}interactions_tied" in counts:
            tied, held_out, held_out_tied = (counts[f"{prefix}{key}"] for key in
                                             ("interactions_tied", "held_out", "held_out_tied"))
            ties.append(Ties(whose, sum(counts[f"{prefix}{split}"] for split in SPLITS), tied, held_out,
                              held_out_tied, ordered_by))
    return ties


def count_ties(rows: Table, who: str = "user", prefix: str = "") -> dict[str, int]:
    """Count the tied rows, the users with held-out rows, and the users with a tied held-out row.

    `rows` have `who` (user | group_id), split (0 for train) and, if there are ties, TIE. `prefix` starts the names of
    the counts.
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
