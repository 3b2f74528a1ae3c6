"""Shared parts of user-kNN and item-kNN: weighting, similarity, the nearest of each row.

Shapes: R rows whose neighbours are sought, C candidates, F features, B rows of a block.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.heads.shared.matrix_products import BLOCK_CELLS, RightFactor, block_rows, dense_features
from llmrec_cli.settings.heads.neighbours import NeighbourSettings

_TINY = float(np.finfo(np.float32).tiny)


class Weighting:
    """Weights of the features of rows, whose entries are the weights of interactions, from the rows that are known.

    tfidf: the entry times log(1 + C / df); bm25: Robertson and Zaragoza 2009, eq. 3.15, with the entry as the term
    frequency, and its sum as the length of a row. df and the average length are those of the known rows, so that a
    row's weights don't depend on which rows it comes with.
    """

    def __init__(self, known_CF: sp.csr_array, settings: NeighbourSettings) -> None:
        num_rows, num_features = known_CF.shape
        self.settings = settings
        frequency_F = np.bincount(known_CF.indices, minlength=num_features)
        self.idf_F = np.log1p(num_rows / np.maximum(frequency_F, 1)).astype(np.float32)
        self.average_length = max(float(known_CF.data.sum(dtype=np.float64)) / max(num_rows, 1), 1e-9)

    def __call__(self, matrix_RF: sp.csr_array) -> sp.csr_array:
        """Return the rows with their weights."""
        if self.settings.weighting == "none":
            return matrix_RF
        values = self.idf_F[matrix_RF.indices]
        if self.settings.weighting == "bm25":
            k1, b, entries_R = self.settings.k1, self.settings.b, np.diff(matrix_RF.indptr)
            length_R = matrix_RF @ np.ones(matrix_RF.shape[1], np.float64)
            norm = np.repeat(k1 * (1 - b + b * length_R / self.average_length), entries_R)
            frequency = matrix_RF.data.astype(np.float64)
            # Where a row weighs 0, length and frequency are 0 with b=1.
            divisor = norm + frequency
            values *= ((k1 + 1) * frequency / np.where(divisor > 0, divisor, 1.0)).astype(np.float32)
        else:
            values *= matrix_RF.data
        return sp.csr_array((values, matrix_RF.indices, matrix_RF.indptr), shape=matrix_RF.shape)


class Candidates:
    """Rows that neighbours are chosen from, prepared once: turned round, with the powers of their norms.

    `power` of the norm goes into the denominator of the similarity, see `powers`.
    """

    def __init__(self, matrix_CF: sp.csr_array, power: float) -> None:
        self.factor = RightFactor(sp.csr_array(matrix_CF.T))
        self.norm_C = norms(matrix_CF) ** np.float32(power)


def powers(settings: NeighbourSettings) -> tuple[float, float]:
    """Return the powers of the norms of what is recommended to or about, and of what it is compared with."""
    target = 2 * settings.asymmetry * settings.normalisation
    return target, 2 * settings.normalisation - target


def norms(matrix_RF: sp.csr_array) -> np.ndarray:
    """Return the Euclidean norm of each row, float32 (R,)."""
    squares = sp.csr_array((matrix_RF.data**2, matrix_RF.indices, matrix_RF.indptr), shape=matrix_RF.shape)
    return np.sqrt(squares @ np.ones(matrix_RF.shape[1], np.float64)).astype(np.float32)


def fit_memory(data: TrainingData, k: int, is_turned: bool = False) -> int:
    """Return the bytes that finding the neighbours of all items takes at its peak.

    An interaction is 4 bytes of value and 4 of index, by user and by item. A cell of a block is 4 bytes in the dense
    product, 4 in the part that BLAS adds or in the denominators, and where two items meet 8 in the sparse product. Of
    many items the last of the k neighbours are equally similar, which are then counted: 4 bytes and 5 bool for a cell.
    An item has no more neighbours than its users have other interactions. `is_turned`: whether the
    neighbours are turned round at the end.
    """
    interactions, num_items = data.interactions, len(data.items)
    nnz, length_U = len(interactions), np.bincount(interactions.user, minlength=interactions.num_users)
    met_N = np.bincount(interactions.item, length_U[interactions.user] - 1, minlength=num_items)
    most_N = np.minimum(met_N, num_items - 1)
    kept = int(np.minimum(most_N, k).sum())
    dense = len(dense_features(length_U, num_items))
    # Values of the matrix, by item and turned round again, which is split in two where there are dense features.
    prepared = (4 + 8 + 8) * nnz + 4 * dense * num_items
    cells = min(BLOCK_CELLS, num_items**2)
    block = max(8 * cells + int(8 * cells * most_N.mean() / max(1, num_items)), 13 * cells)
    splitting = 10 * nnz if dense else 0
    turned = 16 * kept - 8 * nnz if is_turned else 0
    return prepared + max(splitting, block + 8 * kept, 12 * kept, turned)


def nearest_neighbours(rows_RF: sp.csr_array, power: float, candidates: Candidates, settings: NeighbourSettings,
                       self_R: np.ndarray) -> sp.csr_array:
    """Return the similarities of each row to its k most similar candidates, CSR (R, C).

    similarity = (a.b / (|a|^power |b|^(the candidates' power) + shrinkage)) ^ exponent; one of 0 is no neighbour.
    `self_R` (R,) is the row's own place among the candidates, which is never its neighbour; -1 where it has none.
    Of equally similar candidates at the end of the k, those named first are kept.
    """
    norm_R = norms(rows_RF) ** np.float32(power)

    def normalise(products_BC: np.ndarray, rows: slice) -> None:
        # Without shrinkage, nothing is divided by 0: empty rows get 0 / tiny, which is far below what rows of small
        # weights have as their norms.
        products_BC /= norm_R[rows, None] * candidates.norm_C + np.float32(settings.shrinkage + _TINY)

    return strongest(rows_RF, candidates.factor, settings.k, self_R, normalise, settings.exponent)


def strongest(rows_RF: sp.csr_array, right: RightFactor, k: int, self_R: np.ndarray,
              scale: Callable[[np.ndarray, slice], object], exponent: float = 1.0) -> sp.csr_array:
    """Return the k highest of each row of the product of rows with `right`, above 0, to the power, CSR (R, C).

    `scale` changes a block of products (B, C) in place; it is given which rows they are. `self_R` is as above.
    """
    num_rows, num_candidates = rows_RF.shape[0], right.shape[1]
    size = block_rows(num_candidates)
    values, places = [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    length_R = np.zeros(num_rows, np.int64)
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        products_BC = right.product(rows_RF[rows])
        scale(products_BC, rows)
        known = np.flatnonzero(self_R[rows] >= 0)
        products_BC[known, self_R[rows][known]] = 0
        kept_BC = _highest(products_BC, k)
        length_R[rows] = np.count_nonzero(kept_BC, axis=1)
        values.append(products_BC[kept_BC] ** np.float32(exponent))
        places.append((np.flatnonzero(kept_BC) % num_candidates).astype(np.int32))
    return sp.csr_array((_joined(values), _joined(places), np.concatenate([[0], np.cumsum(length_R)])),
                        shape=(num_rows, num_candidates))


def _highest(similarity_BC: np.ndarray, k: int) -> np.ndarray:
    """Return which cells are above 0 and among the k highest of their row, bool (B, C)."""
    num_candidates = similarity_BC.shape[1]
    if k >= num_candidates:
        return similarity_BC > 0
    # Copied, so that the whole of what was partitioned need not be held.
    limit_B = np.partition(similarity_BC, num_candidates - k, axis=1)[:, num_candidates - k].copy()
    kept_BC = similarity_BC >= np.maximum(limit_B, np.finfo(np.float32).tiny)[:, None]
    crowded = np.flatnonzero(np.count_nonzero(kept_BC, axis=1) > k)
    if len(crowded):
        at_limit = similarity_BC[crowded] == limit_B[crowded, None]
        room = k - np.count_nonzero(similarity_BC[crowded] > limit_B[crowded, None], axis=1)
        kept_BC[crowded] &= ~at_limit | (np.cumsum(at_limit, axis=1, dtype=np.int32) <= room[:, None])
    return kept_BC


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    """Return the blocks as one array, and let go of them."""
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined
