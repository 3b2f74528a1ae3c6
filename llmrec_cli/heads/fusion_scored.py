"""The validation metric of weighted sums of scores that are held whole, fast enough to try hundreds of weights.

Shapes: Q queries, B queries of a chunk, N items, K ranks, R queries with a hit.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.metrics.ranking import METRICS
from llmrec_cli.scoring.topk import topk
from llmrec_cli.scoring.validation import Validation

CHUNK_CELLS = 2**19
"""Scores summed and compared at a time: 2 MB, which stay in the cache."""


class Sum(Protocol):
    """A way to add the members' scaled scores (B, N), knowing the lengths of the histories and which items are cold."""

    def sum(self, scores: dict[str, torch.Tensor], lengths_Q: torch.Tensor, cold_N: torch.Tensor) -> torch.Tensor:
        """Return a new tensor (B, N)."""


@dataclass(frozen=True)
class Chunk:
    """Some of the queries.

    Attributes
    ----------
    rows : their rows of the scores, a slice where they lie together
    lengths_B : the lengths of their histories
    seen, relevant : the places of what they have seen, and of what they went on to like, in rows laid end to end
    num_relevant_B : how many of the latter each has, at least 1
    """

    rows: slice | torch.Tensor
    lengths_B: torch.Tensor
    seen: torch.Tensor
    relevant: torch.Tensor
    num_relevant_B: torch.Tensor


class Scored:
    """The members' scaled scores (Q, N) of the validation queries, or of some of these.

    Lists are made only for queries with fewer than k items above their best relevant one, which is counted: for the
    others there is no hit to find. To the bit the scorer's figures, ties included, in a fraction of the time.
    """

    def __init__(self, scores: dict[str, torch.Tensor], validation: Validation, cold_N: torch.Tensor,
                 which: np.ndarray | None = None) -> None:
        """Take float32 scores of all queries of `validation`, each of which has a relevant item."""
        self.scores, self.validation, self.cold_N = scores, validation, cold_N
        self.which = np.arange(len(validation.queries)) if which is None else which
        self.num_relevant_Q = np.diff(validation.relevant.indptr)[self.which]
        self.lengths_Q = np.diff(validation.queries.history.indptr)[self.which]
        num_items = len(cold_N)
        size = max(1, CHUNK_CELLS // num_items)
        self.chunks = [self._chunk(self.which[start:start + size]) for start in range(0, len(self.which), size)]
        self.above_BN = torch.empty((min(size, len(self.which)), num_items))
        self.ones_N = torch.ones(num_items)
        self.ranks_N = torch.from_numpy(validation.ranks)

    def __len__(self) -> int:
        return len(self.which)

    def rows(self, which: np.ndarray) -> "Scored":
        """Return the chosen queries; the scores are not copied."""
        return Scored(self.scores, self.validation, self.cold_N, self.which[which])

    def num_cold(self) -> int:
        """Return the held-out interactions with cold items."""
        return int(self.cold_N.numpy()[self.validation.relevant[self.which].indices].sum())

    def value(self, weights: Sum) -> float:
        """Return the mean of the validation metric of a weighted sum: to the bit what `Validation` says of it."""
        name, _, k = self.validation.monitor.partition("@")
        hits_QK = np.concatenate([self._hits(chunk, weights, int(k)) for chunk in self.chunks])
        return float(METRICS[name](hits_QK, self.num_relevant_Q, [int(k)]).mean())

    def _chunk(self, which: np.ndarray) -> Chunk:
        queries, relevant = self.validation.queries, self.validation.relevant[which]
        together = which[-1] - which[0] + 1 == len(which)
        rows = slice(int(which[0]), int(which[-1]) + 1) if together else torch.from_numpy(which)
        return Chunk(rows, torch.from_numpy(np.diff(queries.history.indptr)[which]), _places(queries.seen[which]),
                     _places(relevant), torch.from_numpy(np.diff(relevant.indptr)))

    def _hits(self, chunk: Chunk, weights: Sum, k: int) -> np.ndarray:
        """Return which ranks hold a relevant item, bool (B, K)."""
        sum_BN = weights.sum({name: s[chunk.rows] for name, s in self.scores.items()}, chunk.lengths_B, self.cold_N)
        sum_BN.view(-1).index_fill_(0, chunk.seen, -torch.inf)
        best_B1 = torch.segment_reduce(sum_BN.view(-1)[chunk.relevant], "max", lengths=chunk.num_relevant_B)[:, None]
        # Comparisons written as floats can be counted by BLAS; whole numbers below 2^24 are exact.
        above_BN = torch.gt(sum_BN, best_B1, out=self.above_BN[:len(sum_BN)])
        rows = torch.nonzero((above_BN @ self.ones_N < k) & (best_B1[:, 0] > -torch.inf)).ravel()
        items_RK, there_RK = best(sum_BN.index_select(0, rows), k, self.ranks_N)
        hits_BK = np.zeros((len(sum_BN), k), bool)
        relevant_BN = torch.zeros(sum_BN.shape, dtype=torch.bool)
        relevant_BN.view(-1).index_fill_(0, chunk.relevant, True)
        hits_RK = relevant_BN.index_select(0, rows).gather(1, items_RK) & there_RK
        hits_BK[rows.numpy(), :items_RK.shape[1]] = hits_RK.numpy()
        return hits_BK


def best(scores_RN: torch.Tensor, k: int, ranks_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best k items of each row, or all where these are fewer, and which of them are not masked (R, K)."""
    values, items = torch.topk(scores_RN, min(k + 1, scores_RN.shape[1]), dim=1)
    tied_R = torch.nonzero((values[:, 1:] == values[:, :-1]).any(dim=1)).ravel()
    values, items = values[:, :k], items[:, :k]
    if len(tied_R):
        top = topk(scores_RN[tied_R], k, ranks_N)
        width = items.shape[1]
        items[tied_R] = torch.from_numpy(top.items_QK[:, :width])
        values[tied_R] = torch.from_numpy(top.scores_QK[:, :width])
    return items.clamp(min=0), values > -torch.inf


def _places(matrix: sp.csr_array) -> torch.Tensor:
    """Return where the entries are in the rows laid end to end."""
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return torch.from_numpy(row * matrix.shape[1] + matrix.indices)


def drawn(validation: Validation, num: int, seed: int) -> Validation:
    """Return at most `num` of the validation queries that have a relevant item, at random."""
    rows = np.flatnonzero(np.diff(validation.relevant.indptr))
    if len(rows) > num:
        rows = np.sort(np.random.default_rng(seed).choice(rows, num, replace=False))
    if len(rows) == len(validation.queries):
        return validation
    return replace(validation, queries=validation.queries.rows(rows), relevant=validation.relevant[rows])
