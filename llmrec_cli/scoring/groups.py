"""Scores of groups from the scores of their members.

Each strategy takes the members' scores, each scaled to mean 0 and deviation 1, and the group memberships, and returns
one row of scores per group. A group with one member is ranked like its member by every strategy. Strategies are those
of Masthoff (2015, Recommender Systems Handbook, ch. 22) and two for fairness.

Shapes: Q queries, V members with scores, C groups, N items, M members of the largest group, K items picked one by one,
T items to pick from.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

from llmrec_cli.data.queries import Queries

_AMONG = 4
"""Pool size for greedy picking: this many times `depth` items, those with the best average."""


@dataclass(frozen=True)
class MemberScores:
    """Scores of members, one row per membership.

    Attributes
    ----------
    scores_VN : float32, each row of mean 0 and deviation 1
    rows_CV : CSR of 1s, the members of each group; every group has at least one
    activity_V : float32, number of interactions of each member
    depth : number of items that a member approves of, or that are picked one by one, at least 1
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


Strategy = Callable[[MemberScores], torch.Tensor]


def average(scores: MemberScores) -> torch.Tensor:
    """Return the members' mean."""
    return scores.bagged(scores.scores_VN, "mean")


def weighted(scores: MemberScores) -> torch.Tensor:
    """Return the mean weighted by log(1 + interactions), since scores from longer histories are more reliable."""
    weights_V = torch.log1p(scores.activity_V).clamp_min(1e-6)
    return scores.bagged(scores.scores_VN, "sum", weights_V) / _sums(scores, weights_V)


def least_misery(scores: MemberScores) -> torch.Tensor:
    """Return the score of the member who likes the item least."""
    return -scores.bagged(-scores.scores_VN, "max")


def most_pleasure(scores: MemberScores) -> torch.Tensor:
    """Return the score of the member who likes the item most."""
    return scores.bagged(scores.scores_VN, "max")


def borda(scores: MemberScores) -> torch.Tensor:
    """Return the mean Borda points of the members: the share of the catalogue that a member ranks below the item."""
    return scores.bagged(points(scores.scores_VN), "mean")


def approval(scores: MemberScores) -> torch.Tensor:
    """Return the number of members with the item among their `depth` best; ties are broken by the average."""
    return scores.bagged(_approvals(scores), "sum") + _between(average(scores))


def fair_greedy(scores: MemberScores) -> torch.Tensor:
    """Return scores of a greedy selection that maximises the probability that each member likes an item.

    GFAR (Kaya, Bridge and Tintarev 2020, eq. 4): the next item has the largest sum over members of p(u, i) times the
    probability that u likes none of the picked items, with p from the Borda points of the member's `depth` best.
    Differs: only the _AMONG * depth items with the best average are considered; the other items follow by average.
    """
    chances_VN = _relevance(scores)
    chances_VN = chances_VN / chances_VN.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return _pick_greedily(scores, chances_VN, lambda due_CM, picked_CM: due_CM * (1 - picked_CM))


def fair_proportional(scores: MemberScores) -> torch.Tensor:
    """Return scores of a greedy selection that favours members whose approval so far is low.

    Sequential proportional approval voting (Thiele 1895), graded: a member's approval of an item, 1 for the best to 0
    at `depth`, counts 1 / (1 + the approval of the items picked so far). Pool and order as in `fair_greedy`.
    """
    return _pick_greedily(scores, _relevance(scores), lambda due_CM, picked_CM: 1 / (1 / due_CM + picked_CM))


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
    # The mean of equal scores can differ by rounding; treat such rows as constant.
    equal_V1 = deviation_V1 <= 1e-6 * scores_VN[:, :1].abs()
    return centred_VN.div_(deviation_V1.masked_fill(equal_V1, 1).clamp_min(1e-9))


def _sums(scores: MemberScores, weights_V: torch.Tensor) -> torch.Tensor:
    return scores.bagged(weights_V[:, None], "sum")


def _approvals(scores: MemberScores) -> torch.Tensor:
    """Return 1 where an item is among the `depth` best of a member, else 0 (V, N)."""
    depth = min(scores.depth, scores.scores_VN.shape[1])
    least_V1 = scores.scores_VN.topk(depth, dim=1).values[:, -1:]
    return (scores.scores_VN >= least_V1).float()


def _relevance(scores: MemberScores) -> torch.Tensor:
    """Return 1 for a member's best item, falling evenly to 0 at the one after the `depth` best (V, N)."""
    num_items = scores.scores_VN.shape[1]
    depth = min(scores.depth, num_items)
    above_VN = (1 - points(scores.scores_VN)) * (num_items - 1)
    return (1 - above_VN / depth).clamp_min(0)


def _between(scores_CN: torch.Tensor) -> torch.Tensor:
    """Return scores in the same order within (0, 1)."""
    return 0.5 + 0.5 * scores_CN / (1 + scores_CN.abs())


def _pick_greedily(scores: MemberScores, worth_VN: torch.Tensor,
                   after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return scores that rank `depth` items in the order of picking, then the others by average.

    Each pick maximises the sum over members of the item's worth to the member, times the member's weight (`due`). The
    weight is 1 at first, and `after(weight, worth of the picked item)` after each pick, all (C, M).
    """
    mean_CN = average(scores)
    num_groups, num_items = mean_CN.shape
    depth = min(scores.depth, num_items)
    # A stable sort, so that ties do not depend on other queries of the block.
    among_CT = mean_CN.sort(dim=1, descending=True, stable=True).indices[:, :_AMONG * depth]
    worth_CMT = _padded(scores, worth_VN, among_CT)
    due_CM = worth_CMT.new_ones(worth_CMT.shape[:2])
    mask_CT = torch.zeros_like(among_CT, dtype=worth_VN.dtype)
    scores_CN, every = _between(mean_CN), torch.arange(num_groups, device=mean_CN.device)
    for place in range(depth):
        gain_CT = (due_CM[:, :, None] * worth_CMT).sum(dim=1) + mask_CT
        pick_C = gain_CT.argmax(dim=1)
        scores_CN[every, among_CT[every, pick_C]] += depth - place
        mask_CT[every, pick_C] = -torch.inf
        due_CM = after(due_CM, worth_CMT[every, :, pick_C])
    return scores_CN


def _padded(scores: MemberScores, worth_VN: torch.Tensor, among_CT: torch.Tensor) -> torch.Tensor:
    """Return the worth (C, M, T) of some items to the members of each group; 0 beyond a group's last member."""
    rows, device = scores.rows_CV, worth_VN.device
    sizes = np.diff(rows.indptr)
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = torch.from_numpy(np.arange(len(group)) - np.repeat(rows.indptr[:-1], sizes)).to(device)
    which, voice = torch.from_numpy(group).to(device), torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    padded_CMT = worth_VN.new_zeros((len(sizes), int(sizes.max(initial=0)), among_CT.shape[1]))
    padded_CMT[which, place] = worth_VN[voice[:, None], among_CT[which]]
    return padded_CMT


CELLS = 2**22
"""Most scores of members held at a time, 16 MB, so that they stay in the cache on their way to the groups."""


def member_queries(queries: Queries, own_history: bool) -> tuple[Queries, sp.csr_array]:
    """Return the queries (V) of the members with a history, and their group memberships as CSR (Q, V) of 1s.

    With `own_history`, the group's joint history counts as one more member. Members without a history are left out.
    """
    assert queries.groups is not None
    members, rows = queries.groups.members, queries.groups.rows
    has_history = np.diff(members.history.indptr) > 0
    together = np.flatnonzero(np.diff(queries.history.indptr) > 0) if own_history else np.zeros(0, np.int64)
    place = np.cumsum(has_history) - 1
    row_mask = has_history[rows.indices]
    row = np.concatenate([np.repeat(np.arange(len(queries)), np.diff(rows.indptr))[row_mask], together])
    column = np.concatenate([place[rows.indices[row_mask]], int(has_history.sum()) + np.arange(len(together))])
    joined = _join(members.rows(np.flatnonzero(has_history)), queries.rows(together))
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(queries)))])
    return joined, sp.csr_array((np.ones(len(row), np.float32), column[order], indptr),
                                shape=(len(queries), len(joined)))


def _join(one: Queries, other: Queries) -> Queries:
    """Concatenate members' queries and queries of joint histories, which have no profile."""
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


def score_by_members(score: Callable[[Queries], torch.Tensor], queries: Queries, strategy: Strategy, *, depth: int = 50,
                     own_history: bool = True) -> torch.Tensor:
    """Return scores (Q, N) of groups: the scaled scores of their members, combined by a strategy.

    A group without a member with a history has the scores of a user without one.
    """
    members, rows = member_queries(queries, own_history)
    empty_groups = np.flatnonzero(np.diff(rows.indptr) == 0)
    group_scores = None
    for part in _parts(rows, queries.history.shape[1]):
        used, place = np.unique(rows[part].indices, return_inverse=True)
        part_members = members.rows(used)
        scores_VN = scaled(score(part_members).float())
        inside = sp.csr_array((np.ones(len(place), np.float32), place, rows[part].indptr), shape=(len(part), len(used)))
        activity_V = torch.from_numpy(np.diff(part_members.history.indptr).astype(np.float32)).to(scores_VN.device)
        together = strategy(MemberScores(scores_VN, inside, activity_V, depth))
        if group_scores is None:
            group_scores = together.new_zeros((len(queries), together.shape[1]))
        group_scores[torch.from_numpy(part).to(together.device)] = together
    if len(empty_groups):
        alone = score(replace(queries.rows(empty_groups), groups=None)).float()
        group_scores = alone.new_zeros((len(queries), alone.shape[1])) if group_scores is None else group_scores
        group_scores[torch.from_numpy(empty_groups).to(group_scores.device)] = alone
    return score(replace(queries, groups=None)) if group_scores is None else group_scores


def _parts(rows: sp.csr_array, num_items: int) -> Iterator[np.ndarray]:
    """Yield the groups that have members with scores, in parts that fit into CELLS scores."""
    groups, most = np.flatnonzero(np.diff(rows.indptr)), max(1, CELLS // max(1, num_items))
    ends = np.cumsum(np.diff(rows.indptr)[groups])
    start = 0
    while start < len(groups):
        before = 0 if start == 0 else ends[start - 1]
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield groups[start:stop]
        start = stop
