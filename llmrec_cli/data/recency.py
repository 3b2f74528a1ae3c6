"""Weights of a history by recency, at scoring.

An interaction of age a, counted from the newest one of the same history, weighs 2^-min(a / half_life, 20). With `place`
a is the number of later interactions of the history, with `time` the days between. The newest one weighs 1, so a
history of one interaction is scored as without recency. Recency is a property of queries: every history has its own
newest interaction. `head.decay` (`data.weights`) changes the fit, and counts from the newest interaction in training.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.histories import rows_of
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError

DAY = 86_400_000
"""Milliseconds."""
MOST_HALVINGS = 20
"""Half-lives after which a weight stops falling, at about a millionth: an old interaction still counts more than none,
and no weight, square of a weight or product of two underflows in float32."""


@dataclass(frozen=True)
class Recency:
    """Rule that weighs the interactions of a history by recency.

    Attributes
    ----------
    kind : none | place | time
    half_life : places or days after which a weight is one half
    """

    kind: str = "none"
    half_life: float = 1.0

    def require_order(self, data: TrainingData) -> None:
        """Raise DataError if the histories of `data` have no order, or with `time` no moments."""
        if self.kind == "place" and not data.has_order:
            raise DataError("head.recency=place: the prepared data has no times, so no interaction of a history is "
                            "more recent than another; prepare with dataset.columns.timestamp=<column>, or set "
                            "head.recency=none")
        if self.kind == "time" and not data.has_moments:
            raise DataError("head.recency=time: the prepared data has no times, or only an order, so interactions have "
                            "no age; prepare with a column of times (dataset.columns.timestamp, "
                            "dataset.timestamp_unit=s, ms or iso), or choose head.recency=place")

    def weigh(self, history: sp.csr_array, times: sp.csr_array | None) -> sp.csr_array:
        """Return the histories with each entry multiplied by its weight; rows are oldest first.

        `times` has the entries of `history`: milliseconds, or `UNTIMED` for interactions of unknown time, which count
        as the newest.
        """
        if self.kind == "none" or not history.nnz:
            return history
        if self.kind == "place":
            age = np.repeat(history.indptr[1:], np.diff(history.indptr)) - 1.0 - np.arange(history.nnz)
        elif times is None:
            raise DataError(f"head.recency=time (half-life {self.half_life:g} days): the histories of this data have "
                            f"no times; prepare the data with a column of times (dataset.columns.timestamp), or train "
                            f"again with head.recency=place or none")
        else:
            age = _days(times)
        weights = np.exp2(-np.minimum(age / self.half_life, MOST_HALVINGS)).astype(np.float32)
        return sp.csr_array((history.data * weights, history.indices, history.indptr), shape=history.shape)


def _days(times: sp.csr_array) -> np.ndarray:
    """Return the age of each entry in days, counted from the newest known time of its row; 0 for unknown times."""
    row, known = rows_of(times), times.data != UNTIMED
    newest = np.full(times.shape[0], np.iinfo(np.int64).min)
    np.maximum.at(newest, row[known], times.data[known])
    age = np.zeros(times.nnz)
    age[known] = (newest[row[known]] - times.data[known]) / DAY
    return age
