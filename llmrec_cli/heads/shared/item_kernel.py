"""Item-item weights from item features: kernel ridge and nearest neighbours.

Shapes: N items, T items in training, M scored items, D dense and F sparse features.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.heads.shared.matrix_products import add_gram, gram_memory, inverse_in_place

START_GAMMA, START_L2 = 0.5, 1.0
"""Start values of kernel gamma and ridge penalty in the choice on validation."""
BLOCK_ITEMS = 512
"""Items processed at a time where no full matrix is needed."""
_SPARSE_ROWS = 64
"""Items per block of sparse feature products: many items may share a feature."""


@dataclass(frozen=True)
class UnitFeatures:
    """Features of items, of length 1 over both parts; all zeros for an item without features.

    Attributes
    ----------
    dense_ND : float32 (N, D)
    sparse_NF : CSR float32 (N, F)
    """

    dense_ND: np.ndarray
    sparse_NF: Any

    @classmethod
    def of(cls, dense_ND: np.ndarray, sparse_NF: Any) -> "UnitFeatures":
        """Normalise features per item."""
        row = np.repeat(np.arange(len(dense_ND)), np.diff(sparse_NF.indptr))
        # astype: for an empty matrix bincount returns integers.
        squares_N = np.bincount(row, sparse_NF.data.astype(np.float64)**2, minlength=len(dense_ND)).astype(np.float64)
        squares_N += np.einsum("nd,nd->n", dense_ND, dense_ND, dtype=np.float64)
        scale_N = (1 / np.sqrt(np.where(squares_N > 0, squares_N, 1))).astype(np.float32)
        sparse = sp.csr_array((sparse_NF.data * scale_N[row], sparse_NF.indices, sparse_NF.indptr), sparse_NF.shape)
        return cls(dense_ND * scale_N[:, None], sparse)

    def rows(self, which: np.ndarray) -> "UnitFeatures":
        """Return the features of these items."""
        return UnitFeatures(self.dense_ND[which], self.sparse_NF[which])

    def cosine(self, others: "UnitFeatures", device: torch.device) -> torch.Tensor:
        """Return the cosine of each item with each item of `others`, float32 (N, M)."""
        cosine_NM: np.ndarray = self.dense_ND @ others.dense_ND.T
        if self.sparse_NF.nnz:
            others_FM = sp.csr_array(others.sparse_NF.T)
            for start in range(0, len(cosine_NM), _SPARSE_ROWS):
                rows = slice(start, start + _SPARSE_ROWS)
                cosine_NM[rows] += (self.sparse_NF[rows] @ others_FM).toarray()
        return torch.from_numpy(cosine_NM).to(device)

    def blocks(self, size: int = BLOCK_ITEMS) -> Iterator[tuple[slice, "UnitFeatures"]]:
        """Yield slices of items with their features."""
        for start in range(0, len(self.dense_ND), size):
            some = slice(start, min(start + size, len(self.dense_ND)))
            yield some, UnitFeatures(self.dense_ND[some], self.sparse_NF[some])


def kernel(cosine_TM: torch.Tensor, gamma: float, in_place: bool = False) -> torch.Tensor:
    """Return exp(gamma (cosine - 1)), 0 to 1; the Gaussian kernel of unit vectors, gamma = 1 / sigma^2."""
    return (cosine_TM.sub_(1) if in_place else cosine_TM - 1).mul_(gamma).exp_()


class Denoiser:
    """EASE (Steck 2019, eq. 8), which denoises a history into scores: B = I - P / diag(P).

    P = (X'X + l2)^-1, T x T. With fewer users than items P is never built; products use (I - X' M X) / l2 with
    M = (X X' + l2)^-1, U x U (Woodbury).
    """

    def __init__(self, matrix_UT: sp.csr_array, l2: float, device: torch.device) -> None:
        self.l2, self.device = l2, device
        self.by_users = matrix_UT.shape[0] < matrix_UT.shape[1]
        self.matrix_UT, self.items_TU = sp.csr_array(matrix_UT), sp.csr_array(matrix_UT.T)
        rows = self.items_TU if self.by_users else self.matrix_UT
        inverse = np.zeros((rows.shape[1],) * 2, np.float32)
        add_gram(inverse, rows)
        inverse.flat[::len(inverse) + 1] += l2
        self.inverse = torch.from_numpy(inverse_in_place(inverse, device)).to(device)
        self.diagonal_T1 = self._diagonal()[:, None]

    @staticmethod
    def estimate_memory(num_users: int, num_items: int, num_entries: int) -> tuple[int, int]:
        """Return the bytes of the denoiser, and the additional bytes of building it."""
        size, other = min(num_users, num_items), max(num_users, num_items)
        return 4 * size**2 + 24 * num_entries, gram_memory(num_entries, other, size)

    def _diagonal(self) -> torch.Tensor:
        """Return the diagonal of P, float32 (T,)."""
        if not self.by_users:
            return self.inverse.diagonal().clone()
        explained_T, inverse_UU = np.zeros(len(self.items_TU.indptr) - 1), self.inverse.cpu().numpy()
        for start in range(0, len(explained_T), BLOCK_ITEMS):
            some = self.items_TU[start:start + BLOCK_ITEMS]
            explained_T[start:start + BLOCK_ITEMS] = some.multiply(some @ inverse_UU).sum(axis=1)
        return torch.from_numpy(((1 - explained_T) / self.l2).astype(np.float32)).to(self.device)

    def product(self, some_TB: torch.Tensor) -> torch.Tensor:
        """Return P x columns (T, B)."""
        if not self.by_users:
            return self.inverse @ some_TB
        sums_UB = torch.from_numpy(self.matrix_UT @ some_TB.cpu().numpy()).to(self.device)
        back_TB = torch.from_numpy(self.items_TU @ (self.inverse @ sums_UB).cpu().numpy()).to(self.device)
        return back_TB.neg_().add_(some_TB).div_(self.l2)

    def columns(self, which: np.ndarray) -> torch.Tensor:
        """Return the columns `which` of P (T, B)."""
        if not self.by_users:
            return self.inverse[:, torch.from_numpy(which).to(self.device)]
        through_UB = np.ascontiguousarray((self.items_TU[which] @ self.inverse.cpu().numpy()).T)
        columns_TB = -(self.items_TU @ through_UB)
        columns_TB[which, np.arange(len(which))] += 1
        return torch.from_numpy(columns_TB).to(self.device).div_(self.l2)

    def scores(self, history_QT: torch.Tensor) -> torch.Tensor:
        """Return history x B (Q, T)."""
        return history_QT - (self.product(history_QT.T.contiguous()) / self.diagonal_T1).T


def target_columns(denoiser: Denoiser | None, denoise: float, num: int, which: np.ndarray,
                   device: torch.device) -> torch.Tensor:
    """Return the columns `which` (T, B) of the target matrix, which maps a history to the targets of the ridge."""
    if denoiser is None:
        columns_TB = torch.zeros((num, len(which)), device=device)
    else:
        columns_TB = denoiser.columns(which) * (-denoise / denoiser.diagonal_T1[which, 0])
    place = torch.arange(len(which), device=device)
    columns_TB[torch.from_numpy(which).to(device), place] = 1 - denoise
    return columns_TB


def ridge_inverse(cosine_TT: torch.Tensor, gamma: float, l2: float) -> torch.Tensor:
    """Compute (kernel + l2)^-1 in place of the cosines."""
    penalised_TT = kernel(cosine_TT, gamma, in_place=True)
    penalised_TT.diagonal().add_(l2)
    if penalised_TT.device.type != "cpu":
        return torch.cholesky_inverse(torch.linalg.cholesky(penalised_TT))
    return torch.from_numpy(inverse_in_place(penalised_TT.numpy(), penalised_TT.device))


def ridge_factor(cosine_TT: torch.Tensor, gamma: float, l2: float) -> torch.Tensor:
    """Return the Cholesky factor (T, T) of kernel + l2."""
    penalised_TT = kernel(cosine_TT, gamma)
    penalised_TT.diagonal().add_(l2)
    return torch.linalg.cholesky(penalised_TT, out=penalised_TT)


def neighbour_weights(cosine_TM: torch.Tensor, k: int, exponent: float, own_M: torch.Tensor) -> torch.Tensor:
    """Return weights (T, M): for each item the powered cosines of its k nearest items in training, 0 for the others.

    `own_M` int64 (M,) is the item's own position in training, never its own neighbour; -1 for other items.
    """
    warm = (own_M >= 0).nonzero().ravel()
    near_TM = cosine_TM.clone()
    near_TM[own_M[warm], warm] = 0
    value_KM, place_KM = near_TM.topk(min(k, len(near_TM)), dim=0)
    near_TM.zero_()
    return near_TM.scatter_(0, place_KM, value_KM.clamp_min_(0) ** exponent)


def nearest(warm: UnitFeatures, items: UnitFeatures, k: int, exponent: float, own_M: np.ndarray,
            device: torch.device) -> sp.csr_array:
    """Return the transpose of `neighbour_weights` as CSR (M, T), one row per item."""
    num_warm, num_items = len(warm.dense_ND), len(items.dense_ND)
    width = min(k, num_warm)
    value_MK = np.empty((num_items, width), np.float32)
    place_MK = np.empty((num_items, width), np.int32)
    for some, block in items.blocks():
        cosine_BT = block.cosine(warm, device)
        own_B = torch.from_numpy(own_M[some]).to(device)
        rows = (own_B >= 0).nonzero().ravel()
        cosine_BT[rows, own_B[rows]] = 0
        value_BK, place_BK = cosine_BT.topk(width, dim=1)
        value_MK[some] = (value_BK.clamp_min_(0) ** exponent).cpu().numpy()
        place_MK[some] = place_BK.cpu().numpy()
    indptr = np.arange(num_items + 1, dtype=np.int64) * width
    return sp.csr_array((value_MK.ravel(), place_MK.ravel(), indptr), shape=(num_items, num_warm))


def mean_size(total: float, num_items: int) -> float:
    """Return the mean absolute weight between two different items from their sum `total`; never 0."""
    return max(total / max(num_items * (num_items - 1), 1), 1e-12)


def operations_per_second(device: torch.device) -> float:
    """Measure the speed of matrix products, to predict the time of a fit."""
    size = 768
    square = torch.ones((size, size), device=device)
    started = time.perf_counter()
    float((square @ square).sum())  # float() waits for a GPU.
    return 2 * size**3 / max(time.perf_counter() - started, 1e-9)
