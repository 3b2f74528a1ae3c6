"""The validation metric that every choice looks at."""

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
    """Queries with what they went on to like, and the metric to look at.

    Attributes
    ----------
    queries : the users or groups with validation interactions, their history the training interactions
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
        """Return the metric of each query that has a relevant item, float64, in their order."""
        return validation_values(score, self.queries, self.relevant, self.monitor, self.ranks)

    def of(self, scores_QN: torch.Tensor) -> float:
        """Return the mean metric of scores that were computed for all queries at once."""
        return float(self.values_of(scores_QN).mean())

    def values_of(self, scores_QN: torch.Tensor) -> np.ndarray:
        """Return the metric of each query that has a relevant item, of scores computed for all queries at once."""
        whom = _number(self.queries)
        place = np.full(whom.max() + 1, -1, np.int64)
        place[whom] = np.arange(len(self.queries))
        return self.values(lambda block: scores_QN[torch.from_numpy(place[_number(block)])])


def _number(queries: Queries) -> np.ndarray:
    """Return the integer of each query's user or group; a validation is about one or the other."""
    return queries.user if queries.groups is None else queries.groups.group


def validation_of(data: PreparedData, monitor: str, audience: str = "users") -> Validation | None:
    """Return the validation of prepared data, None where nothing is held out for it.

    `audience` is users or groups: whose held-out interactions are looked at.
    """
    if audience == "groups":
        return _validation_of_groups(data, monitor)
    train, valid = data.part("train"), data.part("valid")
    known = np.diff(train.matrix.indptr)[valid.user] > 0
    users = np.unique(valid.user[known])
    if len(users) == 0:
        return None
    queries = known_users(users, data.users.ids, train.values, train.matrix, data.users, data.times_of(train))
    return Validation(queries, valid.matrix[users], item_hash_ranks(data.items.ids), monitor)


def _validation_of_groups(data: PreparedData, monitor: str) -> Validation | None:
    """Return the groups with validation interactions of which something is known: a history, or a member's."""
    train, together, wanted = data.part("train"), data.groups("train"), data.groups("valid")
    if together is None or wanted is None:
        return None
    own = together.interactions
    known = (np.diff(own.matrix.indptr) > 0) | (together.members @ (np.diff(train.matrix.indptr) > 0) > 0)
    asked = np.bincount(wanted.interactions.user, minlength=len(wanted)) > 0
    chosen = np.flatnonzero(known & asked)
    if len(chosen) == 0:
        return None
    users = known_users(np.arange(len(data.users)), data.users.ids, train.values, train.matrix, data.users,
                        data.times_of(train))
    queries = known_groups(chosen, together.entities, together.members, own.values, own.matrix, users,
                           data.times_of(own))
    return Validation(queries, wanted.interactions.matrix[chosen], item_hash_ranks(data.items.ids), monitor)
