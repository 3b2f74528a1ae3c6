"""Cold items for choosing settings: the cold items of validation, or items hidden from training.

Shapes: Q queries, U users, N items, T items in training, C cold items.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import presence
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.recency import Recency
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.base import Context
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import Validation

ENOUGH = 300
"""Fewest validation interactions with cold items for choosing settings on them."""
MOST_QUERIES = 2000
"""Most users for choosing settings, drawn at random."""
HIDDEN_SHARE = 0.2
"""Share of the items in training that are hidden if validation has too few cold items."""
MOST_FOLDS = 5
"""Most disjoint folds of hidden items."""
_MONITOR = "ndcg@10"
"""Metric without validation data."""


@dataclass(frozen=True)
class ColdTask:
    """Ranking task among cold items: queries, interactions to learn from, and relevant cold items.

    Attributes
    ----------
    queries : at most MOST_QUERIES; `history` has weights of interactions and recency, and no times
    relevant_QN : CSR of 1s, cold items only
    matrix_UN : CSR of weights, the interactions to learn from
    trained_T : int64, the items of `matrix_UN`
    cold_N : bool, the candidates
    """

    queries: Queries
    relevant_QN: sp.csr_array
    matrix_UN: sp.csr_array
    trained_T: np.ndarray
    cold_N: np.ndarray
    ranks_N: np.ndarray
    monitor: str

    def value(self, scores_QC: torch.Tensor) -> float:
        """Return the mean metric of scores of the cold items, which are in catalogue order."""
        return float(self.values(scores_QC).mean())

    def values(self, scores_QC: torch.Tensor, monitor: str | None = None) -> np.ndarray:
        """Return the metric of each query, float64 (Q,); `monitor` replaces the task's metric."""
        among = self._among_cold
        return (among if monitor is None else replace(among, monitor=monitor)).values_of(scores_QC.cpu())

    @cached_property
    def _among_cold(self) -> Validation:
        """The validation with the cold items as catalogue; none of them is in a history or seen."""
        cold_C = np.flatnonzero(self.cold_N)
        empty: Any = sp.csr_array((len(self.queries), len(cold_C)), dtype=np.float32)
        queries = replace(self.queries, history=empty, seen=empty)
        return Validation(queries, self.relevant_QN[:, cold_C], np.argsort(np.argsort(self.ranks_N[cold_C])),
                          self.monitor)


def make_cold_task(data: TrainingData, context: Context, weights: InteractionWeights | None = None,
                   recency: Recency | None = None, fold: int | None = None) -> ColdTask | None:
    """Make the task from the cold items of validation, or, if they are too few, from items hidden from training.

    Interactions and histories have the given weights, by default 1, and histories those of `recency` too. `fold`, 0 to
    MOST_FOLDS - 1, always hides items, other ones in each fold. Returns None if hiding items leaves no query with both
    a history and a relevant item.
    """
    weights, recency = weights or InteractionWeights(), recency or Recency()
    validation, matrix = context.validation, weights.matrix(data.interactions)
    rng = np.random.default_rng(context.seed)
    cold_N = data.interactions.item_counts == 0
    if validation is not None and fold is None:
        relevant = _columns(validation.relevant, cold_N)
        if relevant.nnz >= ENOUGH:
            rows = _draw_rows(relevant, rng)
            queries = validation.queries.rows(rows)
            queries = replace(queries, history=recency.weigh(weights.history(queries), queries.times), times=None)
            return ColdTask(queries, relevant[rows], matrix, np.flatnonzero(~cold_N), cold_N, validation.ranks,
                            validation.monitor)
    warm_items = np.flatnonzero(~cold_N)
    hidden_N = np.zeros(len(cold_N), bool)
    num_hidden = int(HIDDEN_SHARE * len(warm_items))
    hidden_N[rng.permutation(warm_items)[(fold or 0) * num_hidden:][:num_hidden]] = True
    relevant, train = presence(_columns(matrix, hidden_N)), _columns(matrix, ~hidden_N)
    relevant = sp.csr_array(relevant.multiply((np.diff(train.indptr) > 0)[:, None]))
    relevant.eliminate_zeros()
    if relevant.nnz == 0:
        return None
    rows = _draw_rows(relevant, rng)
    ids, history = data.users.ids[rows], train[rows]
    times = _columns(data.interactions.times, ~hidden_N)[rows] if data.has_moments else None
    queries = Queries(ids, ids, rows, recency.weigh(history, times), presence(history), np.full(len(rows), "", object))
    monitor, ranks = (_MONITOR, item_hash_ranks(data.items.ids)) if validation is None else (
        validation.monitor, validation.ranks)
    return ColdTask(queries, relevant[rows], train, np.flatnonzero(np.bincount(train.indices, minlength=len(cold_N))),
                    hidden_N, ranks, monitor)


def _columns(matrix: sp.csr_array, mask_N: np.ndarray) -> sp.csr_array:
    """Return the matrix with only the entries in the masked columns."""
    keep = mask_N[matrix.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def _draw_rows(relevant_QN: sp.csr_array, rng: np.random.Generator) -> np.ndarray:
    """Draw at most MOST_QUERIES of the rows with a relevant item, ascending."""
    rows = np.flatnonzero(np.diff(relevant_QN.indptr))
    return rows if len(rows) <= MOST_QUERIES else np.sort(rng.choice(rows, MOST_QUERIES, replace=False))
