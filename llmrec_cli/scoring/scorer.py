"""The scorer: blocks of queries in, lists out; used by evaluation, recommendation and validation.

Shapes: Q queries, N items, K ranks, B queries of a block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.distributed import map_shared
from llmrec_cli.errors import DataError
from llmrec_cli.metrics.hits import Gains, monitored_values
from llmrec_cli.pace import timed_parts
from llmrec_cli.scoring.blocks import Allowed, RankedBlock, rank_block
from llmrec_cli.scoring.topk import require_finite

Score = Callable[[Queries], torch.Tensor]
"""Float scores (B, N) of the whole catalogue for a block of queries."""

VALIDATION_BLOCK = 1024
"""Number of validation queries per block."""
BLOCK_CELLS = 2**26
"""Maximum number of scores in memory at once, for any block size: 256 MB."""


@dataclass(frozen=True)
class Lists:
    """Ranked lists, best first.

    Attributes
    ----------
    items_QK : int32 (Q, K), -1 beyond the end of a short list
    scores_QK : float32 (Q, K), -inf there
    tied_Q : bool (Q,), True if the list has equal scores, or its last score equals that of an item beyond its end
    constant_Q : bool (Q,), True if the query has at least two candidates and all have the same score
    last_size_Q : int32 (Q,), number of candidates with the score of the last on the list, including those beyond it
    relevant_scores : float32, score of each entry of `relevant_QN`, -inf if it was not a candidate; None if no relevant
        items were given
    auc_Q : float64 (Q,), AUC of each query over all its candidates, equal scores counting half; NaN where no candidate
        or every one is relevant; None if no relevant items were given
    """

    items_QK: np.ndarray
    scores_QK: np.ndarray
    tied_Q: np.ndarray
    constant_Q: np.ndarray
    last_size_Q: np.ndarray
    relevant_scores: np.ndarray | None = None
    auc_Q: np.ndarray | None = None

    @property
    def tie_rate(self) -> float:
        """Share of the lists with ties."""
        return float(self.tied_Q.mean()) if len(self.tied_Q) else 0.0

    @property
    def degenerate(self) -> float:
        """Share of the queries whose candidates all have the same score."""
        return float(self.constant_Q.mean()) if len(self.constant_Q) else 0.0


def recommend_lists(score: Score, queries: Queries, k: int, ranks_N: np.ndarray, *, exclude_seen: bool = True,
                    candidates_N: np.ndarray | None = None, candidates_QN: sp.csr_array | None = None,
                    relevant_QN: sp.csr_array | None = None, block_size: int = 1024) -> Lists:
    """Return the k best items of each query.

    `ranks_N` is `item_hash_ranks` of the catalogue's ids and breaks ties. `candidates_N` (N,) bool are the items
    that may be on any list, `candidates_QN` those of each query. A list is shorter than k if fewer items are left; it
    is never padded with excluded items. With `relevant_QN`, canonical CSR, the lists have `relevant_scores` and
    `auc_Q`.
    """
    penalty_N = _penalty(len(ranks_N), candidates_N)

    def rank(block: slice) -> RankedBlock:
        rows = queries.rows(block)
        scores_BN = score(rows)
        assert scores_BN.shape == (len(rows), len(ranks_N)), \
            f"the head gave scores of shape {tuple(scores_BN.shape)} for {len(rows)} queries and {len(ranks_N)} items"
        require_finite(scores_BN, f"queries {block.start} to {block.stop - 1}")
        allowed = Allowed(rows.seen if exclude_seen else None,
                          None if candidates_QN is None else candidates_QN[block], penalty_N)
        return rank_block(scores_BN, k, ranks_N, allowed, None if relevant_QN is None else relevant_QN[block])

    lists = _empty(len(queries), k, None if relevant_QN is None else relevant_QN.nnz)
    query_blocks = blocks(len(queries), len(ranks_N), block_size)
    with torch.inference_mode():
        for block, ranked in zip(_timed("ranked", query_blocks), map_shared(rank, query_blocks), strict=True):
            _store(lists, block, ranked, relevant_QN)
    return lists


def block_lists(scores_BN: torch.Tensor, queries: Queries, k: int, ranks_N: np.ndarray, *, exclude_seen: bool = True,
                candidates_N: np.ndarray | None = None, candidates_BN: sp.csr_array | None = None) -> Lists:
    """Return the k best items of one block of queries from its finite scores, in this process only."""
    allowed = Allowed(queries.seen if exclude_seen else None, candidates_BN, _penalty(len(ranks_N), candidates_N))
    lists = _empty(len(queries), k, None)
    if len(queries):
        _store(lists, slice(0, len(queries)), rank_block(scores_BN, k, ranks_N, allowed, None), None)
    return lists


def blocks(num_queries: int, num_items: int, block_size: int) -> list[slice]:
    """Return blocks of at most `block_size` queries with at most BLOCK_CELLS scores each."""
    size = max(1, min(block_size, BLOCK_CELLS // max(1, num_items)))
    return [slice(start, min(start + size, num_queries)) for start in range(0, num_queries, size)]


def _timed(title: str, query_blocks: Sequence[slice]) -> Iterator[slice]:
    """Yield the blocks, and count their queries in the lines that long work prints."""
    return timed_parts(title, "queries", query_blocks, counts=[each.stop - each.start for each in query_blocks],
                       quiet=True)


def _penalty(num_items: int, candidates_N: np.ndarray | None) -> np.ndarray:
    """Return the penalty added to the scores of each item: 0 for candidates, else -inf."""
    return np.where(np.ones(num_items, bool) if candidates_N is None else candidates_N, 0, -np.inf).astype(np.float32)


def _empty(num_queries: int, k: int, num_relevant: int | None) -> Lists:
    return Lists(np.full((num_queries, k), -1, np.int32), np.full((num_queries, k), -np.inf, np.float32),
                 np.zeros(num_queries, bool), np.zeros(num_queries, bool), np.zeros(num_queries, np.int32),
                 None if num_relevant is None else np.full(num_relevant, -np.inf, np.float32),
                 None if num_relevant is None else np.full(num_queries, np.nan))


def _store(lists: Lists, block: slice, ranked: RankedBlock, relevant_QN: sp.csr_array | None) -> None:
    lists.items_QK[block], lists.scores_QK[block] = ranked.top.items_QK, ranked.top.scores_QK
    lists.tied_Q[block], lists.constant_Q[block] = ranked.top.tied_Q, ranked.constant_B
    lists.last_size_Q[block] = ranked.top.last_size_Q
    if relevant_QN is not None and lists.relevant_scores is not None and lists.auc_Q is not None:
        lists.auc_Q[block] = ranked.auc_B
        lists.relevant_scores[relevant_QN.indptr[block.start]:relevant_QN.indptr[block.stop]] = ranked.relevant_R


def hits(items_QK: np.ndarray, relevant_QN: sp.csr_array) -> np.ndarray:
    """Return a mask of the relevant entries of the lists, bool (Q, K); padding is never relevant."""
    num_queries, num_items = relevant_QN.shape
    query = np.repeat(np.arange(num_queries, dtype=np.int64), np.diff(relevant_QN.indptr))
    keys = np.sort(query * num_items + relevant_QN.indices)
    if len(keys) == 0:
        return np.zeros(items_QK.shape, bool)
    keys_QK = np.arange(num_queries, dtype=np.int64)[:, None] * num_items + items_QK
    is_hit_QK = keys[np.minimum(np.searchsorted(keys, keys_QK), len(keys) - 1)] == keys_QK
    return is_hit_QK & (items_QK >= 0)


def graded(items_QK: np.ndarray, gains_QN: sp.csr_array) -> Gains:
    """Return the gains of lists and of ideal lists; `gains_QN` has the gain, above 0, of each relevant item."""
    num_queries, num_items = gains_QN.shape
    lengths_Q = np.diff(gains_QN.indptr)
    query = np.repeat(np.arange(num_queries, dtype=np.int64), lengths_Q)
    order = np.argsort(query * num_items + gains_QN.indices)
    gains_QK = np.zeros(items_QK.shape)
    keys = (query * num_items + gains_QN.indices)[order]
    places = np.nonzero(hits(items_QK, gains_QN))
    gains_QK[places] = gains_QN.data[order][np.searchsorted(keys, places[0] * num_items + items_QK[places])]
    ideal_QI = np.zeros((num_queries, int(lengths_Q.max(initial=0))))
    ideal_QI[query, np.arange(len(query)) - gains_QN.indptr[query]] = gains_QN.data
    return Gains(gains_QK, -np.sort(-ideal_QI, axis=1))


def validation_values(score: Score, queries: Queries, relevant_QN: sp.csr_array, monitor: str, ranks_N: np.ndarray,
                      block_size: int = VALIDATION_BLOCK) -> np.ndarray:
    """Return `monitor` (`ndcg@10`, ...) of each query that has relevant items, float64, in query order."""
    num_relevant_Q = np.diff(relevant_QN.indptr)
    rows = np.flatnonzero(num_relevant_Q)
    if len(rows) == 0:
        raise DataError(f"monitor={monitor}: no user with training interactions has validation interactions; hold "
                        f"out more with split.valid=<fraction>")
    lists = recommend_lists(score, queries.rows(rows), int(monitor.partition("@")[2]), ranks_N, block_size=block_size)
    is_hit_QK = hits(lists.items_QK, relevant_QN[rows])
    return monitored_values(monitor, is_hit_QK, num_relevant_Q[rows])


def pair_scores(score: Score, queries: Queries, pairs_QN: sp.csr_array, *, block_size: int = 1024) -> np.ndarray:
    """Return the score of every entry of `pairs_QN`, in its order, float32 (P,).

    Blocks are scored over the whole catalogue, as for lists, so a pair has the same score as on a list. Queries without
    a pair are not scored.
    """
    rows_with_pairs = np.flatnonzero(np.diff(pairs_QN.indptr))

    def gather(block: slice) -> np.ndarray:
        rows = rows_with_pairs[block]
        scores_BN = score(queries.rows(rows))
        require_finite(scores_BN, f"queries {block.start} to {block.stop - 1}")
        pairs = pairs_QN[rows]
        row = np.repeat(np.arange(len(rows)), np.diff(pairs.indptr))
        where = (torch.from_numpy(row), torch.from_numpy(pairs.indices.astype(np.int64)))
        scores: np.ndarray = scores_BN[tuple(index.to(scores_BN.device) for index in where)].float().cpu().numpy()
        return scores

    with torch.inference_mode():
        query_blocks = blocks(len(rows_with_pairs), pairs_QN.shape[1], block_size)
        parts = [part for _, part in zip(_timed("scored pairs of", query_blocks), map_shared(gather, query_blocks),
                                         strict=True)]
    return np.concatenate([np.zeros(0, np.float32), *parts])
