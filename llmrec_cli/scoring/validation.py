"""The validation metric that every choice looks at."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Queries, known_users
from llmrec_cli.scoring.scorer import Score, validation_metric
from llmrec_cli.scoring.topk import item_hash_ranks


@dataclass(frozen=True)
class Validation:
    """Queries with what they went on to like, and the metric to look at.

    Attributes
    ----------
    queries : the users with validation interactions, their history the training interactions
    relevant : CSR (num_queries, num_items) of 1s
    ranks : int64 (num_items,), `item_hash_ranks` of the catalogue
    monitor : `<metric>@<k>`
    """

    queries: Queries
    relevant: sp.csr_array
    ranks: np.ndarray
    monitor: str

    def __call__(self, score: Score) -> float:
        """Return the mean metric of a scorer, higher is better."""
        return validation_metric(score, self.queries, self.relevant, self.monitor, self.ranks)

    def of(self, scores_QN: torch.Tensor) -> float:
        """Return the mean metric of scores that were computed for all queries at once."""
        place = np.full(self.queries.user.max() + 1, -1, np.int64)
        place[self.queries.user] = np.arange(len(self.queries))
        return self(lambda block: scores_QN[torch.from_numpy(place[block.user])])


def validation_of(data: PreparedData, monitor: str) -> Validation | None:
    """Return the validation of prepared data, None where nothing is held out for it."""
    train, valid = data.part("train"), data.part("valid")
    known = np.diff(train.matrix.indptr)[valid.user] > 0
    users = np.unique(valid.user[known])
    if len(users) == 0:
        return None
    queries = known_users(users, data.users.ids, train.matrix, train.matrix)
    return Validation(queries, valid.matrix[users], item_hash_ranks(data.items.ids), monitor)
