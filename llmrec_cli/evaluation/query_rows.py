"""Rows of a file of queries as held-out queries of a recommender, and as validation.

Shapes: Q rows, N items of the recommender's catalogue, M items and U users of the prepared data.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.groups import without_texts
from llmrec_cli.data.histories import filter_entries, lengthened, pair_keys, select_rows, widened, without
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.heldout import all_users
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.requests.relevant_rows import QueryRows
from llmrec_cli.requests.resolve import resolve
from llmrec_cli.scoring.heldout import Audience, HeldOut, minus
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import Validation


def held_out_rows(rows: QueryRows, data: PreparedData, split: str, recommender: Recommender, exclude_seen: bool,
                  latest: bool) -> HeldOut:
    """Return the rows as queries of a recommender whose catalogue includes the items of the data.

    A row's history is the one in the file. If the file has none, it is that of the row's user in the data before
    `split`, as in `scoring.heldout.held_out`; members of groups always have that.
    """
    users, items = recommender.users, recommender.items
    item_of_M = items.find(data.items.ids)
    everyone = all_users(data, split, users, items, recommender.history, recommender.times, latest)
    catalogue = users.extended(data.users.rows(np.flatnonzero(users.find(data.users.ids) < 0)))
    # Users of the data have the histories up to the split, others those of the fit.
    place = data.users.find(catalogue.ids)
    known = lengthened(widened(recommender.history, len(items)), len(catalogue))
    source = np.where(place >= 0, len(catalogue) + place, np.arange(len(catalogue)))
    histories = _stacked(known, everyone.history)[source]
    times = None
    if recommender.times is not None and everyone.times is not None:
        times = _stacked(lengthened(widened(recommender.times, len(items)), len(catalogue)), everyone.times)[source]
    queries, _ = resolve(rows.queries, catalogue, items, histories, histories, recommender.groups, times,
                         recommender.usual_value, len(users), replaces_history=rows.gives_history)
    relevant = sp.csr_array((rows.relevant_QM.data, item_of_M[rows.relevant_QM.indices], rows.relevant_QM.indptr),
                            shape=(len(rows), len(items)))
    seen = presence(queries.history) if exclude_seen else sp.csr_array(queries.history.shape, dtype=np.float32)
    unseen = minus(relevant, seen)
    if not unseen.nnz:
        raise DataError(f"queries={rows.file}: every relevant item is in the history of its row, and seen items are "
                        f"left out; set exclude_seen=false")
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M], candidates_N[item_of_M] = data.part("train").item_counts, True
    return HeldOut(replace(queries, seen=seen), unseen, counts_N, np.diff(queries.history.indptr),
                   candidates_N, 0, 0, owner_Q=rows.owners)


def _stacked(one: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(sp.vstack([one, other], format="csr"))


def num_fitted(rows: QueryRows, task: HeldOut, history: sp.csr_array) -> int:
    """Return the number of relevant interactions of known users that are in `history`, which a recommender was fitted
    on, and not in a history that the file gives."""
    fitted = select_rows(widened(history, task.relevant_QN.shape[1]), task.queries.user)
    if rows.gives_history:
        fitted = without(fitted, task.queries.history)
    return int(presence(fitted).multiply(task.relevant_QN).sum())


def audience_of_rows(rows: QueryRows) -> Audience:
    """Return the rows as the audience that candidates belong to: each row with its history and relevant items."""
    num_rows, num_items = rows.relevant_QM.shape
    row = np.repeat(np.arange(num_rows), np.diff(rows.relevant_QM.indptr))
    ones, when = np.ones(len(row), np.float32), np.zeros(len(row), np.int64)
    held = Interactions(row, rows.relevant_QM.indices.astype(np.int64), ones, when, num_rows, num_items)
    return Audience("query", without_texts(list(rows.queries.ids)), held, held)


def validation_rows(rows: QueryRows, data: PreparedData, monitor: str, exclude_seen: bool) -> Validation:
    """Return the validation that chooses on the rows; their histories are those of the file, or of training.

    Rows without a history are left out: no head scores them.
    """
    train = data.part("train")
    # Times must be known for all interactions or for none.
    queries, _ = resolve(rows.queries, data.users, data.items, train.values, train.matrix,
                         times=data.times_of(train), replaces_history=rows.gives_history,
                         given_value=float(np.median(train.value)))
    seen = presence(queries.history) if exclude_seen else sp.csr_array(queries.history.shape, dtype=np.float32)
    relevant = minus(rows.relevant_QM, seen)
    used = np.flatnonzero((np.diff(queries.history.indptr) > 0) & (np.diff(relevant.indptr) > 0))
    if not len(used):
        raise DataError(f"validation.queries={rows.file}: none of the {len(rows):,} rows has a history"
                        f"{' and a relevant item outside it' if exclude_seen else ''}; rows without one, such as rows "
                        f"of texts, cannot choose settings, so add the column history")
    return Validation(replace(queries, seen=seen).rows(used), relevant[used], item_hash_ranks(data.items.ids), monitor)


def held_back(rows: QueryRows, data: PreparedData) -> np.ndarray:
    """Return a mask of the data's interactions, bool, that must not be trained on while the rows choose settings.

    For each user with rows: the interactions from the first relevant item of a row that is not in the history of that
    row. Rows of users that the data does not have hold nothing back.
    """
    user_Q, num_items = data.users.find(rows.queries.user_ids), len(data.items)
    row_H = np.repeat(np.arange(len(rows)), np.diff(rows.queries.offsets))
    item_H = data.items.find(rows.queries.history)
    in_history = np.unique(row_H * num_items + item_H)
    keys_R = pair_keys(rows.relevant_QM)
    relevant = filter_entries(rows.relevant_QM, ~np.isin(keys_R, in_history))
    row_R = np.repeat(np.arange(len(rows)), np.diff(relevant.indptr))
    pairs = np.unique((user_Q[row_R] * num_items + relevant.indices)[user_Q[row_R] >= 0])
    interactions = data.interactions
    place = np.arange(len(interactions))
    is_relevant = np.isin(interactions.user * num_items + interactions.item, pairs)
    first_U = np.full(len(data.users), len(interactions))
    np.minimum.at(first_U, interactions.user[is_relevant], place[is_relevant])
    held: np.ndarray = place >= first_U[interactions.user]
    return held
