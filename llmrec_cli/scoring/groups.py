"""Scores of groups from the scores of their members.

Shapes: Q queries, V voices, N items.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.scoring.group_strategies import Strategy, Voices, scaled

CELLS = 2**22
"""Most scores of members held at a time, 16 MB, so that they stay in the cache on their way to the groups."""


def voices(queries: Queries, own_history: bool) -> tuple[Queries, sp.csr_array]:
    """Return who speaks for each query of groups, as users' queries (V) and CSR (Q, V) of 1s.

    These are the members who have a history and, with `own_history`, what the group did together as one more. Members
    of whom nothing is known have nothing to say.
    """
    assert queries.groups is not None
    members, rows = queries.groups.members, queries.groups.rows
    speaks = np.diff(members.history.indptr) > 0
    together = np.flatnonzero(np.diff(queries.history.indptr) > 0) if own_history else np.zeros(0, np.int64)
    place = np.cumsum(speaks) - 1
    kept = speaks[rows.indices]
    row = np.concatenate([np.repeat(np.arange(len(queries)), np.diff(rows.indptr))[kept], together])
    column = np.concatenate([place[rows.indices[kept]], int(speaks.sum()) + np.arange(len(together))])
    joined = _joined(members.rows(np.flatnonzero(speaks)), queries.rows(together))
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(queries)))])
    return joined, sp.csr_array((np.ones(len(row), np.float32), column[order], indptr),
                                shape=(len(queries), len(joined)))


def _joined(one: Queries, other: Queries) -> Queries:
    """Return members' queries and, after them, what groups did together, who have no profile."""
    history, seen = (sp.csr_array(sp.vstack(both, format="csr"))
                     for both in ((one.history, other.history), (one.seen, other.seen)))
    times = None if one.times is None or other.times is None else sp.csr_array(
        sp.vstack([one.times, other.times], format="csr"))
    size = len(other)
    attributes = None if one.attributes is None else sp.csr_array(
        sp.vstack([one.attributes, sp.csr_array((size, one.attributes.shape[1]), dtype=one.attributes.dtype)], "csr"))
    profiles = None if one.profiles is None else np.concatenate([one.profiles, np.full(size, "", object)])
    return Queries(np.concatenate([one.ids, other.ids]), np.concatenate([one.user_ids, other.user_ids]),
                   np.concatenate([one.user, other.user]), history, seen, np.concatenate([one.texts, other.texts]),
                   attributes=attributes, profiles=profiles, times=times)


def by_members(score: Callable[[Queries], torch.Tensor], queries: Queries, strategy: Strategy, *, depth: int = 50,
               own_history: bool = True) -> torch.Tensor:
    """Return scores (Q, N) of groups: those of their voices, each scaled, put together by a strategy.

    A group without a voice has the scores of a user of whom nothing is known.
    """
    said, rows = voices(queries, own_history)
    silent = np.flatnonzero(np.diff(rows.indptr) == 0)
    found = None
    for part in _parts(rows, queries.history.shape[1]):
        used, place = np.unique(rows[part].indices, return_inverse=True)
        chosen = said.rows(used)
        scores_VN = scaled(score(chosen).float())
        inside = sp.csr_array((np.ones(len(place), np.float32), place, rows[part].indptr), shape=(len(part), len(used)))
        activity_V = torch.from_numpy(np.diff(chosen.history.indptr).astype(np.float32)).to(scores_VN.device)
        together = strategy(Voices(scores_VN, inside, activity_V, depth))
        if found is None:
            found = together.new_zeros((len(queries), together.shape[1]))
        found[torch.from_numpy(part).to(together.device)] = together
    if len(silent):
        alone = score(replace(queries.rows(silent), groups=None)).float()
        found = alone.new_zeros((len(queries), alone.shape[1])) if found is None else found
        found[torch.from_numpy(silent).to(found.device)] = alone
    return score(replace(queries, groups=None)) if found is None else found


def _parts(rows: sp.csr_array, num_items: int) -> Iterator[np.ndarray]:
    """Yield the groups that have voices, as many at a time as memory is set aside for."""
    spoken, most = np.flatnonzero(np.diff(rows.indptr)), max(1, CELLS // max(1, num_items))
    ends = np.cumsum(np.diff(rows.indptr)[spoken])
    start = 0
    while start < len(spoken):
        before = 0 if start == 0 else ends[start - 1]
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield spoken[start:stop]
        start = stop
