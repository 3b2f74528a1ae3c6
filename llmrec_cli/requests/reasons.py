"""Why each item is on a list, as plain data that reads as a sentence."""

from typing import Any

import numpy as np

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.knowledge_paths import KnowledgePaths, Shared
from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.base import Head
from llmrec_cli.requests.answers import Answers
from llmrec_cli.requests.supports import Supports, supports

MEMBER, TOGETHER, COMPROMISED, KNOWLEDGE = "member", "history", "compromised", "knowledge"
HALF = 0.5
"""Share of the catalogue that a member must put below an item alone so as not to be compromised by it."""
MOST_PATHS, MOST_TITLES = 2, 3

Reason = dict[str, Any]
"""kind, id (of the member or entity), amount and text: see `reasons`."""


def reasons(head: Head, answers: Answers, items: Entities, paths: KnowledgePaths | None) -> list[list[list[Reason]]]:
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
                told.append({"kind": TOGETHER, "id": "", "amount": added,
                             "text": f"what the group did together: {added:+.2f}"})
                continue
            name = str(ids[member])
            told.append({"kind": MEMBER, "id": name, "amount": added, "text": f"{name}: {added:+.2f}"})
            if rank < HALF:
                told.append({"kind": COMPROMISED, "id": name, "amount": rank,
                             "text": f"{name} is compromised: alone would put it above {rank:.0%} of the items"})


def _add_paths(found: list[list[list[Reason]]], queries: Queries, items_QK: np.ndarray, items: Entities,
               paths: KnowledgePaths) -> None:
    for query, told in enumerate(found):
        own = queries.history[[query]].indices.astype(np.int64)
        histories = _members_histories(queries, query)
        everything = np.unique(np.concatenate([own, *histories])) if histories or len(own) else own
        num_members = 0 if queries.groups is None else len(queries.groups.rows[[query]].indices)
        for place, one in enumerate(told):
            shared = paths.explain(int(items_QK[query, place]), everything, 2 * MOST_PATHS)
            # A graph that has both directions of a relation says everything twice.
            distinct = {path.end.neighbour: path for path in reversed(shared)}
            ways = [path for path in shared if distinct[path.end.neighbour] is path]
            one += [_path(path, histories, num_members, items) for path in ways[:MOST_PATHS]]


def _members_histories(queries: Queries, query: int) -> list[np.ndarray]:
    """Return the items of each member of a group's query, none of a user's."""
    if queries.groups is None:
        return []
    history = queries.groups.members.history
    return [history.indices[history.indptr[m]:history.indptr[m + 1]].astype(np.int64)
            for m in queries.groups.rows[[query]].indices]


def _path(shared: Shared, histories: list[np.ndarray], num_members: int, items: Entities) -> Reason:
    titles = [str(items.titles[item] or items.ids[item]) for item in shared.items[:MOST_TITLES]]
    more = f" and {len(shared.items) - MOST_TITLES} more" if len(shared.items) > MOST_TITLES else ""
    joined = f"{shared.end.relation} {shared.title}"
    sharing = sum(bool(np.isin(history, shared.items).any()) for history in histories)
    who = f"{sharing} of {num_members} members had " if sharing else "shared with "
    return {"kind": KNOWLEDGE, "id": shared.end.neighbour, "amount": shared.share,
            "text": f"{joined}: {who}{', '.join(titles)}{more}"}
