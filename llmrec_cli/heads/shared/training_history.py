"""Histories of training targets, and histories cut to the length that a head reads.

Shapes: B targets, L items of their histories, U users, N items.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import SPLITS_BY_TIME, TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context


@dataclass
class CutHistories:
    """Counts of histories that are longer than a head reads.

    Attributes
    ----------
    limit : number of newest history items that the head reads; None for all
    num_histories : histories longer than the limit
    num_items : history items beyond the limit
    """

    limit: int | None
    num_histories: int = 0
    num_items: int = 0

    def add(self, lengths: np.ndarray) -> None:
        """Count histories by their lengths."""
        if self.limit is not None:
            self.num_histories += int((lengths > self.limit).sum())
            self.num_items += int(np.maximum(lengths - self.limit, 0).sum())

    def add_queries(self, queries: Queries) -> None:
        """Count the histories of queries, and of their members."""
        self.add(np.diff(queries.history.indptr))
        if queries.groups is not None:
            self.add(np.diff(queries.groups.members.history.indptr))

    def sentence(self, kind: str) -> str:
        """Return a note about the items cut off, "" if there are none. `kind` is the head's kind."""
        if not self.num_histories:
            return ""
        return (f"head={kind} reads the newest {self.limit:,} items of a history (head.recency=true): "
                f"{self.num_histories:,} histories are longer, and {self.num_items:,} of their oldest items are not "
                f"read")


BEFORE, _OTHERS = "before", "others"


def resolve_history(setting: str, data: TrainingData, context: Context) -> str:
    """Resolve the setting `training_history` (auto | before | others) to before | others, and log it.

    auto is `before` if interactions have times and the split is by time, so that training predicts the next item as
    scoring does. The test split is not inspected: files split by somebody else (split=given) may be split by time, but
    only a person can say so.
    """
    ordered = data.has_order and _has_distinct_times(data.interactions)
    if setting == BEFORE and not ordered:
        raise DataError("head.training_history=before: the interactions have no times, or each user's are all at one "
                        "time, so none is earlier than another; prepare with dataset.columns.timestamp=<column>, or "
                        "choose head.training_history=others")
    history = (BEFORE if ordered and data.is_split_by_time else _OTHERS) if setting == "auto" else setting
    why = ("set" if setting != "auto" else "no times" if not ordered else f"split={data.split or 'unknown'}"
           + ("" if data.split in SPLITS_BY_TIME else ", which does not go by time"))
    context.log("training_history", chosen=history, why=why)
    return history


def _has_distinct_times(interactions: Interactions) -> bool:
    """Return True if any user has interactions at different times."""
    user, time = interactions.user, interactions.timestamp
    return bool(((user[1:] == user[:-1]) & (time[1:] != time[:-1])).any())


def newest_entries(indices: np.ndarray, indptr: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last `most` entries of each row, as CSR: indices (L,), indptr; rows are oldest first."""
    lengths = np.minimum(np.diff(indptr), most)
    cut = np.concatenate([[0], np.cumsum(lengths)])
    place_L = np.arange(cut[-1]) + np.repeat(indptr[1:] - cut[1:], lengths)
    return indices[place_L].astype(np.int64), cut


def earlier_items(matrix: sp.csr_array, user_B: np.ndarray, place_B: np.ndarray,
                  first_B: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `place_B` items of each user's row in `matrix` (U, N), as CSR: indices (L,), indptr (B + 1,).

    With `first_B`, only the items from that position on. Rows are in time order, with ties ordered by `prepare`: an
    item at the same time as the target counts as earlier if the row has it earlier. Queries' histories are cut in the
    same order.
    """
    first_B = np.zeros_like(place_B) if first_B is None else first_B
    lengths_B = place_B - first_B
    indptr = np.concatenate([[0], np.cumsum(lengths_B)])
    place_L = np.arange(indptr[-1]) + np.repeat(matrix.indptr[user_B] + first_B - indptr[:-1], lengths_B)
    return matrix.indices[place_L].astype(np.int64), indptr
