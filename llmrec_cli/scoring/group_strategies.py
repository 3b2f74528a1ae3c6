"""How the scores of a group's members become scores of the group.

Each function takes the members' scores, scaled to mean 0 and deviation 1 each, and who is in which group, and returns
one row of scores per group. A group of one gets its member's order by every strategy. Strategies are those of Masthoff
(2015, Recommender Systems Handbook, ch. 22) and two that look at fairness.

Shapes: V members ("voices"), C groups, N items, M members of the largest group, K items picked one by one, T items that
are picked among.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

AMONG = 4
"""How many times more items are looked at than are picked one by one: those of the best average."""


@dataclass(frozen=True)
class Voices:
    """What members say.

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
    AMONG * depth items of the best average are looked at; what is not picked follows by average.
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
    among_CT = mean_CN.sort(dim=1, descending=True, stable=True).indices[:, :AMONG * depth]
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
