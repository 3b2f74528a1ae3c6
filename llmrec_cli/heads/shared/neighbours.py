"""Shared parts of user-kNN and item-kNN: weighting, similarity, nearest neighbours.

Shapes: R query rows, C candidates, F features, B rows of a block.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.shared.matrix_products import BLOCK_CELLS, RightFactor, block_rows, dense_features
from llmrec_cli.settings.heads.neighbours import NeighbourSettings

_TINY = float(np.finfo(np.float32).tiny)


class Weighting:
    """Feature weighting (tfidf or bm25) of rows of interaction weights, fitted on the candidate rows.

    tfidf: the entry times log(1 + C / df); bm25: Robertson and Zaragoza 2009, eq. 3.15, with the entry as the term
    frequency and the row's sum as its length. df and the average length come from the candidate rows, so that a row's
    weights do not depend on the other rows of a call.
    """

    def __init__(self, candidates_CF: sp.csr_array, settings: NeighbourSettings) -> None:
        num_rows, num_features = candidates_CF.shape
        self.settings = settings
        frequency_F = np.bincount(candidates_CF.indices, minlength=num_features)
        self.idf_F = np.log1p(num_rows / np.maximum(frequency_F, 1)).astype(np.float32)
        self.average_length = max(float(candidates_CF.data.sum(dtype=np.float64)) / max(num_rows, 1), 1e-9)

    def __call__(self, matrix_RF: sp.csr_array) -> sp.csr_array:
        """Weight the rows."""
        if self.settings.weighting == "none":
            return matrix_RF
        values = self.idf_F[matrix_RF.indices]
        if self.settings.weighting == "bm25":
            k1, b, entries_R = self.settings.k1, self.settings.b, np.diff(matrix_RF.indptr)
            length_R = matrix_RF @ np.ones(matrix_RF.shape[1], np.float64)
            norm = np.repeat(k1 * (1 - b + b * length_R / self.average_length), entries_R)
            frequency = matrix_RF.data.astype(np.float64)
            # With b=1, length and frequency are 0 in a row of zero weights.
            divisor = norm + frequency
            values *= ((k1 + 1) * frequency / np.where(divisor > 0, divisor, 1.0)).astype(np.float32)
        else:
            values *= matrix_RF.data
        return sp.csr_array((values, matrix_RF.indices, matrix_RF.indptr), shape=matrix_RF.shape)


class Candidates:
    """Candidate rows for neighbours, prepared once: transposed, with the powers of their norms.

    `power` is the exponent of the norm in the similarity's denominator, see `powers`.
    """

    def __init__(self, matrix_CF: sp.csr_array, power: float) -> None:
        self.factor = RightFactor(sp.csr_array(matrix_CF.T))
        self.norm_C = norms(matrix_CF) ** np.float32(power)


def powers(settings: NeighbourSettings) -> tuple[float, float]:
    """Return the exponents of the norms of the target (queried user or scored item) and of its neighbours."""
    target = 2 * settings.asymmetry * settings.normalisation
    return target, 2 * settings.normalisation - target


def norms(matrix_RF: sp.csr_array) -> np.ndarray:
    """Return the Euclidean norm of each row, float32 (R,)."""
    squares = sp.csr_array((matrix_RF.data**2, matrix_RF.indices, matrix_RF.indptr), shape=matrix_RF.shape)
    return np.sqrt(squares @ np.ones(matrix_RF.shape[1], np.float64)).astype(np.float32)


def fit_memory(data: TrainingData, k: int, is_turned: bool = False) -> int:
    """Return the peak bytes of finding the neighbours of all items.

    An interaction is 4 bytes of value and 4 of index, by user and by item. A cell of a block is 4 bytes in the dense
    product, 4 in the BLAS part or in the denominators, and 8 in the sparse product for items that share a user. Ties at
    the k-th neighbour are counted with 4 bytes and 5 bools per cell. An item has no more neighbours than its users have
    other interactions. `is_turned`: True if the neighbours are transposed at the end.
    """
    interactions, num_items = data.interactions, len(data.items)
    nnz, length_U = len(interactions), np.bincount(interactions.user, minlength=interactions.num_users)
    met_N = np.bincount(interactions.item, length_U[interactions.user] - 1, minlength=num_items)
    most_N = np.minimum(met_N, num_items - 1)
    num_neighbours = int(np.minimum(most_N, k).sum())
    dense = len(dense_features(length_U, num_items))
    # The matrix by user, by item and transposed again; with dense features the last is split in two.
    prepared = (4 + 8 + 8) * nnz + 4 * dense * num_items
    cells = min(BLOCK_CELLS, num_items**2)
    block = max(8 * cells + int(8 * cells * most_N.mean() / max(1, num_items)), 13 * cells)
    splitting = 10 * nnz if dense else 0
    turning = 16 * num_neighbours - 8 * nnz if is_turned else 0
    return prepared + max(splitting, block + 8 * num_neighbours, 12 * num_neighbours, turning)


def nearest_neighbours(rows_RF: sp.csr_array, power: float, candidates: Candidates, settings: NeighbourSettings,
                       self_R: np.ndarray) -> sp.csr_array:
    """Return the similarities of each row to its k most similar candidates, CSR (R, C).

    similarity = (a.b / (|a|^power |b|^(the candidates' power) + shrinkage)) ^ exponent; a row with similarity 0 is no
    neighbour. `self_R` (R,) is the row's own position among the candidates, never its own neighbour; -1 for none. Ties
    at the k-th place keep the candidates with the lowest numbers.
    """
    norm_R = norms(rows_RF) ** np.float32(power)

    def normalise(products_BC: np.ndarray, rows: slice) -> None:
        # _TINY avoids division by 0 without shrinkage: empty rows get 0 / tiny. It is far below the norms of rows
        # with small weights.
        products_BC /= norm_R[rows, None] * candidates.norm_C + np.float32(settings.shrinkage + _TINY)

    return strongest(rows_RF, candidates.factor, settings.k, self_R, normalise, settings.exponent)


class Products(Protocol):
    """A right factor of products: `RightFactor`, or one that computes them in another way."""

    shape: tuple[int, int]

    def product(self, left_RF: sp.csr_array) -> np.ndarray:
        """Return left x right, float32 (R, C)."""


def strongest(rows_RF: sp.csr_array, right: Products, k: int, self_R: np.ndarray,
              scale: Callable[[np.ndarray, slice], object], exponent: float = 1.0) -> sp.csr_array:
    """Return the k highest positive products of each row with `right`, to the power `exponent`, CSR (R, C).

    `scale` changes a block of products (B, C) in place; its second argument is the slice of rows. `self_R` as in
    `nearest_neighbours`.
    """
    num_rows, num_candidates = rows_RF.shape[0], right.shape[1]
    size = block_rows(num_candidates)
    values, places = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    length_R = np.zeros(num_rows, np.int64)
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        products_BC = right.product(rows_RF[rows])
        scale(products_BC, rows)
        with_self = np.flatnonzero(self_R[rows] >= 0)
        products_BC[with_self, self_R[rows][with_self]] = 0
        keep_BC = _highest(products_BC, k)
        length_R[rows] = np.count_nonzero(keep_BC, axis=1)
        values.append(products_BC[keep_BC] ** np.float32(exponent))
        places.append((np.flatnonzero(keep_BC) % num_candidates).astype(np.int32))
    return sp.csr_array((_joined(values), _joined(places), np.concatenate([[0], np.cumsum(length_R)])),
                        shape=(num_rows, num_candidates))


def _highest(similarity_BC: np.ndarray, k: int) -> np.ndarray:
    """Return the mask of cells above 0 and among the k highest of their row, bool (B, C)."""
    num_candidates = similarity_BC.shape[1]
    if k >= num_candidates:
        return similarity_BC > 0
    # Copied, so that the partitioned array is freed.
    limit_B = np.partition(similarity_BC, num_candidates - k, axis=1)[:, num_candidates - k].copy()
    keep_BC = similarity_BC >= np.maximum(limit_B, np.finfo(np.float32).tiny)[:, None]
    crowded = np.flatnonzero(np.count_nonzero(keep_BC, axis=1) > k)
    if len(crowded):
        at_limit = similarity_BC[crowded] == limit_B[crowded, None]
        room = k - np.count_nonzero(similarity_BC[crowded] > limit_B[crowded, None], axis=1)
        keep_BC[crowded] &= ~at_limit | (np.cumsum(at_limit, axis=1, dtype=np.int32) <= room[:, None])
    return keep_BC


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    """Concatenate the blocks and free them."""
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined
