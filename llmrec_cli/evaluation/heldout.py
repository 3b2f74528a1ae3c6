"""Held-out queries of cold-start users and of groups.

Shapes: Q queries, N items of the recommender's catalogue, G groups, U users and M items of the prepared data.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Membership, Queries, untimed
from llmrec_cli.errors import DataError
from llmrec_cli.requests.answers import Scores, score
from llmrec_cli.scoring.heldout import (
    HeldOut,
    histories_of,
    latest_of,
    minus,
    newer_histories,
    no_groups,
    ordered_matrix,
    split_rows,
    times_of,
    union,
    with_model_items,
)


def held_out_cold(data: PreparedData, split: str, users: Catalogue, items: Catalogue, num_given: int,
                  after: int) -> HeldOut:
    """Return the users of `split` without earlier interactions, and their interactions after the first `after`.

    A query has the first `num_given` interactions as history, and the user's attributes and text. The first `after`
    interactions are left out of the lists. `users` and `items` are those of the recommender; `items` includes all items
    of the data.
    """
    assert 0 <= num_given <= after
    item_of_M = items.find(data.items.ids)
    assert (item_of_M >= 0).all()
    earlier = data.part("train") if split == "valid" else data.part("train", "valid")
    part = data.part(split)
    interactions_UM = ordered_matrix(part)
    # A model whose weights fall with age needs times even if this data has none: all then have the same age.
    times_UM = ordered_matrix(part, part.timestamp) if data.has_moments else untimed(interactions_UM)
    lengths_U, has_earlier_U = np.diff(interactions_UM.indptr), np.bincount(earlier.user, minlength=len(data.users)) > 0
    num_users, rows = (lengths_U > 0).sum(), np.flatnonzero((lengths_U > after) & ~has_earlier_U)
    if not len(rows):
        num_earlier = int(((lengths_U > 0) & has_earlier_U).sum())
        raise DataError(f"{data.path}: no cold-start users to evaluate: of {num_users} users with {split} "
                        f"interactions, {num_earlier} have earlier interactions and the others at most {after} "
                        f"interactions; prepare with split=cold_users, or set cold_users.first to smaller numbers")

    def first(matrix: sp.csr_array, num: int) -> tuple[sp.csr_array, sp.csr_array]:
        user_rows = matrix[rows]
        return split_rows(sp.csr_array((user_rows.data, item_of_M[user_rows.indices], user_rows.indptr),
                                       shape=(len(rows), len(items))), num)

    hidden, relevant = first(interactions_UM, after)
    history, relevant = split_rows(hidden, num_given)[0], presence(relevant)
    relevant.sort_indices()
    catalogue = users.extended(data.users)
    ids, user_rows = data.users.ids[rows], len(users) + rows
    profiles = catalogue.texts[user_rows]
    # As with users=: without a history, the user's own text is the text of the query.
    texts = np.where(np.diff(history.indptr) == 0, profiles, "").astype(object)
    queries = Queries(ids, ids, np.full(len(rows), -1, np.int64), history, presence(hidden), texts,
                      attributes=catalogue.attributes[user_rows], profiles=profiles,
                      times=first(times_UM, num_given)[0])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M], candidates_N[item_of_M] = data.part("train").item_counts, True
    return HeldOut(queries, relevant, counts_N, np.zeros(len(rows), np.int64), candidates_N,
                   int(num_users) - len(rows), 0)


def served(head: Scores, popularity_N: np.ndarray, sources: Counter[str]) -> Callable[[Queries], torch.Tensor]:
    """Return the function that scores queries as `recommend` does: by history, profile or text, else popularity.

    It counts in `sources` what each query was scored by.
    """
    def scores(queries: Queries) -> torch.Tensor:
        scores_QN, names_Q, _ = score(head, queries, popularity_N)
        sources.update(names_Q.tolist())
        return scores_QN

    return scores


def held_out_groups(data: PreparedData, split: str, users: Catalogue, items: Catalogue, history: sp.csr_array,
                    known_groups: KnownGroups | None, exclude_seen: bool, times: sp.csr_array | None = None,
                    latest: bool = True) -> HeldOut:
    """Return the groups and held-out items of `split` for a recommender with these users, items and known groups.

    With `latest`, groups and members have the history in the data before `split`. Without it, groups and users that the
    recommender knows have the history of the fit, and all others the history in the data before `split`
    (`scoring.heldout.held_out` does the same for users). The members of a group are those in the data. A group without
    joint interactions before `split` is included only if a member has a history.
    """
    held = data.groups(split)
    before_split = ("train",) if split == "valid" else ("train", "valid")
    before, train = data.groups(*before_split), data.groups("train")
    if held is None or before is None or train is None:
        raise no_groups(data)
    item_of_M = items.find(data.items.ids)
    group_of_G = (np.full(len(held), -1, np.int64) if known_groups is None
                  else known_groups.entities.find(held.entities.ids))
    evaluated = np.flatnonzero(np.bincount(held.interactions.user, minlength=len(held)))
    together_GN = with_model_items(before.interactions, item_of_M, len(items))
    own: sp.csr_array = together_GN[:0] if known_groups is None else known_groups.history
    fitted = histories_of(evaluated, group_of_G, own, together_GN)
    histories = fitted
    timed = times is not None or (known_groups is not None and known_groups.times is not None)
    history_times = (_times(data, before.interactions, evaluated, group_of_G, item_of_M, len(items), known_groups)
                     if timed else None)
    if latest:
        whole = data.groups("train", "valid", "test")
        assert whole is not None
        whole_GN = with_model_items(whole.interactions, item_of_M, len(items))
        histories = latest_of(evaluated, fitted, together_GN, whole_GN)
        history_times = None if history_times is None else latest_of(
            evaluated, history_times, times_of(data, before.interactions, item_of_M, len(items)), whole_GN)
    seen = union(fitted, together_GN[evaluated])
    relevant = minus(with_model_items(held.interactions, item_of_M, len(items))[evaluated],
                     seen if exclude_seen else None)

    member_queries = all_users(data, split, users, items, history, times, latest)
    members = held.members[evaluated]
    has_member_history = members @ (np.diff(member_queries.history.indptr) > 0).astype(np.float32) > 0
    warm, has_relevant = (np.diff(histories.indptr) > 0) | has_member_history, np.diff(relevant.indptr) > 0
    rows = np.flatnonzero(warm & has_relevant)
    if len(rows) == 0:
        raise DataError(_no_queries(data, split, len(evaluated), int((~warm).sum())))
    entities, size = held.entities, len(rows)
    membership = Membership(group_of_G[evaluated[rows]], member_queries, members[rows],
                            np.ones(size, bool)).select(slice(None))
    queries = Queries(entities.ids[evaluated[rows]], np.full(size, "", object), np.full(size, -1, np.int64),
                      histories[rows], seen[rows], entities.texts[evaluated[rows]], membership,
                      times=None if history_times is None else history_times[rows])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M] = data.part("train").item_counts + train.interactions.item_counts
    candidates_N[item_of_M] = True
    lengths_Q = np.diff(train.interactions.matrix.indptr)[evaluated[rows]]
    return HeldOut(queries, relevant[rows], counts_N, lengths_Q, candidates_N, len(evaluated) - len(rows),
                   int((~warm).sum()))


def newer_groups(queries: Queries, known: sp.csr_array, groups: KnownGroups | None) -> np.ndarray:
    """Return a mask of queries, bool (Q,), where the group or a member has interactions newer than the fit."""
    assert queries.groups is not None
    newer: np.ndarray = queries.groups.rows @ newer_histories(queries.groups.members, known).astype(np.float32) > 0
    if groups is None:
        return newer
    return newer | newer_histories(replace(queries, user=queries.groups.group, groups=None), groups.history)


def _times(data: PreparedData, before: Interactions, evaluated: np.ndarray, group_of_G: np.ndarray,
           item_of_M: np.ndarray, num_items: int, known_groups: KnownGroups | None) -> sp.csr_array:
    """Return the times of the groups' histories; UNTIMED where the recommender or the data has no moments."""
    data_GN = times_of(data, before, item_of_M, num_items)
    if known_groups is None:
        return histories_of(evaluated, group_of_G, data_GN[:0], data_GN)
    own = untimed(known_groups.history) if known_groups.times is None else known_groups.times
    return histories_of(evaluated, group_of_G, own, data_GN)


def all_users(data: PreparedData, split: str, users: Catalogue, items: Catalogue, history: sp.csr_array,
               times: sp.csr_array | None, latest: bool) -> Queries:
    """Return the users of the data as queries, with their latest histories or those of the recommender's fit."""
    user_of_U, item_of_M = users.find(data.users.ids), items.find(data.items.ids)
    before = data.part("train") if split == "valid" else data.part("train", "valid")
    everyone = np.arange(len(user_of_U))
    before_UN = with_model_items(before, item_of_M, len(items))
    histories = histories_of(everyone, user_of_U, history, before_UN)
    when_UN = times_of(data, before, item_of_M, len(items))
    history_times = None if times is None else histories_of(everyone, user_of_U, times, when_UN)
    if latest:
        data_UN = with_model_items(data.interactions, item_of_M, len(items))
        histories = latest_of(everyone, histories, before_UN, data_UN)
        history_times = None if history_times is None else latest_of(everyone, history_times, when_UN, data_UN)
    catalogue = users if (user_of_U >= 0).all() else users.extended(data.users)
    rows = np.where(user_of_U >= 0, user_of_U, len(users) + np.arange(len(user_of_U)))
    return Queries(data.users.ids, data.users.ids, user_of_U, histories, presence(histories),
                   np.full(len(user_of_U), "", object), attributes=catalogue.attributes[rows],
                   profiles=catalogue.texts[rows], times=history_times)


def _no_queries(data: PreparedData, split: str, num_evaluated: int, num_cold: int) -> str:
    if num_evaluated == 0:
        return (f"{data.path}: groups have no {split} interactions to evaluate on; prepare with dataset.group_test, or "
                f"dataset.group_interactions and split.{split}=<fraction>")
    return (f"{data.path}: no groups to evaluate: of {num_evaluated} groups with {split} interactions, {num_cold} have "
            f"no earlier interactions and no member with a history, and the others have seen all their held-out items; "
            f"prepare with another split, or set exclude_seen=false")
