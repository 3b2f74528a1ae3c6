"""Rows that `prepare` would reject: how many there are in the samples, and what to do about them."""

import math
from dataclasses import dataclass

from llmrec_cli.ingest.drafts.events import ignored_rows
from llmrec_cli.ingest.drafts.roles import Role
from llmrec_cli.ingest.drafts.samples import Column, Sample
from llmrec_cli.ingest.readers.totals import total_of

_REQUIRED = {"interactions": ("user_id", "item_id", "value", "timestamp"), "items": ("item_id",),
             "users": ("user_id",)}
_FEW, _USUAL = 0.05, 0.001
"""Share of bad rows above which settings are probably wrong, and the share that `prepare` allows without a setting."""


@dataclass
class BadRows:
    """Bad rows of the samples.

    Attributes
    ----------
    unsure : sentences on what is bad
    shares : number and file of few bad rows, in words -> their share of the rows
    """

    unsure: list[str]
    shares: dict[str, float]

    @property
    def allowed(self) -> float:
        """Value of dataset.max_reject_share that lets `prepare` leave them out."""
        return _round_up(max(self.shares.values()))


def find_bad_rows(by_role: dict[str, list[Role]], columns: dict[str, str]) -> BadRows:
    """Count the rows that `prepare` rejects, in the first file of each role.

    `columns` are those of the interactions: our name -> name in the file.
    """
    found = BadRows([], {})
    for role, required in _REQUIRED.items():
        for one in by_role[role][:1]:
            sample, names = one.sample, columns if role == "interactions" else one.columns
            ignored = ignored_rows(one) if role == "interactions" else set()
            if total := _total(one):
                ignored.add(sample.num_rows - 1)
                found.unsure.append(f"{sample.path}: the last row is a total ('{total}'), which `prepare` leaves out")
            cells = [(ours, column, column.bad_places(ours == "value") - ignored) for ours in required
                     if (column := sample.columns.get(names.get(ours, one.columns.get(ours, ours)))) is not None
                     and not column.in_array and not column.is_array]
            num_bad = len(set().union(*(places for _, _, places in cells))) + sample.num_unread
            num_rows = sample.num_rows + sample.num_unread
            share = num_bad / num_rows
            found.unsure += [_bad_cells(sample, ours, column, places, share)
                             for ours, column, places in cells if places]
            if sample.num_unread:
                found.unsure.append(f"{sample.path}: {sample.num_unread:,} rows cannot be read and are bad rows; "
                                    f"`prepare` names them")
            if _USUAL < share <= _FEW:
                rows = f"{num_rows:,} rows" if sample.is_whole else f"the first {num_rows:,} rows"
                found.shares[f"{num_bad:,} of {rows} of {sample.path}"] = share
    return found


def _round_up(share: float) -> float:
    """Return the next whole percent, so that the next export does not fail for one row more."""
    return math.ceil(round(100 * share, 6)) / 100


def _bad_cells(sample: Sample, ours: str, column: Column, places: set[int], share: float) -> str:
    """Return a sentence on the bad rows by one column; `share` is the share of all bad rows of the file."""
    num_empty = len(places - set(column.places))
    num_bad = len(places) - num_empty
    what = " and ".join([f"empty in {num_empty:,} rows"] * bool(num_empty) +
                        [f"not a number in {num_bad:,} rows"] * bool(num_bad))
    remedy = "fill them or leave them out of the export"
    if share > _FEW:
        remedy += (f"; `prepare` refuses the file with {share:.0%} bad rows: if another column is the {ours}, set "
                   f"dataset.columns.{ours}=<name>, and if they may be left out, "
                   f"dataset.max_reject_share={_round_up(share):g}")
    return (f"{sample.path}: '{column.name}' is {what} of {column.num_rows:,}, which are bad rows without {ours}: "
            f"{remedy}")


def _total(role: Role) -> str:
    """Return the name of the totals in the last row, or their numbers; "" for any other last row."""
    ids = [name for ours, name in role.columns.items() if ours.endswith("_id")]
    last = role.sample.last
    times = [role.columns["timestamp"]] if "timestamp" in role.columns else []
    return "" if all(name in last for name in ids) else total_of(last, [*ids, *times])
