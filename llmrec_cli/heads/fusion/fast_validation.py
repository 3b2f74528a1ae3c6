"""Validation metric of weighted sums of members' scores, per query, fast enough to try hundreds of weights.

Each query keeps only candidates instead of all items: the items that any member ranks high, and its relevant items.
Memory does not grow with the catalogue.

Shapes: Q queries, B queries of a chunk or block, N items, P pairs of a query and a candidate, W candidates of a query,
K ranks, R queries with a hit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmrec_cli.data.histories import pair_keys
from llmrec_cli.data.queries import Queries
from llmrec_cli.metrics.hits import monitored_values
from llmrec_cli.scoring.scorer import blocks
from llmrec_cli.scoring.validation import Validation

DEPTH = 300
"""Most candidates per member and query: the member's best unseen items."""
COLD_DEPTH = 100
"""Most additional cold candidates per member and query: separate weights for cold items may raise them."""
CELLS = 2**27
"""Most scores stored for all queries and members: 512 MB. With many members, fewer candidates are stored per member."""
CHUNK_CELLS = 2**19
"""Scores summed and compared at a time: 2 MB, which fit in the cache."""

Numbers = Mapping[str, float]
Score = Callable[[Queries], torch.Tensor]
"""Function that returns a member's scaled scores (B, N) of the whole catalogue."""


@dataclass(frozen=True)
class Candidates:
    """Unseen candidates of all queries, one row after the other.

    Attributes
    ----------
    scores : each member's scaled scores of the candidates, float32 (P,)
    indptr_Q : int64 (Q + 1,), start of each query's candidates
    relevant_P, cold_P : bool (P,)
    ranks_P : int64 (P,), the hash ranks of the items, which break ties
    num_relevant_Q : number of relevant items of each query, at least 1, including seen ones
    lengths_Q : lengths of the histories
    owner_Q : int64 (Q,), the same for queries of one user
    monitor : `<metric>@<k>`
    """

    scores: dict[str, np.ndarray]
    indptr_Q: np.ndarray
    relevant_P: np.ndarray
    cold_P: np.ndarray
    ranks_P: np.ndarray
    num_relevant_Q: np.ndarray
    lengths_Q: np.ndarray
    owner_Q: np.ndarray
    monitor: str


def depth_for(num_queries: int, num_members: int) -> int:
    """Return the number of candidates per member and query: DEPTH, or as many as CELLS allows."""
    return max(1, min(DEPTH, CELLS // max(1, num_queries * num_members**2)))


def gather(members: Mapping[str, Score], validation: Validation, cold_N: np.ndarray) -> Candidates:
    """Collect the candidates of the validation queries, block by block; each query must have a relevant item.

    Each candidate has exact scores from all members, whichever member proposed it. Scores are scaled over the whole
    catalogue (mean and deviation, or ranks) before candidates are selected, exactly as the fusion scales them.
    """
    queries, num_items = validation.queries, len(cold_N)
    depth = depth_for(len(queries), len(members))
    cold, scores, parts = torch.from_numpy(cold_N), {name: list[np.ndarray]() for name in members}, []
    for block in blocks(len(queries), num_items * len(members), 1024):
        rows = queries.rows(block)
        scaled = {name: score(rows).cpu() for name, score in members.items()}
        seen, relevant = (torch.from_numpy(pair_keys(matrix)) for matrix in (rows.seen, validation.relevant[block]))
        is_candidate_BN = torch.zeros((len(rows), num_items), dtype=torch.bool)
        for scaled_BN in scaled.values():
            unseen_BN = scaled_BN.reshape(-1).index_fill(0, seen, -torch.inf).view(len(rows), num_items)
            mark_best(is_candidate_BN, unseen_BN, depth)
            if cold_N.any():
                mark_best(is_candidate_BN, unseen_BN.masked_fill_(~cold, -torch.inf), min(depth, COLD_DEPTH))
        is_candidate_BN.view(-1).index_fill_(0, relevant, value=True).index_fill_(0, seen, value=False)
        places_P = torch.nonzero(is_candidate_BN.view(-1)).ravel()
        for name, scaled_BN in scaled.items():
            scores[name].append(scaled_BN.reshape(-1)[places_P].numpy())
        is_relevant = torch.zeros(is_candidate_BN.numel(), dtype=torch.bool).index_fill_(0, relevant, value=True)
        parts.append((is_candidate_BN.sum(dim=1).numpy(), is_relevant[places_P].numpy(),
                      (places_P % num_items).numpy()))
    sizes_Q, relevant_P, item_P = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Candidates({name: np.concatenate(part) for name, part in scores.items()},
                      np.concatenate([[0], np.cumsum(sizes_Q)]), relevant_P, cold_N[item_P],
                      validation.ranks[item_P], np.diff(validation.relevant.indptr),
                      np.diff(queries.history.indptr), owners_of(queries), validation.monitor)


def owners_of(queries: Queries) -> np.ndarray:
    """Return a number for each query, int64 (Q,), the same for queries of one user."""
    names_Q = np.where(queries.user_ids != "", queries.user_ids, queries.ids)
    owners: np.ndarray = np.unique(names_Q, return_inverse=True)[1].ravel()
    return owners


def mark_best(is_candidate_BN: torch.Tensor, scores_BN: torch.Tensor, depth: int) -> None:
    """Mark the `depth` best items of each row, in place; ties at the end are broken arbitrarily."""
    top = torch.topk(scores_BN, min(depth, scores_BN.shape[1]), dim=1)
    is_candidate_BN.scatter_(1, top.indices, is_candidate_BN.gather(1, top.indices) | (top.values > -torch.inf))


@dataclass(frozen=True)
class _Chunk:
    """Some of the queries, their candidates padded to the longest row.

    Attributes
    ----------
    scores : scores of each member (B, W), 0 in the padding
    cold_BW, relevant_BW, padding_BW : bool
    ranks_BW : int64
    relevant, row_of_relevant : positions of the relevant candidates in the flattened (B, W), and their rows
    num_relevant_B : number of relevant items of each query, including items that are not candidates
    """

    scores: dict[str, torch.Tensor]
    cold_BW: torch.Tensor
    relevant_BW: torch.Tensor
    padding_BW: torch.Tensor
    ranks_BW: np.ndarray
    relevant: torch.Tensor
    row_of_relevant: torch.Tensor
    num_relevant_B: np.ndarray


class WeightedMetric:
    """Metric of each validation query for given member weights, cached per weighting and chunk of queries.

    Lists are made only for queries with fewer than k candidates above their best relevant one; the other queries have
    no hit. If all items are candidates, values equal the scorer's bit for bit, ties included; otherwise an item beyond
    every member's depth is assumed to miss the top k of the sum.
    """

    def __init__(self, candidates: Candidates) -> None:
        self.names = list(candidates.scores)
        self.lengths_Q, self.num_queries = candidates.lengths_Q, len(candidates.lengths_Q)
        self.owner_Q = candidates.owner_Q
        self.num_cold_Q = np.add.reduceat(np.append(candidates.relevant_P & candidates.cold_P, False).astype(np.int64),
                                          candidates.indptr_Q[:-1]) * (np.diff(candidates.indptr_Q) > 0)
        self.monitor, self.k = candidates.monitor, int(candidates.monitor.partition("@")[2])
        possible, rows = _possible(candidates, self.k)
        self.chunks = list(_chunks(possible))
        self.rows = np.split(rows, np.cumsum([len(chunk.relevant_BW) for chunk in self.chunks])[:-1])
        self.cache: dict[tuple[int, tuple[tuple[float, ...], ...]], np.ndarray] = {}

    def values(self, weights: Numbers, cold: Numbers, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the metric of the queries `rows`, all by default, float64 (Q,).

        `cold` are separate weights for cold items unless empty.
        """
        weighting = tuple(tuple(part.get(name, 0.0) for name in self.names) for part in (weights, cold) if part)
        is_wanted_Q, values_Q = np.zeros(self.num_queries, bool), np.zeros(self.num_queries)
        is_wanted_Q[slice(None) if rows is None else rows] = True
        for number, (chunk, rows_B) in enumerate(zip(self.chunks, self.rows, strict=False)):
            if not is_wanted_Q[rows_B].any():
                continue
            if (key := (number, weighting)) not in self.cache:
                self.cache[key] = self._values(chunk, weights, cold)
            values_Q[rows_B] = self.cache[key]
        return values_Q if rows is None else values_Q[rows]

    def _values(self, chunk: _Chunk, weights: Numbers, cold: Numbers) -> np.ndarray:
        sum_BW = weighted_sum(weights, chunk.scores)
        if cold:
            sum_BW = torch.where(chunk.cold_BW, weighted_sum(cold, chunk.scores), sum_BW)
        sum_BW.masked_fill_(chunk.padding_BW, -torch.inf)
        return monitored_values(self.monitor, self._hits(chunk, sum_BW), chunk.num_relevant_B)

    def _hits(self, chunk: _Chunk, sum_BW: torch.Tensor) -> np.ndarray:
        """Return the mask of the ranks with a relevant item, bool (B, K)."""
        best_B1 = torch.full((len(sum_BW), 1), -torch.inf)
        best_B1.view(-1).scatter_reduce_(0, chunk.row_of_relevant, sum_BW.view(-1)[chunk.relevant], "amax")
        above_B = (sum_BW > best_B1).sum(dim=1)
        rows = torch.nonzero((above_B < self.k) & (best_B1[:, 0] > -torch.inf)).ravel()
        sum_RW = sum_BW.index_select(0, rows)
        places_RK = _best(sum_RW, self.k, chunk.ranks_BW, rows)
        hits_BK = np.zeros((len(sum_BW), self.k), bool)
        hits_RK = chunk.relevant_BW.index_select(0, rows).gather(1, places_RK)
        hits_BK[rows.numpy(), :places_RK.shape[1]] = (hits_RK & (sum_RW.gather(1, places_RK) > -torch.inf)).numpy()
        return hits_BK


def weighted_sum(weights: Numbers, scores: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of the scores in a new tensor; at least one weight must be above 0."""
    names = [name for name in scores if weights.get(name, 0.0) > 0]
    total = scores[names[0]] * weights[names[0]]
    for name in names[1:]:
        total.add_(scores[name], alpha=weights[name])
    return total


def _best(scores_RW: torch.Tensor, k: int, ranks_BW: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
    """Return the places of the k best candidates of each row (R, K), ties broken by hash rank."""
    values, places = torch.topk(scores_RW, min(k + 1, scores_RW.shape[1]), dim=1)
    tied = torch.nonzero((values[:, 1:] == values[:, :-1]).any(dim=1)).ravel()
    places = places[:, :k]
    if len(tied):
        order = np.lexsort((ranks_BW[rows[tied].numpy()], -scores_RW[tied].numpy()), axis=1)
        places[tied] = torch.from_numpy(order[:, :places.shape[1]])
    return places


def _possible(candidates: Candidates, k: int) -> tuple[Candidates, np.ndarray]:
    """Return the queries that may have a hit, with the candidates that matter; and their rows.

    Queries with short histories come first, since some weights are learned on these or on the others alone; of each
    kind, those with the fewest candidates come first.

    Weights are at least 0, so a candidate that all members score below all relevant items is below them in every sum,
    and a query has no hit in any sum if all members score k candidates above its relevant items. Cold and warm items
    may have different weights, so only items of one kind are compared.
    """
    sizes_Q = np.diff(candidates.indptr_Q)
    row_P = np.repeat(np.arange(len(sizes_Q)), sizes_Q)
    relevant, cold_P = np.flatnonzero(candidates.relevant_P), candidates.cold_P
    num_Q, num_cold_Q = (np.bincount(row_P[relevant], weights, len(sizes_Q)) for weights in (None, cold_P[relevant]))
    # Relevant items of both kinds are compared with nothing.
    below_P = above_P = np.where(cold_P, (num_cold_Q == num_Q)[row_P], (num_cold_Q == 0)[row_P])
    for scores_P in candidates.scores.values():
        lowest_Q, highest_Q = np.full(len(sizes_Q), np.inf, np.float32), np.full(len(sizes_Q), -np.inf, np.float32)
        np.minimum.at(lowest_Q, row_P[relevant], scores_P[relevant])
        np.maximum.at(highest_Q, row_P[relevant], scores_P[relevant])
        below_P = below_P & (scores_P < lowest_Q[row_P])
        above_P = above_P & (scores_P > highest_Q[row_P])
    has_hits_Q = (num_Q > 0) & (np.bincount(row_P[above_P], minlength=len(sizes_Q)) < k)
    kept = np.flatnonzero(~below_P & has_hits_Q[row_P])
    sizes_Q = np.bincount(row_P[kept], minlength=len(sizes_Q))
    rows = np.flatnonzero(has_hits_Q)
    is_long_Q = candidates.lengths_Q > np.median(candidates.lengths_Q)
    rows = rows[np.lexsort((sizes_Q[rows], is_long_Q[rows]))]
    place_Q = np.empty(len(sizes_Q), np.int64)
    place_Q[rows] = np.arange(len(rows))
    kept = kept[np.argsort(place_Q[row_P[kept]], kind="stable")]
    return Candidates({name: scores_P[kept] for name, scores_P in candidates.scores.items()},
                      np.concatenate([[0], np.cumsum(sizes_Q[rows])]), candidates.relevant_P[kept], cold_P[kept],
                      candidates.ranks_P[kept], candidates.num_relevant_Q[rows], candidates.lengths_Q[rows],
                      candidates.owner_Q[rows], candidates.monitor), rows


def _chunks(candidates: Candidates) -> list[_Chunk]:
    """Return the queries in chunks of about CHUNK_CELLS candidates; a chunk is as wide as its widest query."""
    sizes_Q, start, chunks = np.diff(candidates.indptr_Q), 0, []
    while start < len(sizes_Q):
        widths = np.maximum.accumulate(sizes_Q[start:])
        stop = start + max(1, int((np.arange(1, len(widths) + 1) * widths <= CHUNK_CELLS).sum()))
        chunks.append(_chunk(candidates, start, stop))
        start = stop
    return chunks


def _chunk(candidates: Candidates, start: int, stop: int) -> _Chunk:
    first, last = candidates.indptr_Q[start], candidates.indptr_Q[stop]
    sizes_B = np.diff(candidates.indptr_Q[start:stop + 1])
    shape = (stop - start, max(1, int(sizes_B.max(initial=0))))
    is_candidate_BW = np.arange(shape[1]) < sizes_B[:, None]

    def pad(values_P: np.ndarray) -> np.ndarray:
        table = np.zeros(shape, values_P.dtype)
        table[is_candidate_BW] = values_P[first:last]
        return table

    relevant_BW = pad(candidates.relevant_P)
    relevant = np.flatnonzero(relevant_BW)
    return _Chunk({name: torch.from_numpy(pad(scores)) for name, scores in candidates.scores.items()},
                  torch.from_numpy(pad(candidates.cold_P)), torch.from_numpy(relevant_BW),
                  torch.from_numpy(~is_candidate_BW), pad(candidates.ranks_P), torch.from_numpy(relevant),
                  torch.from_numpy(relevant // shape[1]), candidates.num_relevant_Q[start:stop])


def sample_queries(validation: Validation, num: int, seed: int) -> Validation:
    """Draw at most `num` of the validation queries with a relevant item."""
    rows = np.flatnonzero(np.diff(validation.relevant.indptr))
    if len(rows) > num:
        rows = np.sort(np.random.default_rng(seed).choice(rows, num, replace=False))
    if len(rows) == len(validation.queries):
        return validation
    return replace(validation, queries=validation.queries.rows(rows), relevant=validation.relevant[rows])
