"""What a recommender is measured on where groups ask.

Shapes: Q queries, N items of the recommender's catalogue, G groups, U users and M items of the prepared data.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Membership, Queries
from llmrec_cli.errors import DataError
from llmrec_cli.scoring.audience import no_groups
from llmrec_cli.scoring.heldout import HeldOut, histories_of, minus, renumbered, times_of, union


def held_out_groups(data: PreparedData, split: str, users: Entities, items: Entities, history: sp.csr_array,
                    known: KnownGroups | None, exclude_seen: bool, times: sp.csr_array | None = None) -> HeldOut:
    """Return the groups and held-out items of `split` for a recommender that knows `users`, `items` and `known`.

    As `scoring.heldout.held_out` does for users: a group that the recommender knows is asked for with the history it
    has, a new one with the history in the data. Who is in a group, the data says. Measured are groups that did
    something together before `split`, or of which a member has a history.
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
    histories = histories_of(asked, group_of_G, own, together_GN)
    when = _times(data, before.interactions, asked, group_of_G, item_of_M, len(items), known)
    seen = union(histories, together_GN[asked])
    relevant = minus(renumbered(wanted.interactions, item_of_M, len(items))[asked], seen if exclude_seen else None)

    everybody = _everybody(data, split, users, items, history, times)
    members = wanted.members[asked]
    speaks = members @ (np.diff(everybody.history.indptr) > 0).astype(np.float32) > 0
    warm, findable = (np.diff(histories.indptr) > 0) | speaks, np.diff(relevant.indptr) > 0
    chosen = np.flatnonzero(warm & findable)
    if len(chosen) == 0:
        raise DataError(_nobody(data, split, len(asked), int((~warm).sum())))
    entities, size = wanted.entities, len(chosen)
    asking = Membership(group_of_G[asked[chosen]], everybody, members[chosen], np.ones(size, bool)).chosen(slice(None))
    queries = Queries(entities.ids[asked[chosen]], np.full(size, "", object), np.full(size, -1, np.int64),
                      histories[chosen], seen[chosen], entities.texts[asked[chosen]], asking,
                      times=None if when is None else when[chosen])
    counts_N, candidates_N = np.zeros(len(items), np.int64), np.zeros(len(items), bool)
    counts_N[item_of_M] = data.part("train").item_counts + train.interactions.item_counts
    candidates_N[item_of_M] = True
    lengths_Q = np.diff(train.interactions.matrix.indptr)[asked[chosen]]
    return HeldOut(queries, relevant[chosen], counts_N, lengths_Q, candidates_N, len(asked) - len(chosen),
                   int((~warm).sum()))


def _times(data: PreparedData, before: Interactions, asked: np.ndarray, group_of_G: np.ndarray, item_of_M: np.ndarray,
           num_items: int, known: KnownGroups | None) -> sp.csr_array | None:
    """Return when each entry of the groups' histories was, None where the recommender has no need of it."""
    if known is None or known.times is None:
        return None
    return histories_of(asked, group_of_G, known.times, times_of(data, before, item_of_M, num_items))


def _everybody(data: PreparedData, split: str, users: Entities, items: Entities, history: sp.csr_array,
               times: sp.csr_array | None) -> Queries:
    """Return the users of the data as queries, with what the recommender knows of them, else the data."""
    user_of_U, item_of_M = users.find(data.users.ids), items.find(data.items.ids)
    before = data.part("train") if split == "valid" else data.part("train", "valid")
    everyone = np.arange(len(user_of_U))
    histories = histories_of(everyone, user_of_U, history, renumbered(before, item_of_M, len(items)))
    when = None if times is None else histories_of(everyone, user_of_U, times,
                                                   times_of(data, before, item_of_M, len(items)))
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
