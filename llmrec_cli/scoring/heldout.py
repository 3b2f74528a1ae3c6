"""Held-out queries of users with their relevant items, and the audience of an evaluation.

Shapes: R rows, Q queries, N items of the recommender's catalogue, U users and M items of the prepared data.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.histories import appended, select_rows, widened, without
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import SPLITS, PreparedData
from llmrec_cli.data.queries import UNTIMED, Queries
from llmrec_cli.errors import DataError


@dataclass(frozen=True)
class Audience:
    """Users or groups of prepared data.

    Attributes
    ----------
    kind : user | group
    entities : the users or groups
    interactions : their interactions in all splits; `user` is their integer
    held : their interactions in the evaluated split
    """

    kind: str
    entities: Catalogue
    interactions: Interactions
    held: Interactions


def audience_of(data: PreparedData, audience: str, split: str) -> Audience:
    """Return the users or groups of the data, by `audience` (users | groups). Raises DataError without groups."""
    if audience == "users":
        return Audience("user", data.users, data.interactions, data.part(split))
    everything, held = data.groups(*SPLITS), data.groups(split)
    if everything is None or held is None:
        raise no_groups(data)
    return Audience("group", everything.entities, everything.interactions, held.interactions)


def no_groups(data: PreparedData) -> DataError:
    """Return the error for data without groups."""
    return DataError(f"{data.path}: audience=groups, and the data has no groups; prepare with dataset.groups=<file of "
                     f"members>, or set audience=users")


def ordered_matrix(interactions: Interactions, data: np.ndarray | None = None) -> sp.csr_array:
    """Return CSR (num_users, num_items) of values, rows oldest first; the sort is stable.

    In prepared data, interactions with equal times are already ordered by a salted hash or dataset.columns.order;
    without times, all are ordered by the hash. `data` (num_interactions,) replaces the values.
    """
    order = np.lexsort((interactions.timestamp, interactions.user))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(interactions.user, minlength=interactions.num_users))])
    return sp.csr_array(((interactions.value if data is None else data)[order], interactions.item[order], indptr),
                        shape=(interactions.num_users, interactions.num_items))


def split_rows(matrix_RN: sp.csr_array, num: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the first `num` entries of each row, and the remaining entries, in their order."""
    lengths_R = np.diff(matrix_RN.indptr)
    place = np.arange(len(matrix_RN.indices)) - np.repeat(matrix_RN.indptr[:-1], lengths_R)
    return _select(matrix_RN, place < num), _select(matrix_RN, place >= num)


def _select(matrix_RN: sp.csr_array, keep: np.ndarray) -> sp.csr_array:
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix_RN.indptr]
    return sp.csr_array((matrix_RN.data[keep], matrix_RN.indices[keep], indptr), shape=matrix_RN.shape)


@dataclass(frozen=True)
class HeldOut:
    """Held-out interactions in the integers of a recommender.

    Attributes
    ----------
    queries : Q users, or groups, with a history and relevant items
    relevant_QN : CSR of 1s, the held-out items of each query; without seen items if exclude_seen is set
    counts_N : int64 (N,), interactions in the training split, for popularity
    lengths_Q : int64 (Q,), length of each user's history in the training split
    candidates_N : bool (N,), the items of the prepared data, which may be recommended
    num_skipped : users or groups with held-out interactions that are not evaluated
    num_cold : skipped users or groups without a history
    candidates_QN : CSR of 1s, the candidates of each query, as in protocols with sampled negatives; None if all of
        `candidates_N` are candidates
    owner_Q : object array (Q,) of str, the user or group of each query if each row of a candidate file is a query, so
        that a user can have several queries; None if queries are users or groups
    """

    queries: Queries
    relevant_QN: sp.csr_array
    counts_N: np.ndarray
    lengths_Q: np.ndarray
    candidates_N: np.ndarray
    num_skipped: int
    num_cold: int
    candidates_QN: sp.csr_array | None = None
    owner_Q: np.ndarray | None = None

    @property
    def owners(self) -> np.ndarray:
        """The id of the user or group of each query, object array (Q,)."""
        return self.queries.ids if self.owner_Q is None else self.owner_Q

    @property
    def num_owners(self) -> int:
        """Number of users or groups that the queries belong to."""
        return len(self.queries) if self.owner_Q is None else len(set(self.owner_Q))


def held_out(data: PreparedData, split: str, users: Catalogue, items: Catalogue, history: sp.csr_array,
             exclude_seen: bool, times: sp.csr_array | None = None, latest: bool = True) -> HeldOut:
    """Return the users and held-out items of `split` for a recommender that knows `users` and `items`.

    `history` (users, at most N) is what the recommender was fitted on, with its `times` if it has them; `items` must
    include those of `data`. Ids are matched as strings, so the data may be newer than the recommender. With `latest`
    the history of a query is everything in the data before `split` (see `latest_of`); without it, a user that the
    recommender knows has only the history of the fit. Seen items are those of the history of the fit, those of the data
    before `split`, and those returned before it.
    """
    user_of_U, item_of_M = users.find(data.users.ids), items.find(data.items.ids)
    assert (item_of_M >= 0).all()
    train, held = data.part("train"), data.part(split)
    splits_before = ("train",) if split == "valid" else ("train", "valid")
    before = data.part(*splits_before)
    user_rows = np.flatnonzero(np.bincount(held.user, minlength=len(data.users)))
    before_UN = with_model_items(before, item_of_M, len(items))
    fitted = histories_of(user_rows, user_of_U, history, before_UN)
    histories = fitted
    history_times = None if times is None else histories_of(user_rows, user_of_U, times,
                                                            times_of(data, before, item_of_M, len(items)))
    if latest:
        data_UN = with_model_items(data.interactions, item_of_M, len(items))
        histories = latest_of(user_rows, fitted, before_UN, data_UN)
        history_times = None if history_times is None else latest_of(user_rows, history_times,
                                                                     times_of(data, before, item_of_M, len(items)),
                                                                     data_UN)
    seen = union(fitted, before_UN[user_rows])
    returned = data.returned(*splits_before)
    if returned is not None:
        seen = union(seen, with_model_items(returned, item_of_M, len(items))[user_rows])
    relevant = minus(with_model_items(held, item_of_M, len(items))[user_rows], seen if exclude_seen else None)
    warm, has_relevant = np.diff(histories.indptr) > 0, np.diff(relevant.indptr) > 0
    rows = np.flatnonzero(warm & has_relevant)
    if len(rows) == 0:
        raise DataError(_no_queries(data, split, len(user_rows), int((~warm).sum())))
    ids, texts = data.users.ids[user_rows[rows]], np.full(len(rows), "", object)
    catalogue = users if (user_of_U >= 0).all() else users.extended(data.users)
    catalogue_rows = np.where(user_of_U >= 0, user_of_U, len(users) + np.arange(len(user_of_U)))[user_rows[rows]]
    queries = Queries(ids, ids, user_of_U[user_rows[rows]], histories[rows], seen[rows], texts,
                      attributes=catalogue.attributes[catalogue_rows], profiles=catalogue.texts[catalogue_rows],
                      times=None if history_times is None else history_times[rows])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M], candidates_N[item_of_M] = train.item_counts, True
    return HeldOut(queries, relevant[rows], counts_N, np.diff(train.matrix.indptr)[user_rows[rows]], candidates_N,
                   len(user_rows) - len(rows), int((~warm).sum()))


def _no_queries(data: PreparedData, split: str, num_evaluated: int, num_cold: int) -> str:
    if num_evaluated == 0:
        return f"{data.path}: no {split} interactions to evaluate on; prepare with split.{split}=<fraction>"
    why = (f"{data.path}: none of the {num_evaluated} users with {split} interactions can be evaluated: "
           f"{'all' if num_cold == num_evaluated else num_cold} have no history to recommend from")
    if num_cold == num_evaluated:
        return (f"{why}; prepare with split=random or split=leave_last_out, which leave training interactions to "
                f"every user, or a cutoff in time that splits the interactions of some users")
    return (f"{why}, the others have seen all their held-out items; prepare with another split, or set "
            f"exclude_seen=false")


def with_model_items(interactions: Interactions, item_of_M: np.ndarray, num_items: int) -> sp.csr_array:
    """Return the values of interactions (U, N) in the recommender's integers, each row still oldest first."""
    return _with_items(interactions.values, item_of_M, num_items)


def times_of(data: PreparedData, interactions: Interactions, item_of_M: np.ndarray, num_items: int) -> sp.csr_array:
    """Return the times of the entries of `with_model_items`, `UNTIMED` where the data has no moments."""
    times = interactions.times if data.has_moments else interactions.with_data(np.full(len(interactions), UNTIMED))
    return _with_items(times, item_of_M, num_items)


def _with_items(matrix: sp.csr_array, item_of_M: np.ndarray, num_items: int) -> sp.csr_array:
    return sp.csr_array((matrix.data, item_of_M[matrix.indices], matrix.indptr), shape=(matrix.shape[0], num_items))


def latest_of(user_rows: np.ndarray, fitted: sp.csr_array, before_UN: sp.csr_array,
              data_UN: sp.csr_array) -> sp.csr_array:
    """Return the history of each user in `user_rows` up to the evaluated split.

    A history consists of the interactions of the fit that are in no split of the data (because the data begins later),
    followed by the interactions of the data before the evaluated split, `before_UN`. Held-out interactions of the data
    (`data_UN` has all splits) are in no history, even if the recommender was fitted on them.
    """
    return appended(without(fitted, data_UN[user_rows]), before_UN[user_rows])


def newer_histories(queries: Queries, known: sp.csr_array) -> np.ndarray:
    """Return a mask, bool (Q,), of queries of known users with interactions that the recommender was not fitted on."""
    fitted = select_rows(widened(known, queries.history.shape[1]), queries.user)
    newer: np.ndarray = (np.diff(without(queries.history, fitted).indptr) > 0) & (queries.user >= 0)
    return newer


def histories_of(user_rows: np.ndarray, user_of_U: np.ndarray, known: sp.csr_array,
                 data_UN: sp.csr_array) -> sp.csr_array:
    """Return the history of each user in `user_rows`: from the fit for known users, from the data for others."""
    num_known, num_items = known.shape[0], data_UN.shape[1]
    wide = widened(known, num_items)
    user = user_of_U[user_rows]
    if (user >= 0).all():
        return wide[user]
    both = sp.csr_array(sp.vstack([wide, data_UN], format="csr"))
    return both[np.where(user >= 0, user, num_known + user_rows)]


def _pairs(matrix: sp.csr_array) -> np.ndarray:
    """Return each entry as one number, row * columns + column, sorted and unique."""
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return _distinct(row * matrix.shape[1] + matrix.indices)


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Return the sorted unique keys; np.unique hashes integers, which is much slower than this sort."""
    keys = np.sort(keys)
    return keys[np.r_[True, keys[1:] != keys[:-1]]] if len(keys) else keys


def _from_pairs(pairs: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    row = pairs // shape[1]
    column = pairs - row * shape[1]
    indptr = np.searchsorted(row, np.arange(shape[0] + 1))
    return sp.csr_array((np.ones(len(pairs), np.float32), column, indptr), shape=shape)


def union(one: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Return 1s where either matrix has an entry."""
    if np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices):
        return presence(one)
    return _from_pairs(_distinct(np.concatenate([_pairs(one), _pairs(other)])), one.shape)


def minus(matrix: sp.csr_array, without: sp.csr_array | None) -> sp.csr_array:
    """Return the distinct entries of `matrix` that are not in `without`."""
    pairs = _pairs(matrix)
    if without is not None and without.nnz:
        excluded = _pairs(without)
        pairs = pairs[excluded[np.minimum(np.searchsorted(excluded, pairs), len(excluded) - 1)] != pairs]
    return _from_pairs(pairs, matrix.shape)
