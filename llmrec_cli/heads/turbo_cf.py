"""Turbo-CF: a polynomial graph filter.

Shapes: U users, N items in training, Q queries, M items including added ones, B items of a block.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, INTEGER, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import InteractionWeights, fit_weights
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.shared.item_kernel import operations_per_second
from llmrec_cli.heads.shared.matrix_products import (
    ColumnBlocks,
    add_gram,
    gram_memory,
    mirror_in_place,
    popular_first,
    reorder_in_place,
    transpose_in_place,
)
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.turbo_cf import TurboCfSettings

_BLOCK_ITEMS = 256
"""Rows of the filter computed at a time."""
_COEFFICIENTS = {"linear": (1.0,), "second": (2.0, -1.0), "third": (0.71, 0.1, -0.01)}
"""Filter -> factors of P, P^2 and P^3."""


class TurboCf(Head):
    """Score of an item: history x f(P), a low-pass filter of the item graph (Turbo-CF, Park et al. 2024).

    P = (R~' R~)^power, entry by entry, with R~ = D_U^-alpha R D_I^(alpha - 1): R are the interactions (weighted as
    `weight` and `decay` say), D_U and D_I the sums of its rows and columns. f(P) is P, 2 P - P^2, or
    P + 0.01 (-P^3 + 10 P^2 - 29 P). Differs: histories may be weighed by recency.
    """

    settings: TurboCfSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.weights = ColumnBlocks(0)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the item-item matrix, twice with a filter of order 2 or 3, and of its Gram products."""
        num_items, entries = len(data.items), len(data.interactions)
        building = gram_memory(entries, len(data.users), num_items) + 8 * entries
        filtering = 0 if self.settings.filter == "linear" else 4 * num_items**2 + 8 * _BLOCK_ITEMS * num_items
        return 4 * num_items**2 + max(building, filtering)

    def estimate_seconds(self, data: TrainingData, device: torch.device) -> float:
        """Return the time of the filter's matrix products, from the measured speed of one; 0 for a short fit."""
        products = len(_COEFFICIENTS[self.settings.filter]) - 1
        operations = 2 * products * len(data.items)**3
        return operations / operations_per_second(device) if operations > 1e10 else 0.0

    def fit(self, data: TrainingData, context: Context) -> None:
        """Compute the filter of the item graph."""
        self.interaction_weights = fit_weights(data, self.settings)
        num_items = len(data.items)
        normalised_UN = _normalised(self.interaction_weights.matrix(data.interactions), self.settings.alpha)
        order_N = popular_first(data.interactions.item_counts)
        graph_NN = np.zeros((num_items, num_items), np.float32)
        add_gram(graph_NN, sp.csr_array(normalised_UN[:, order_N]))
        mirror_in_place(graph_NN)
        reorder_in_place(graph_NN, np.argsort(order_N))
        # Rounding may leave a value just below 0, which has no power.
        np.maximum(graph_NN, 0, out=graph_NN)
        np.power(graph_NN, np.float32(self.settings.power), out=graph_NN)
        filtered_NN = _filter(graph_NN, _COEFFICIENTS[self.settings.filter], context.device)
        self.weights = ColumnBlocks.of(transpose_in_place(filtered_NN), num_items, num_items)

    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return history x filter (Q, M); new items in a history are ignored."""
        return self.weights.product(self.history(queries)[:, :self.weights.num_rows])

    def add_items(self, items: Catalogue) -> None:
        """Append items that nobody has interacted with yet; they score 0."""
        self.weights.append(np.zeros((self.weights.num_rows, len(items)), np.float32))

    def state(self) -> dict[str, np.ndarray]:
        """Return the filter."""
        return {"weights": self.weights.flat(), "num_trained": np.array([self.weights.num_rows]),
                **self.interaction_weights.state()}

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore the filter."""
        self.interaction_weights = InteractionWeights.read(tensors)
        num_rows = int(tensors.take("num_trained", INTEGER, (1,), low=0, high=len(items))[0])
        self.weights = ColumnBlocks.of(tensors.take("weights", FLOAT, (num_rows * len(items),)), num_rows, len(items))


def _normalised(matrix_UN: sp.csr_array, alpha: float) -> sp.csr_array:
    """Return the interactions divided by (sum of the row)^alpha and (sum of the column)^(1 - alpha)."""
    length_U = np.asarray(matrix_UN @ np.ones(matrix_UN.shape[1]))
    count_N = np.bincount(matrix_UN.indices, matrix_UN.data.astype(np.float64), minlength=matrix_UN.shape[1])
    # Rows and columns without interactions have no entry to divide; a weight is 0 only for an old value.
    by_user = np.repeat(np.where(length_U > 0, length_U, 1)**-alpha, np.diff(matrix_UN.indptr))
    by_item = np.where(count_N > 0, count_N, 1)**(alpha - 1)
    values = (matrix_UN.data * by_user * by_item[matrix_UN.indices]).astype(np.float32)
    return sp.csr_array((values, matrix_UN.indices, matrix_UN.indptr), shape=matrix_UN.shape)


def _filter(graph_NN: np.ndarray, coefficients: tuple[float, ...], device: torch.device) -> np.ndarray:
    """Return the polynomial of a matrix without constant term, by Horner's rule for a block of rows at a time."""
    if coefficients == (1.0,):
        return graph_NN
    graph, filtered_NN = torch.from_numpy(graph_NN).to(device), np.empty_like(graph_NN)
    for start in range(0, len(graph_NN), _BLOCK_ITEMS):
        rows = slice(start, min(start + _BLOCK_ITEMS, len(graph_NN)))
        # Rows of c1 + c2 P, then of c1 + c2 P + c3 P^2, ..., and at last these times P.
        block_BN = coefficients[-1] * graph[rows]
        for coefficient in coefficients[-2:0:-1]:
            block_BN.diagonal(rows.start).add_(coefficient)
            block_BN = block_BN @ graph
        block_BN.diagonal(rows.start).add_(coefficients[0])
        filtered_NN[rows] = (block_BN @ graph).cpu().numpy()
    return filtered_NN
