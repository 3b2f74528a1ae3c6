"""Users whom training knows nothing of, asked for with the first they did.

Shapes: Q queries, N items of the recommender's catalogue, U users and M items of the prepared data.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import presence
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Queries, untimed
from llmrec_cli.errors import DataError
from llmrec_cli.requests.answers import Scores, score
from llmrec_cli.requests.asked import Matched
from llmrec_cli.scoring.first_clicks import divided, in_order
from llmrec_cli.scoring.heldout import HeldOut


def held_out_cold(data: PreparedData, split: str, users: Entities, items: Entities, told: int, after: int) -> HeldOut:
    """Return the users of `split` without earlier interactions, and what they did after the first `after` times.

    They are asked for with the first `told` of these, their attributes and texts. The first `after` are off the list.
    `users` and `items` are those of the recommender, `items` with all that the data has.
    """
    assert 0 <= told <= after
    item_of_M = items.find(data.items.ids)
    assert (item_of_M >= 0).all()
    earlier = data.part("train") if split == "valid" else data.part("train", "valid")
    measured = data.part(split)
    wanted = in_order(measured)
    # A model whose weights fall with age needs times also where this data has none: all are as new as any then.
    when = in_order(measured, measured.timestamp) if data.has_moments else untimed(wanted)
    lengths_U, known_U = np.diff(wanted.indptr), np.bincount(earlier.user, minlength=len(data.users)) > 0
    asked, chosen = (lengths_U > 0).sum(), np.flatnonzero((lengths_U > after) & ~known_U)
    if not len(chosen):
        raise DataError(f"{data.path}: none of the {asked} users with {split} interactions can be measured: "
                        f"{int(((lengths_U > 0) & known_U).sum())} have interactions before them, the others no more "
                        f"than {after}; prepare with split=cold_users, or set cold_users.first to smaller numbers")

    def first(matrix: sp.csr_array, num: int) -> tuple[sp.csr_array, sp.csr_array]:
        rows = matrix[chosen]
        return divided(sp.csr_array((rows.data, item_of_M[rows.indices], rows.indptr),
                                    shape=(len(chosen), len(items))), num)

    hidden, relevant = first(wanted, after)
    history, relevant = divided(hidden, told)[0], presence(relevant)
    relevant.sort_indices()
    everybody = users.extended(data.users)
    ids, whom = data.users.ids[chosen], len(users) + chosen
    profiles = everybody.texts[whom]
    # As users= does it: a user's own text stands in for a text where there is no history.
    texts = np.where(np.diff(history.indptr) == 0, profiles, "").astype(object)
    queries = Queries(ids, ids, np.full(len(chosen), -1, np.int64), history, presence(hidden), texts,
                      attributes=everybody.attributes[whom], profiles=profiles,
                      times=first(when, told)[0])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M], candidates_N[item_of_M] = data.part("train").item_counts, True
    return HeldOut(queries, relevant, counts_N, np.zeros(len(chosen), np.int64), candidates_N,
                   int(asked) - len(chosen), 0)


def served(head: Scores, popularity_N: np.ndarray) -> Callable[[Queries], torch.Tensor]:
    """Return the scores that `recommend` would serve: by history, profile or text, else popularity."""

    def scores(queries: Queries) -> torch.Tensor:
        told = np.diff(queries.history.indptr) > 0
        return score(head, Matched(queries, told, np.zeros(0, object)), popularity_N)[0]

    return scores
