"""Reasons of recommended items: contributions of group members, and paths in the knowledge graph.

Shapes: Q queries, N items, K ranks, E contributions of members and joint histories, V distinct members.
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
"""Maximum number of scores in memory at once: 128 MB."""
Score = Callable[[Queries], torch.Tensor]


@dataclass(frozen=True)
class MemberContributions:
    """Contributions to a group's list, one row per member and one for the group's own history.

    Attributes
    ----------
    query : int64 (E,), the query of each contribution
    member : int64 (E,), the row in `queries.groups.members`, -1 for the group's joint history
    added_EK : float32, the group's score of each list item minus the score without this member, both scaled over the
        catalogue to mean 0 and deviation 1; negative if the member lowers the score
    rank_EK : float32, share of the catalogue that the member alone ranks below the item, 0 to 1; NaN for the joint
        history
    """

    query: np.ndarray
    member: np.ndarray
    added_EK: np.ndarray
    rank_EK: np.ndarray


def member_contributions(score: Score, queries: Queries, items_QK: np.ndarray) -> MemberContributions:
    """Return the contribution of each member, by scoring again without it; NaN for -1 in `items_QK`.

    Leave-one-out works for any head (Cook 1977, for regressions). Members without a history are left out.
    """
    groups = queries.groups
    assert groups is not None
    has_history = np.diff(groups.members.history.indptr) > 0
    row = np.repeat(np.arange(len(queries)), np.diff(groups.rows.indptr))
    row_mask = has_history[groups.rows.indices]
    together = np.flatnonzero((np.diff(queries.history.indptr) > 0) & groups.is_group)
    query = np.concatenate([row[row_mask], together])
    member = np.concatenate([groups.rows.indices[row_mask].astype(np.int64), np.full(len(together), -1)])
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
        rank_EK[own[inside]] = _at(score, groups.members.rows(alone[part]), place[inside] - part.start,
                                   items_QK[query[own[inside]]], points)
    return MemberContributions(query, member, whole_QK[query] - without_EK, rank_EK)


def _without(queries: Queries, query: np.ndarray, member: np.ndarray) -> Queries:
    """Return each query without one member, or without the joint history."""
    groups = queries.groups
    assert groups is not None
    rows, history = groups.rows[query], queries.history[query]
    row_mask = rows.indices != np.repeat(member, np.diff(rows.indptr))
    indptr = np.concatenate([[0], np.cumsum(row_mask)])[rows.indptr]
    memberships = sp.csr_array((rows.data[row_mask], rows.indices[row_mask], indptr), shape=rows.shape)
    is_removed = np.repeat(member < 0, np.diff(history.indptr))
    before = np.concatenate([[0], np.cumsum(~is_removed)])[history.indptr]

    def remaining(matrix: sp.csr_array) -> sp.csr_array:
        return sp.csr_array((matrix.data[~is_removed], matrix.indices[~is_removed], before), shape=matrix.shape)

    # A group without its joint history is treated as an unknown group with known members.
    group = np.where(member < 0, -1, groups.group[query])
    plain = replace(queries, groups=None).rows(query)
    return replace(plain, history=remaining(history),
                   times=None if plain.times is None else remaining(plain.times),
                   groups=Membership(group, groups.members, memberships, np.ones(len(query), bool)).select(slice(None)))


def _at(score: Score, queries: Queries, row: np.ndarray, items_EK: np.ndarray,
        scale: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Return the scaled scores of some items, float32 (E, K), NaN where the item is -1; `row` is the query row."""
    scores = scale(score(queries).float()).cpu().numpy()
    values = scores[row[:, None], np.maximum(items_EK, 0)]
    return np.where(items_EK >= 0, values, np.nan).astype(np.float32)


def _parts(size: int, num_items: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, num_items))
    yield from (slice(start, min(start + step, size)) for start in range(0, size, step))


_MEMBER, _TOGETHER, _COMPROMISED, KNOWLEDGE = "member", "history", "compromised", "knowledge"
_HALF = 0.5
"""A member is compromised by an item if it ranks less than this share of the catalogue below the item."""
_MAX_PATHS, _MAX_TITLES = 2, 3

Reason = dict[str, Any]
"""kind, id (of the member or entity), amount and text: see `reasons`."""


def reasons(head: Head, answers: Answers, items: Catalogue, paths: KnowledgePaths | None) -> list[list[list[Reason]]]:
    """Return the reasons for every place of every list.

    Kinds of reasons and their amounts:

    - member: the member's contribution to the group's score of the item, in standard deviations of the group's scores;
      negative if the member lowers the score.
    - history: the contribution of the group's joint history, in the same unit.
    - compromised: a member who alone would rank the item in the lower half of the catalogue; the amount is the share of
      the catalogue ranked below the item.
    - knowledge: an entity that links the item to the history of the user, members or group; the amount is the entity's
      share of all such links.
    """
    items_QK, queries = answers.lists.items_QK, answers.queries
    result: list[list[list[Reason]]] = [[[] for _ in range(int((row >= 0).sum()))] for row in items_QK]
    group_rows = np.flatnonzero(answers.sources == "group")
    if len(group_rows):
        groups = queries.rows(group_rows)
        _add_members(result, group_rows, groups, member_contributions(head.score, groups, items_QK[group_rows]))
    if paths is not None:
        _add_paths(result, queries, items_QK, items, paths)
    return result


def _add_members(result: list[list[list[Reason]]], rows: np.ndarray, queries: Queries,
                 contributions: MemberContributions) -> None:
    assert queries.groups is not None
    ids = queries.groups.members.ids
    for e, (query, member) in enumerate(zip(contributions.query, contributions.member, strict=True)):
        for place, place_reasons in enumerate(result[rows[query]]):
            added, rank = float(contributions.added_EK[e, place]), float(contributions.rank_EK[e, place])
            if member < 0:
                place_reasons.append({"kind": _TOGETHER, "id": "", "amount": added,
                                      "text": f"joint history of the group: {added:+.2f}"})
                continue
            name = str(ids[member])
            place_reasons.append({"kind": _MEMBER, "id": name, "amount": added, "text": f"{name}: {added:+.2f}"})
            if rank < _HALF:
                place_reasons.append({"kind": _COMPROMISED, "id": name, "amount": rank,
                                      "text": f"{name} is compromised: alone would rank it above only {rank:.0%} of "
                                              f"the items"})


def _add_paths(result: list[list[list[Reason]]], queries: Queries, items_QK: np.ndarray, items: Catalogue,
               paths: KnowledgePaths) -> None:
    for query, query_reasons in enumerate(result):
        own = queries.history[[query]].indices.astype(np.int64)
        histories = _members_histories(queries, query)
        all_items = np.unique(np.concatenate([own, *histories])) if histories or len(own) else own
        num_members = 0 if queries.groups is None else len(queries.groups.rows[[query]].indices)
        for place, place_reasons in enumerate(query_reasons):
            shared = paths.explain(int(items_QK[query, place]), all_items, 2 * _MAX_PATHS)
            # A graph with both directions of a relation has every path twice.
            distinct = {path.end.neighbour: path for path in reversed(shared)}
            ways = [path for path in shared if distinct[path.end.neighbour] is path]
            place_reasons += [_path(path, histories, num_members, items) for path in ways[:_MAX_PATHS]]


def _members_histories(queries: Queries, query: int) -> list[np.ndarray]:
    """Return the items of each member for a group query; an empty list for a user."""
    if queries.groups is None:
        return []
    history = queries.groups.members.history
    return [history.indices[history.indptr[m]:history.indptr[m + 1]].astype(np.int64)
            for m in queries.groups.rows[[query]].indices]


def _path(shared: Shared, histories: list[np.ndarray], num_members: int, items: Catalogue) -> Reason:
    titles = [str(items.titles[item] or items.ids[item]) for item in shared.items[:_MAX_TITLES]]
    more = f" and {len(shared.items) - _MAX_TITLES} more" if len(shared.items) > _MAX_TITLES else ""
    joined = f"{shared.end.relation} {shared.title}"
    sharing = sum(bool(np.isin(history, shared.items).any()) for history in histories)
    who = f"{sharing} of {num_members} members had " if sharing else "shared with "
    return {"kind": KNOWLEDGE, "id": shared.end.neighbour, "amount": shared.share,
            "text": f"{joined}: {who}{', '.join(titles)}{more}"}
