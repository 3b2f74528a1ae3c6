"""The validation metric, which tuning and early stopping use."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Queries, known_groups, known_users
from llmrec_cli.scoring.scorer import Score, validation_values
from llmrec_cli.scoring.topk import item_hash_ranks


@dataclass(frozen=True)
class Validation:
    """Validation queries with their relevant items, and the metric.

    Attributes
    ----------
    queries : the users or groups with validation interactions; their history are the training interactions
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
        return float(self.values(score).mean())

    def values(self, score: Score) -> np.ndarray:
        """Return the metric of each query with a relevant item, float64, in query order."""
        return validation_values(score, self.queries, self.relevant, self.monitor, self.ranks)

    def of(self, scores_QN: torch.Tensor) -> float:
        """Return the mean metric of scores that were computed for all queries at once."""
        return float(self.values_of(scores_QN).mean())

    def values_of(self, scores_QN: torch.Tensor) -> np.ndarray:
        """Return the metric of each query with a relevant item, from scores computed for all queries at once."""
        place = {key: n for n, key in enumerate(self.queries.ids)}
        return self.values(lambda block: scores_QN[[place[key] for key in block.ids]])


def validation_of(data: PreparedData, monitor: str, audience: str = "users") -> Validation | None:
    """Return the validation of prepared data; None without validation interactions.

    `audience`, users or groups, selects whose held-out interactions are used.
    """
    if audience == "groups":
        return _validation_of_groups(data, monitor)
    train, valid = data.part("train"), data.part("valid")
    has_history = np.diff(train.matrix.indptr)[valid.user] > 0
    users = np.unique(valid.user[has_history])
    if len(users) == 0:
        return None
    queries = known_users(users, data.users.ids, train.values, train.matrix, data.users, data.times_of(train))
    return Validation(queries, valid.matrix[users], item_hash_ranks(data.items.ids), monitor)


def _validation_of_groups(data: PreparedData, monitor: str) -> Validation | None:
    """Return the validation of groups that have validation interactions and a history, their own or a member's."""
    train, together, held = data.part("train"), data.groups("train"), data.groups("valid")
    if together is None or held is None:
        return None
    own = together.interactions
    has_history = (np.diff(own.matrix.indptr) > 0) | (together.members @ (np.diff(train.matrix.indptr) > 0) > 0)
    has_validation = np.bincount(held.interactions.user, minlength=len(held)) > 0
    rows = np.flatnonzero(has_history & has_validation)
    if len(rows) == 0:
        return None
    users = known_users(np.arange(len(data.users)), data.users.ids, train.values, train.matrix, data.users,
                        data.times_of(train))
    queries = known_groups(rows, together.entities, together.members, own.values, own.matrix, users,
                           data.times_of(own))
    return Validation(queries, held.interactions.matrix[rows], item_hash_ranks(data.items.ids), monitor)
