"""Reasons of each item on a list as plain data that reads as a sentence, for groups the parts of its members.

Shapes: Q queries, N items, K ranks, E voices of the queries one after the other, V distinct voices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.knowledge_paths import KnowledgePaths, Shared
from llmrec_cli.data.queries import Membership, Queries
from llmrec_cli.heads.base import Head
from llmrec_cli.requests.answers import Answers
from llmrec_cli.scoring.groups import points, scaled

CELLS = 2**25
"""Most scores held at a time: 128 MB."""
Score = Callable[[Queries], torch.Tensor]


@dataclass(frozen=True)
class Supports:
    """Contributions to a group's list, one row per member and one for the group's own history.

    Attributes
    ----------
    query : int64 (E,), whose voice it is
    member : int64 (E,), the place among `queries.groups.members`, -1 for what the group did together
    added_EK : float32, the group's score of each item on its list less what it would be without this voice, both scaled
        over the catalogue to mean 0 and deviation 1: below 0 where the voice held the item back
    rank_EK : float32, the share of the catalogue that the member alone would put below the item, 0 to 1; NaN for what
        the group did together
    """

    query: np.ndarray
    member: np.ndarray
    added_EK: np.ndarray
    rank_EK: np.ndarray


def supports(score: Score, queries: Queries, items_QK: np.ndarray) -> Supports:
    """Return what each voice adds, by asking again without it; -1 in `items_QK` has NaN.

    Leaving one out says what a voice changes whatever the head does with voices (Cook 1977 of regressions). Members
    without a history are no voices.
    """
    asked = queries.groups
    assert asked is not None
    speaks = np.diff(asked.members.history.indptr) > 0
    row = np.repeat(np.arange(len(queries)), np.diff(asked.rows.indptr))
    kept = speaks[asked.rows.indices]
    together = np.flatnonzero((np.diff(queries.history.indptr) > 0) & asked.is_group)
    query = np.concatenate([row[kept], together])
    member = np.concatenate([asked.rows.indices[kept].astype(np.int64), np.full(len(together), -1)])
    order = np.lexsort((member < 0, query))
    query, member = query[order], member[order]

    whole_QK = _at(score, queries, np.arange(len(queries)), items_QK, scaled)
    without_EK = np.full((len(query), items_QK.shape[1]), np.nan, np.float32)
    for part in _parts(len(query), queries.history.shape[1]):
        without_EK[part] = _at(score, _without(queries, query[part], member[part]), np.arange(part.stop - part.start),
                               items_QK[query[part]], scaled)
    rank_EK = np.full(without_EK.shape, np.nan, np.float32)
    own = np.flatnonzero(member >= 0)
    alone, place = np.unique(member[own], return_inverse=True)
    for part in _parts(len(alone), queries.history.shape[1]):
        inside = (place >= part.start) & (place < part.stop)
        rank_EK[own[inside]] = _at(score, asked.members.rows(alone[part]), place[inside] - part.start,
                                   items_QK[query[own[inside]]], points)
    return Supports(query, member, whole_QK[query] - without_EK, rank_EK)


def _without(queries: Queries, query: np.ndarray, member: np.ndarray) -> Queries:
    """Return each query without one voice."""
    asked = queries.groups
    assert asked is not None
    rows, history = asked.rows[query], queries.history[query]
    kept = rows.indices != np.repeat(member, np.diff(rows.indptr))
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    left = sp.csr_array((rows.data[kept], rows.indices[kept], indptr), shape=rows.shape)
    forgets = np.repeat(member < 0, np.diff(history.indptr))
    before = np.concatenate([[0], np.cumsum(~forgets)])[history.indptr]

    def remembered(matrix: sp.csr_array) -> sp.csr_array:
        return sp.csr_array((matrix.data[~forgets], matrix.indices[~forgets], before), shape=matrix.shape)

    # Without its history a group is one of which nothing but the members is known.
    group = np.where(member < 0, -1, asked.group[query])
    plain = replace(queries, groups=None).rows(query)
    return replace(plain, history=remembered(history),
                   times=None if plain.times is None else remembered(plain.times),
                   groups=Membership(group, asked.members, left, np.ones(len(query), bool)).select(slice(None)))


def _at(score: Score, queries: Queries, row: np.ndarray, items_EK: np.ndarray,
        scale: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Return the scaled scores of some items, float32 (E, K), NaN where the item is -1; `row` are the queries."""
    scores = scale(score(queries).float()).cpu().numpy()
    found = scores[row[:, None], np.maximum(items_EK, 0)]
    return np.where(items_EK >= 0, found, np.nan).astype(np.float32)


def _parts(size: int, num_items: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, num_items))
    yield from (slice(start, min(start + step, size)) for start in range(0, size, step))


_MEMBER, _TOGETHER, _COMPROMISED, KNOWLEDGE = "member", "history", "compromised", "knowledge"
_HALF = 0.5
"""Share of the catalogue that a member must put below an item alone so as not to be compromised by it."""
_MOST_PATHS, _MOST_TITLES = 2, 3

Reason = dict[str, Any]
"""kind, id (of the member or entity), amount and text: see `reasons`."""


def reasons(head: Head, answers: Answers, items: Catalogue, paths: KnowledgePaths | None) -> list[list[list[Reason]]]:
    """Return the reasons of every place of every list.

    member: what the member adds to the group's score of the item, in deviations of the group's scores; below 0 where
    the member held it back. history: the same of what the group did together. compromised: a member who alone would put
    the item into the lower half of the catalogue, with the share below it. knowledge: what the knowledge graph says
    that the item has in common with the history, the members' or the group's, with its share of all that they have in
    common.
    """
    items_QK, queries = answers.lists.items_QK, answers.queries
    found: list[list[list[Reason]]] = [[[] for _ in range(int((row >= 0).sum()))] for row in items_QK]
    answered = np.flatnonzero(answers.sources == "group")
    if len(answered):
        groups = queries.rows(answered)
        _add_members(found, answered, groups, supports(head.score, groups, items_QK[answered]))
    if paths is not None:
        _add_paths(found, queries, items_QK, items, paths)
    return found


def _add_members(found: list[list[list[Reason]]], rows: np.ndarray, queries: Queries, behind: Supports) -> None:
    assert queries.groups is not None
    ids = queries.groups.members.ids
    for e, (query, member) in enumerate(zip(behind.query, behind.member, strict=True)):
        for place, told in enumerate(found[rows[query]]):
            added, rank = float(behind.added_EK[e, place]), float(behind.rank_EK[e, place])
            if member < 0:
                told.append({"kind": _TOGETHER, "id": "", "amount": added,
                             "text": f"what the group did together: {added:+.2f}"})
                continue
            name = str(ids[member])
            told.append({"kind": _MEMBER, "id": name, "amount": added, "text": f"{name}: {added:+.2f}"})
            if rank < _HALF:
                told.append({"kind": _COMPROMISED, "id": name, "amount": rank,
                             "text": f"{name} is compromised: alone would put it above {rank:.0%} of the items"})


def _add_paths(found: list[list[list[Reason]]], queries: Queries, items_QK: np.ndarray, items: Catalogue,
               paths: KnowledgePaths) -> None:
    for query, told in enumerate(found):
        own = queries.history[[query]].indices.astype(np.int64)
        histories = _members_histories(queries, query)
        everything = np.unique(np.concatenate([own, *histories])) if histories or len(own) else own
        num_members = 0 if queries.groups is None else len(queries.groups.rows[[query]].indices)
        for place, one in enumerate(told):
            shared = paths.explain(int(items_QK[query, place]), everything, 2 * _MOST_PATHS)
            # A graph that has both directions of a relation says everything twice.
            distinct = {path.end.neighbour: path for path in reversed(shared)}
            ways = [path for path in shared if distinct[path.end.neighbour] is path]
            one += [_path(path, histories, num_members, items) for path in ways[:_MOST_PATHS]]


def _members_histories(queries: Queries, query: int) -> list[np.ndarray]:
    """Return the items of each member of a group's query, none of a user's."""
    if queries.groups is None:
        return []
    history = queries.groups.members.history
    return [history.indices[history.indptr[m]:history.indptr[m + 1]].astype(np.int64)
            for m in queries.groups.rows[[query]].indices]


def _path(shared: Shared, histories: list[np.ndarray], num_members: int, items: Catalogue) -> Reason:
    titles = [str(items.titles[item] or items.ids[item]) for item in shared.items[:_MOST_TITLES]]
    more = f" and {len(shared.items) - _MOST_TITLES} more" if len(shared.items) > _MOST_TITLES else ""
    joined = f"{shared.end.relation} {shared.title}"
    sharing = sum(bool(np.isin(history, shared.items).any()) for history in histories)
    who = f"{sharing} of {num_members} members had " if sharing else "shared with "
    return {"kind": KNOWLEDGE, "id": shared.end.neighbour, "amount": shared.share,
            "text": f"{joined}: {who}{', '.join(titles)}{more}"}
