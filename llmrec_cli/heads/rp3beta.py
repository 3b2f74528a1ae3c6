"""Item-to-item random walks.

Shapes: U users, N items, Q queries, B target items of a block.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.queries import Queries
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.item_item import ItemItemHead
from llmrec_cli.heads.shared.matrix_products import RightFactor, compact
from llmrec_cli.heads.shared.neighbours import fit_memory, strongest
from llmrec_cli.settings.heads.rp3beta import Rp3BetaSettings


class Rp3Beta(ItemItemHead):
    """Score of an item: probability of reaching it in three steps, user to item to user to item, damped by popularity.

    score(u, j) = sum over i and v of (p(u, i) p(i, v) p(v, j))^alpha / d(j)^beta (RP3beta, Christoffel et al. 2015,
    with the alpha of P3alpha, Cooper et al. 2014). p is the weight of an interaction divided by the sum of its user's
    or item's weights; d(j) is the sum of item j's weights. Differs: a walk never returns to its first item; only the k
    strongest source items of each target item are kept; scores are divided by the mean of the kept item-to-item
    values, which changes no ranking and keeps the scores of large graphs from vanishing.
    """

    settings: Rp3BetaSettings

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of both transition matrices, a block of walks and the kept items."""
        return fit_memory(data, self.settings.k, is_turned=True) + 4 * len(data.interactions)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Find the items from which walks reach each item most."""
        alpha, beta = self.settings.alpha, self.settings.beta
        self.interaction_weights = fit_weights(data, self.settings)
        matrix_UN = compact(self.interaction_weights.matrix(data.interactions))
        matrix_NU = sp.csr_array(matrix_UN.T)
        degree_N = _sums(matrix_NU)
        damping_N = (np.where(degree_N > 0, degree_N, 1.0) ** -beta).astype(np.float32)

        def damp(walks_BN: np.ndarray, items: slice) -> None:
            walks_BN *= damping_N[items, None]

        to_items_NU = sp.csr_array(_steps(matrix_UN, alpha).T)
        to_users_UN = RightFactor(sp.csr_array(_steps(matrix_NU, alpha).T))
        walks_NN = strongest(to_items_NU, to_users_UN, self.settings.k, np.arange(len(damping_N)), damp)
        if walks_NN.nnz:
            walks_NN.data /= walks_NN.data.mean(dtype=np.float64)
        self.keep(sp.csr_array(walks_NN.T))

    def history(self, queries: Queries) -> sp.csr_array:
        """Return the probabilities of a user's first step (Q, N)."""
        return _steps(super().history(queries), self.settings.alpha)


def _sums(matrix: sp.csr_array) -> np.ndarray:
    """Return the sum of each row, float64."""
    return np.asarray(matrix @ np.ones(matrix.shape[1]))


def _steps(weights: sp.csr_array, alpha: float) -> sp.csr_array:
    """Return the probability of each step from a row to a column, to the power of alpha."""
    sums = np.repeat(_sums(weights), np.diff(weights.indptr))
    steps = (weights.data / np.where(sums > 0, sums, 1.0)) ** alpha
    return sp.csr_array((steps.astype(np.float32), weights.indices, weights.indptr), shape=weights.shape)
