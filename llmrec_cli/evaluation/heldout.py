"""Held-out queries of cold-start users and of groups.

Shapes: Q queries, N items of the recommender's catalogue, U users and M items of the prepared data.

Shapes: Q queries, N items of the recommender's catalogue, G groups, U users and M items of the prepared data.
"""

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
    divided,
    histories_of,
    in_order,
    latest_of,
    minus,
    newer_histories,
    no_groups,
    renumbered,
    times_of,
    union,
)


def held_out_cold(data: PreparedData, split: str, users: Catalogue, items: Catalogue, told: int, after: int) -> HeldOut:
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
    ids, rows = data.users.ids[chosen], len(users) + chosen
    profiles = everybody.texts[rows]
    # As users= does it: a user's own text stands in for a text where there is no history.
    texts = np.where(np.diff(history.indptr) == 0, profiles, "").astype(object)
    queries = Queries(ids, ids, np.full(len(chosen), -1, np.int64), history, presence(hidden), texts,
                      attributes=everybody.attributes[rows], profiles=profiles,
                      times=first(when, told)[0])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M], candidates_N[item_of_M] = data.part("train").item_counts, True
    return HeldOut(queries, relevant, counts_N, np.zeros(len(chosen), np.int64), candidates_N,
                   int(asked) - len(chosen), 0)


def served(head: Scores, popularity_N: np.ndarray) -> Callable[[Queries], torch.Tensor]:
    """Return the scores that `recommend` would serve: by history, profile or text, else popularity."""

    def scores(queries: Queries) -> torch.Tensor:
        return score(head, queries, popularity_N)[0]

    return scores


def held_out_groups(data: PreparedData, split: str, users: Catalogue, items: Catalogue, history: sp.csr_array,
                    known: KnownGroups | None, exclude_seen: bool, times: sp.csr_array | None = None,
                    latest: bool = True) -> HeldOut:
    """Return the groups and held-out items of `split` for a recommender that knows `users`, `items` and `known`.

    As `scoring.heldout.held_out` does for users: with `latest` a group and each of its members have the history in the
    data before `split`; without it those that the recommender knows have that of the fit, new ones that in the data.
    The data says who is in a group. Measured are groups that did something together before `split`, or of which a
    member has a history.
    """
    wanted = data.groups(split)
    before_split = ("train",) if split == "valid" else ("train", "valid")
    before, train = data.groups(*before_split), data.groups("train")
    if wanted is None or before is None or train is None:
        raise no_groups(data)
    item_of_M = items.find(data.items.ids)
    group_of_G = np.full(len(wanted), -1, np.int64) if known is None else known.entities.find(wanted.entities.ids)
    asked = np.flatnonzero(np.bincount(wanted.interactions.user, minlength=len(wanted)))
    together_GN = renumbered(before.interactions, item_of_M, len(items))
    own: sp.csr_array = together_GN[:0] if known is None else known.history
    fitted = histories_of(asked, group_of_G, own, together_GN)
    histories = fitted
    timed = times is not None or (known is not None and known.times is not None)
    when = _times(data, before.interactions, asked, group_of_G, item_of_M, len(items), known) if timed else None
    if latest:
        whole = data.groups("train", "valid", "test")
        assert whole is not None
        whole_GN = renumbered(whole.interactions, item_of_M, len(items))
        histories = latest_of(asked, fitted, together_GN, whole_GN)
        when = None if when is None else latest_of(asked, when, times_of(data, before.interactions, item_of_M,
                                                                         len(items)), whole_GN)
    seen = union(fitted, together_GN[asked])
    relevant = minus(renumbered(wanted.interactions, item_of_M, len(items))[asked], seen if exclude_seen else None)

    everybody = _everybody(data, split, users, items, history, times, latest)
    members = wanted.members[asked]
    speaks = members @ (np.diff(everybody.history.indptr) > 0).astype(np.float32) > 0
    warm, findable = (np.diff(histories.indptr) > 0) | speaks, np.diff(relevant.indptr) > 0
    chosen = np.flatnonzero(warm & findable)
    if len(chosen) == 0:
        raise DataError(_nobody(data, split, len(asked), int((~warm).sum())))
    entities, size = wanted.entities, len(chosen)
    asking = Membership(group_of_G[asked[chosen]], everybody, members[chosen], np.ones(size, bool)).select(slice(None))
    queries = Queries(entities.ids[asked[chosen]], np.full(size, "", object), np.full(size, -1, np.int64),
                      histories[chosen], seen[chosen], entities.texts[asked[chosen]], asking,
                      times=None if when is None else when[chosen])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M] = data.part("train").item_counts + train.interactions.item_counts
    candidates_N[item_of_M] = True
    lengths_Q = np.diff(train.interactions.matrix.indptr)[asked[chosen]]
    return HeldOut(queries, relevant[chosen], counts_N, lengths_Q, candidates_N, len(asked) - len(chosen),
                   int((~warm).sum()))


def newer_groups(queries: Queries, known: sp.csr_array, groups: KnownGroups | None) -> np.ndarray:
    """Return which queries, bool (Q,), are of groups with interactions, theirs or a member's, newer than the fit."""
    assert queries.groups is not None
    theirs: np.ndarray = queries.groups.rows @ newer_histories(queries.groups.members, known).astype(np.float32) > 0
    if groups is None:
        return theirs
    return theirs | newer_histories(replace(queries, user=queries.groups.group, groups=None), groups.history)


def _times(data: PreparedData, before: Interactions, asked: np.ndarray, group_of_G: np.ndarray, item_of_M: np.ndarray,
           num_items: int, known: KnownGroups | None) -> sp.csr_array:
    """Return when each entry of the groups' histories was; UNTIMED where the recommender or the data has no moments."""
    data_GN = times_of(data, before, item_of_M, num_items)
    if known is None:
        return histories_of(asked, group_of_G, data_GN[:0], data_GN)
    own = untimed(known.history) if known.times is None else known.times
    return histories_of(asked, group_of_G, own, data_GN)


def _everybody(data: PreparedData, split: str, users: Catalogue, items: Catalogue, history: sp.csr_array,
               times: sp.csr_array | None, latest: bool) -> Queries:
    """Return the users of the data as queries, with their latest histories or those of the recommender's fit."""
    user_of_U, item_of_M = users.find(data.users.ids), items.find(data.items.ids)
    before = data.part("train") if split == "valid" else data.part("train", "valid")
    everyone = np.arange(len(user_of_U))
    before_UN = renumbered(before, item_of_M, len(items))
    histories = histories_of(everyone, user_of_U, history, before_UN)
    when_UN = times_of(data, before, item_of_M, len(items))
    when = None if times is None else histories_of(everyone, user_of_U, times, when_UN)
    if latest:
        data_UN = renumbered(data.interactions, item_of_M, len(items))
        histories = latest_of(everyone, histories, before_UN, data_UN)
        when = None if when is None else latest_of(everyone, when, when_UN, data_UN)
    everybody = users if (user_of_U >= 0).all() else users.extended(data.users)
    whom = np.where(user_of_U >= 0, user_of_U, len(users) + np.arange(len(user_of_U)))
    return Queries(data.users.ids, data.users.ids, user_of_U, histories, presence(histories),
                   np.full(len(user_of_U), "", object), attributes=everybody.attributes[whom],
                   profiles=everybody.texts[whom], times=when)


def _nobody(data: PreparedData, split: str, num_asked: int, num_cold: int) -> str:
    if num_asked == 0:
        return (f"{data.path}: groups have no {split} interactions to measure on; prepare with dataset.group_test, or "
                f"dataset.group_interactions and split.{split}=<fraction>")
    return (f"{data.path}: none of the {num_asked} groups with {split} interactions can be measured: {num_cold} did "
            f"nothing together before, and no member of theirs has a history; the others have nothing left to find; "
            f"prepare with another split, or set exclude_seen=false")
