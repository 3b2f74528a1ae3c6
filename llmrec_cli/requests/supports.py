"""What each member, and what a group did together, add to the group's scores of the items on its list.

Shapes: Q queries, N items, K ranks, E voices of the queries one after the other, V distinct voices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Membership, Queries
from llmrec_cli.scoring.group_strategies import points, scaled

CELLS = 2**25
"""Most scores held at a time: 128 MB."""
Score = Callable[[Queries], torch.Tensor]


@dataclass(frozen=True)
class Supports:
    """What is behind a group's list, one row per voice.

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
                   groups=Membership(group, asked.members, left, np.ones(len(query), bool)).chosen(slice(None)))


def _at(score: Score, queries: Queries, row: np.ndarray, items_EK: np.ndarray,
        scale: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Return the scaled scores of some items, float32 (E, K), NaN where the item is -1; `row` are the queries."""
    scores = scale(score(queries).float()).cpu().numpy()
    found = scores[row[:, None], np.maximum(items_EK, 0)]
    return np.where(items_EK >= 0, found, np.nan).astype(np.float32)


def _parts(size: int, num_items: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, num_items))
    yield from (slice(start, min(start + step, size)) for start in range(0, size, step))
