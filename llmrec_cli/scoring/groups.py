"""Scores of groups from the scores of their members.

Each function takes the members' scores, scaled to mean 0 and deviation 1 each, and who is in which group, and returns
one row of scores per group. A group of one gets its member's order by every strategy. Strategies are those of Masthoff
(2015, Recommender Systems Handbook, ch. 22) and two that look at fairness.

Shapes: V members ("voices"), C groups, N items, M members of the largest group, K items picked one by one, T items that
are picked among.

Shapes: Q queries, V voices, N items.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

from llmrec_cli.data.queries import Queries

_AMONG = 4
"""How many times more items are looked at than are picked one by one: those of the best average."""


@dataclass(frozen=True)
class Voices:
    """Scores of members, one row per membership.

    Attributes
    ----------
    scores_VN : float32, each row of mean 0 and deviation 1
    rows_CV : CSR of 1s, who is in which group; no group without anybody
    activity_V : float32, the interactions each has
    depth : items that a member approves of, or that are picked one by one, at least 1
    """

    scores_VN: torch.Tensor
    rows_CV: sp.csr_array
    activity_V: torch.Tensor
    depth: int

    def bagged(self, values_VN: torch.Tensor, mode: str, weights_V: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum, mean or max of each group's rows of `values_VN`, (C, N)."""
        device = values_VN.device
        indices = torch.from_numpy(self.rows_CV.indices.astype(np.int64)).to(device)
        offsets = torch.from_numpy(self.rows_CV.indptr.astype(np.int64)).to(device)
        return functional.embedding_bag(indices, values_VN, offsets, mode=mode, include_last_offset=True,
                                        per_sample_weights=None if weights_V is None else weights_V[indices])


Strategy = Callable[[Voices], torch.Tensor]


def average(voices: Voices) -> torch.Tensor:
    """Return the members' mean."""
    return voices.bagged(voices.scores_VN, "mean")


def weighted(voices: Voices) -> torch.Tensor:
    """Return the mean weighted by log(1 + interactions): of whom more is known, the scores say more."""
    weights_V = torch.log1p(voices.activity_V).clamp_min(1e-6)
    return voices.bagged(voices.scores_VN, "sum", weights_V) / _sums(voices, weights_V)


def least_misery(voices: Voices) -> torch.Tensor:
    """Return the score of the member who likes the item least."""
    return -voices.bagged(-voices.scores_VN, "max")


def most_pleasure(voices: Voices) -> torch.Tensor:
    """Return the score of the member who likes the item most."""
    return voices.bagged(voices.scores_VN, "max")


def borda(voices: Voices) -> torch.Tensor:
    """Return the mean of the members' Borda points: the share of the catalogue that each ranks below the item."""
    return voices.bagged(points(voices.scores_VN), "mean")


def approval(voices: Voices) -> torch.Tensor:
    """Return how many members have the item among their `depth` best; the average decides among equals."""
    return voices.bagged(_approved(voices), "sum") + _between(average(voices))


def fair_greedy(voices: Voices) -> torch.Tensor:
    """Return scores by which items are picked that add most to the chance that each member finds one.

    GFAR (Kaya, Bridge and Tintarev 2020, eq. 4): the next item has the largest sum over members of p(u, i) times the
    chance that u likes none of those picked, p from Borda points of the member's `depth` best. Differs: only the
    _AMONG * depth items of the best average are looked at; what is not picked follows by average.
    """
    chances_VN = _relevance(voices)
    chances_VN = chances_VN / chances_VN.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return _picked(voices, chances_VN, lambda due_CM, taken_CM: due_CM * (1 - taken_CM))


def fair_proportional(voices: Voices) -> torch.Tensor:
    """Return scores by which items are picked that please those who got least so far.

    Sequential proportional approval voting (Thiele 1895), graded: a member's approval of an item, 1 for the best to 0
    at `depth`, counts 1 / (1 + what the picked items have of it already). Looked at and ordered as in `fair_greedy`.
    """
    return _picked(voices, _relevance(voices), lambda due_CM, taken_CM: 1 / (1 / due_CM + taken_CM))


STRATEGIES: dict[str, Strategy] = {
    "average": average, "weighted": weighted, "least_misery": least_misery, "most_pleasure": most_pleasure,
    "borda": borda, "approval": approval, "fair_greedy": fair_greedy, "fair_proportional": fair_proportional}


def points(scores_VN: torch.Tensor) -> torch.Tensor:
    """Return the share of the other items that each row ranks below an item, 0 to 1, equal scores counting half."""
    ordered_VN = scores_VN.sort(dim=1).values
    below = torch.searchsorted(ordered_VN, scores_VN.contiguous())
    upto = torch.searchsorted(ordered_VN, scores_VN.contiguous(), right=True)
    return (below + upto - 1).float() / max(1, 2 * (scores_VN.shape[1] - 1))


def scaled(scores_VN: torch.Tensor) -> torch.Tensor:
    """Return each row with mean 0 and deviation 1; a row of equal scores becomes next to zeros."""
    centred_VN = scores_VN - scores_VN.mean(dim=1, keepdim=True)
    # The length of the centred row: torch's own deviation takes ten times as long on a CPU.
    deviation_V1 = torch.linalg.vector_norm(centred_VN, dim=1, keepdim=True) / scores_VN.shape[1]**0.5
    # Of equal scores the mean is not always exactly theirs: what is left is no opinion.
    equal_V1 = deviation_V1 <= 1e-6 * scores_VN[:, :1].abs()
    return centred_VN.div_(deviation_V1.masked_fill(equal_V1, 1).clamp_min(1e-9))


def _sums(voices: Voices, weights_V: torch.Tensor) -> torch.Tensor:
    return voices.bagged(weights_V[:, None], "sum")


def _approved(voices: Voices) -> torch.Tensor:
    """Return 1 where an item is among the `depth` best of a member, else 0 (V, N)."""
    depth = min(voices.depth, voices.scores_VN.shape[1])
    least_V1 = voices.scores_VN.topk(depth, dim=1).values[:, -1:]
    return (voices.scores_VN >= least_V1).float()


def _relevance(voices: Voices) -> torch.Tensor:
    """Return 1 for a member's best item, falling evenly to 0 at the one after the `depth` best (V, N)."""
    num_items = voices.scores_VN.shape[1]
    depth = min(voices.depth, num_items)
    above_VN = (1 - points(voices.scores_VN)) * (num_items - 1)
    return (1 - above_VN / depth).clamp_min(0)


def _between(scores_CN: torch.Tensor) -> torch.Tensor:
    """Return scores in the same order within (0, 1)."""
    return 0.5 + 0.5 * scores_CN / (1 + scores_CN.abs())


def _picked(voices: Voices, worth_VN: torch.Tensor,
            after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return scores that rank `depth` items in the order of picking, and the others behind them by average.

    The next item has the largest sum of its worth to the members times what they are still due, 1 each at first and
    afterwards `after(due, worth of the picked item)`, all (C, M).
    """
    mean_CN = average(voices)
    num_groups, num_items = mean_CN.shape
    depth = min(voices.depth, num_items)
    # A stable order, so that among equals the same are looked at whoever else asks.
    among_CT = mean_CN.sort(dim=1, descending=True, stable=True).indices[:, :_AMONG * depth]
    worth_CMT = _padded(voices, worth_VN, among_CT)
    due_CM = worth_CMT.new_ones(worth_CMT.shape[:2])
    left_CT = torch.zeros_like(among_CT, dtype=worth_VN.dtype)
    scores_CN, every = _between(mean_CN), torch.arange(num_groups, device=mean_CN.device)
    for place in range(depth):
        gain_CT = (due_CM[:, :, None] * worth_CMT).sum(dim=1) + left_CT
        chosen_C = gain_CT.argmax(dim=1)
        scores_CN[every, among_CT[every, chosen_C]] += depth - place
        left_CT[every, chosen_C] = -torch.inf
        due_CM = after(due_CM, worth_CMT[every, :, chosen_C])
    return scores_CN


def _padded(voices: Voices, worth_VN: torch.Tensor, among_CT: torch.Tensor) -> torch.Tensor:
    """Return the worth (C, M, T) of some items to the members of each group; 0 beyond a group's last member."""
    rows, device = voices.rows_CV, worth_VN.device
    sizes = np.diff(rows.indptr)
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = torch.from_numpy(np.arange(len(group)) - np.repeat(rows.indptr[:-1], sizes)).to(device)
    which, voice = torch.from_numpy(group).to(device), torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    padded_CMT = worth_VN.new_zeros((len(sizes), int(sizes.max(initial=0)), among_CT.shape[1]))
    padded_CMT[which, place] = worth_VN[voice[:, None], among_CT[which]]
    return padded_CMT


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
