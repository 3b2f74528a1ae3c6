"""The scorer: blocks of queries in, lists out. Evaluation, recommendation and validation all use this one.

Shapes: Q queries, N items, K ranks, B queries of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.errors import DataError
from llmrec_cli.metrics.ranking import METRICS
from llmrec_cli.scoring.topk import require_finite, topk

Score = Callable[[Queries], torch.Tensor]
"""Float scores (B, N) of the whole catalogue for a block of queries."""

BLOCK_CELLS = 2**26
"""Most scores held at a time, whatever the block size: 256 MB."""


@dataclass(frozen=True)
class Lists:
    """Ranked lists, best first.

    Attributes
    ----------
    items_QK : int64 (Q, K), -1 beyond the end of a short list
    scores_QK : float32 (Q, K), -inf there
    tied_Q : bool (Q,), whether equal scores lay on the list or across its end, so that the hash decided
    """

    items_QK: np.ndarray
    scores_QK: np.ndarray
    tied_Q: np.ndarray

    @property
    def tie_rate(self) -> float:
        """Share of the lists that ties had a part in."""
        return float(self.tied_Q.mean()) if len(self.tied_Q) else 0.0


def recommend_lists(score: Score, queries: Queries, k: int, ranks_N: np.ndarray, *, exclude_seen: bool = True,
                    candidates_N: np.ndarray | None = None, block_size: int = 1024) -> Lists:
    """Return the k best items of each query.

    `ranks_N` is `item_hash_ranks` of the catalogue's ids and breaks ties. `candidates_N` (N,) bool restricts what may
    be on a list. A list is shorter than k where fewer items are left; it is never padded with what was left out.
    """
    num_items = len(ranks_N)
    size = max(1, min(block_size, BLOCK_CELLS // max(1, num_items)))
    items_QK = np.full((len(queries), k), -1, np.int64)
    scores_QK = np.full((len(queries), k), -np.inf, np.float32)
    tied_Q = np.zeros(len(queries), bool)
    with torch.inference_mode():
        for start in range(0, len(queries), size):
            block = slice(start, min(start + size, len(queries)))
            rows = queries.rows(block)
            scores_BN = score(rows)
            assert scores_BN.shape == (len(rows), num_items), (scores_BN.shape, len(rows), num_items)
            require_finite(scores_BN, f"queries {start} to {block.stop - 1}")
            scores_BN = _masked(scores_BN, rows.seen if exclude_seen else None, candidates_N)
            items, values, tied = topk(scores_BN, k, torch.as_tensor(ranks_N, device=scores_BN.device))
            items_QK[block], tied_Q[block] = items.cpu().numpy(), tied.cpu().numpy()
            scores_QK[block] = values.float().cpu().numpy()
    return Lists(items_QK, scores_QK, tied_Q)


def hits(items_QK: np.ndarray, relevant_QN: sp.csr_array) -> np.ndarray:
    """Return which entries of the lists are relevant, bool (Q, K); padding never is."""
    num_queries, num_items = relevant_QN.shape
    query = np.repeat(np.arange(num_queries, dtype=np.int64), np.diff(relevant_QN.indptr))
    keys = np.sort(query * num_items + relevant_QN.indices)
    if len(keys) == 0:
        return np.zeros(items_QK.shape, bool)
    wanted_QK = np.arange(num_queries, dtype=np.int64)[:, None] * num_items + items_QK
    found_QK = keys[np.minimum(np.searchsorted(keys, wanted_QK), len(keys) - 1)] == wanted_QK
    return found_QK & (items_QK >= 0)


def validation_metric(score: Score, queries: Queries, relevant_QN: sp.csr_array, monitor: str, ranks_N: np.ndarray,
                      block_size: int = 1024) -> float:
    """Return the mean of `monitor` (`ndcg@10`, ...) over the queries that have relevant items."""
    name, _, k = monitor.partition("@")
    num_relevant_Q = np.diff(relevant_QN.indptr)
    chosen = np.flatnonzero(num_relevant_Q)
    if len(chosen) == 0:
        raise DataError(f"monitor={monitor}: no user known from training has a validation interaction to measure it "
                        f"on; set aside more with split.valid=<fraction>")
    lists = recommend_lists(score, queries.rows(chosen), int(k), ranks_N, block_size=block_size)
    found_QK = hits(lists.items_QK, relevant_QN[chosen])
    return float(METRICS[name](found_QK, num_relevant_Q[chosen], [int(k)]).mean())


def _masked(scores_BN: torch.Tensor, seen_BN: sp.csr_array | None, candidates_N: np.ndarray | None) -> torch.Tensor:
    """Return the scores with -inf at what may not be recommended; the caller's tensor stays as it was."""
    masked_BN = scores_BN
    if candidates_N is not None:
        masked_BN = scores_BN.masked_fill(~torch.as_tensor(candidates_N, device=scores_BN.device), -torch.inf)
    if seen_BN is not None and seen_BN.nnz:
        row = np.repeat(np.arange(seen_BN.shape[0]), np.diff(seen_BN.indptr))
        where = (torch.as_tensor(row, device=scores_BN.device),
                 torch.as_tensor(seen_BN.indices.astype(np.int64), device=scores_BN.device))
        # Copied, since a head may hand out one row expanded over all queries, or a matrix of its own.
        masked_BN = masked_BN.contiguous() if masked_BN is not scores_BN else scores_BN.clone(
            memory_format=torch.contiguous_format)
        masked_BN[where] = -torch.inf
    return masked_BN
