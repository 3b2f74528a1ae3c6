"""What user-kNN and item-kNN share: weighting, similarity, the nearest of each row.

Shapes: R rows whose neighbours are sought, C candidates, F features, K neighbours.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.settings.heads.neighbours import NeighbourSettings

BLOCK_CELLS = 2**24
"""Similarities held densely at a time: 64 MB."""


def weighted(matrix_RF: sp.csr_array, weighting: str, known_CF: sp.csr_array) -> sp.csr_array:
    """Return 0/1 rows with each feature weighted by how much it tells.

    tfidf: log(1 + C / df); bm25: Robertson and Zaragoza 2009, eq. 3.15, with k1 = 1.2 and b = 0.75. Frequencies and the
    average length are those of `known_CF`, so that a row's weights don't depend on which rows it comes with.
    """
    if weighting == "none":
        return matrix_RF
    num_rows, num_features = known_CF.shape
    frequency_F = np.bincount(known_CF.indices, minlength=num_features)
    idf_F = np.log1p(num_rows / np.maximum(frequency_F, 1)).astype(np.float32)
    values = idf_F[matrix_RF.indices]
    if weighting == "bm25":
        k1, b = 1.2, 0.75
        length_R = np.diff(matrix_RF.indptr)
        average = max(known_CF.nnz / max(num_rows, 1), 1e-9)
        damping_R = (k1 + 1) / (k1 * (1 - b + b * length_R / average) + 1)
        values = values * np.repeat(damping_R, length_R).astype(np.float32)
    return sp.csr_array((values, matrix_RF.indices, matrix_RF.indptr), shape=matrix_RF.shape)


def norms(matrix_RF: sp.csr_array) -> np.ndarray:
    """Return the Euclidean norm of each row, float32 (R,)."""
    return np.sqrt(matrix_RF.multiply(matrix_RF).sum(axis=1)).astype(np.float32)


def neighbours_memory(num_rows: int, num_candidates: int, num_interactions: int, k: int) -> int:
    """Return the bytes that finding the neighbours of all rows takes at its peak."""
    return 24 * num_interactions + 3 * 4 * min(BLOCK_CELLS, num_rows * num_candidates) + 2 * 16 * num_rows * k


def nearest_neighbours(rows_RF: sp.csr_array, candidates_CF: sp.csr_array, settings: NeighbourSettings,
                       self_R: np.ndarray) -> sp.csr_array:
    """Return the similarities of each row to its k most similar candidates, CSR (R, C).

    similarity = (a.b / (|a| |b| + shrinkage)) ^ exponent. `self_R` (R,) is the row's own place among the candidates,
    which is never its neighbour; -1 where it has none.
    """
    num_rows, num_candidates = rows_RF.shape[0], candidates_CF.shape[0]
    k = min(settings.k, num_candidates)
    norm_R, norm_C = norms(rows_RF), norms(candidates_CF)
    transposed_FC = sp.csr_array(candidates_CF.T)
    size = max(1, BLOCK_CELLS // max(1, num_candidates))
    blocks = []
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        dots_BC = (rows_RF[rows] @ transposed_FC).toarray()
        dots_BC /= norm_R[rows, None] * norm_C[None, :] + settings.shrinkage + 1e-12
        known = np.flatnonzero(self_R[rows] >= 0)
        dots_BC[known, self_R[rows][known]] = 0
        value_BK, place_BK = torch.from_numpy(dots_BC).topk(k, dim=1)
        blocks.append(_sparse(value_BK.numpy() ** settings.exponent, place_BK.numpy(), num_candidates))
    return sp.csr_array(sp.vstack(blocks, format="csr")) if blocks else sp.csr_array((0, num_candidates))


def _sparse(value_BK: np.ndarray, place_BK: np.ndarray, num_candidates: int) -> sp.csr_array:
    num_rows, k = value_BK.shape
    matrix = sp.csr_array((value_BK.ravel(), place_BK.ravel(), np.arange(num_rows + 1) * k),
                          shape=(num_rows, num_candidates))
    matrix.eliminate_zeros()
    return matrix
