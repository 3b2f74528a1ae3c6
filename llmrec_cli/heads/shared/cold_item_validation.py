"""Cold items to choose on: those of validation, or items hidden from training for the purpose.

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
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights
from llmrec_cli.heads.base import Context
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import Validation

ENOUGH = 300
"""Fewest held-out interactions with cold items in validation that settings are chosen on."""
MOST_QUERIES = 2000
"""Most users that a choice looks at, drawn at random."""
HIDDEN = 0.2
"""Share of the items in training that are hidden where validation has too few cold ones."""
_MONITOR = "ndcg@10"
"""What is looked at without validation."""


@dataclass(frozen=True)
class ColdTask:
    """Users, the items that may be learned from, and cold items to be found among cold items.

    Attributes
    ----------
    queries : at most MOST_QUERIES; `history` has the weights of interactions, and no times
    relevant_QN : CSR of 1s, cold items only
    matrix_UN : CSR of the weights of the interactions that may be learned from
    trained_T : int64, the items that have any
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
        """Return the metric of the scores of the cold items, in the order of the catalogue."""
        return float(self.values(scores_QC).mean())

    def values(self, scores_QC: torch.Tensor) -> np.ndarray:
        """Return the metric of each query, float64 (Q,)."""
        return self._among_cold.values_of(scores_QC.cpu())

    @cached_property
    def _among_cold(self) -> Validation:
        """The validation whose catalogue are the cold items: none of them is in a history or seen."""
        cold_C = np.flatnonzero(self.cold_N)
        nothing: Any = sp.csr_array((len(self.queries), len(cold_C)), dtype=np.float32)
        queries = replace(self.queries, history=nothing, seen=nothing)
        return Validation(queries, self.relevant_QN[:, cold_C], np.argsort(np.argsort(self.ranks_N[cold_C])),
                          self.monitor)


def cold_task(data: TrainingData, context: Context, weights: InteractionWeights | None = None) -> ColdTask | None:
    """Return cold items to choose on: those of validation or, where they are too few, some hidden from training.

    Interactions and histories have these weights, 1 where none are given. None where there is nothing to hide or nobody
    who would miss it.
    """
    weights = InteractionWeights() if weights is None else weights
    validation, matrix = context.validation, weights.matrix(data.interactions)
    rng = np.random.default_rng(context.seed)
    cold_N = data.interactions.item_counts == 0
    if validation is not None:
        relevant = _columns(validation.relevant, cold_N)
        if relevant.nnz >= ENOUGH:
            rows = _drawn(relevant, rng)
            queries = validation.queries.rows(rows)
            queries = replace(queries, history=weights.history(queries), times=None)
            return ColdTask(queries, relevant[rows], matrix, np.flatnonzero(~cold_N), cold_N, validation.ranks,
                            validation.monitor)
    trained = np.flatnonzero(~cold_N)
    hidden_N = np.zeros(len(cold_N), bool)
    hidden_N[rng.permutation(trained)[: int(HIDDEN * len(trained))]] = True
    relevant, kept = presence(_columns(matrix, hidden_N)), _columns(matrix, ~hidden_N)
    relevant = sp.csr_array(relevant.multiply((np.diff(kept.indptr) > 0)[:, None]))
    relevant.eliminate_zeros()
    if relevant.nnz == 0:
        return None
    rows = _drawn(relevant, rng)
    ids, history = data.users.ids[rows], kept[rows]
    queries = Queries(ids, ids, rows, history, presence(history), np.full(len(rows), "", object))
    monitor, ranks = (_MONITOR, item_hash_ranks(data.items.ids)) if validation is None else (
        validation.monitor, validation.ranks)
    return ColdTask(queries, relevant[rows], kept, np.flatnonzero(np.bincount(kept.indices, minlength=len(cold_N))),
                    hidden_N, ranks, monitor)


def _columns(matrix: sp.csr_array, kept_N: np.ndarray) -> sp.csr_array:
    """Return the matrix with the entries of the other columns left out."""
    kept = kept_N[matrix.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _drawn(relevant_QN: sp.csr_array, rng: np.random.Generator) -> np.ndarray:
    """Return the rows with something to find, ascending, at most MOST_QUERIES of them."""
    rows = np.flatnonzero(np.diff(relevant_QN.indptr))
    return rows if len(rows) <= MOST_QUERIES else np.sort(rng.choice(rows, MOST_QUERIES, replace=False))
