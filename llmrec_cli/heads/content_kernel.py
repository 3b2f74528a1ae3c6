"""Item-item weights made of item features: kernel ridge and nearest neighbours.

Shapes: N items, T items in training, M items to be scored, D dense and F sparse features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch


@dataclass(frozen=True)
class UnitFeatures:
    """What is known of items, each of length 1 over both parts; all zeros where nothing is known.

    Attributes
    ----------
    dense_ND : float32 (N, D)
    sparse_NF : CSR float32 (N, F)
    """

    dense_ND: np.ndarray
    sparse_NF: Any

    @classmethod
    def of(cls, dense_ND: np.ndarray, sparse_NF: Any) -> "UnitFeatures":
        """Return features normalised per item."""
        row = np.repeat(np.arange(len(dense_ND)), np.diff(sparse_NF.indptr))
        # Of no rows at all, bincount's sums are whole numbers.
        squares_N = np.bincount(row, sparse_NF.data.astype(np.float64)**2, minlength=len(dense_ND)).astype(np.float64)
        squares_N += np.einsum("nd,nd->n", dense_ND, dense_ND, dtype=np.float64)
        scale_N = (1 / np.sqrt(np.where(squares_N > 0, squares_N, 1))).astype(np.float32)
        sparse = sp.csr_array((sparse_NF.data * scale_N[row], sparse_NF.indices, sparse_NF.indptr), sparse_NF.shape)
        return cls(dense_ND * scale_N[:, None], sparse)

    def rows(self, which: np.ndarray) -> "UnitFeatures":
        """Return the features of the chosen items."""
        return UnitFeatures(self.dense_ND[which], self.sparse_NF[which])

    def cosine(self, others: "UnitFeatures", device: torch.device) -> torch.Tensor:
        """Return the cosine of each of ours with each of the others, float32 (N, M)."""
        cosine_NM = torch.from_numpy(self.dense_ND @ others.dense_ND.T)
        if self.sparse_NF.nnz:
            together_NM = (self.sparse_NF @ sp.csr_array(others.sparse_NF.T)).tocoo()
            cosine_NM.numpy()[together_NM.row, together_NM.col] += together_NM.data
        return cosine_NM.to(device)


def kernel(cosine_TM: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return exp(gamma (cosine - 1)), 0 to 1; the Gaussian kernel of unit vectors, gamma = 1 / sigma^2."""
    return (cosine_TM - 1).mul_(gamma).exp_()


def denoiser(matrix_UT: sp.csr_array, l2: float, device: torch.device) -> torch.Tensor:
    """Return the weights (T, T) of EASE (Steck 2019, eq. 8), which turn a history into scores without chance in it."""
    weights_TT = torch.from_numpy((sp.csr_array(matrix_UT.T) @ matrix_UT).toarray()).to(device)
    weights_TT.diagonal().add_(l2)
    torch.linalg.cholesky(weights_TT, out=weights_TT)
    weights_TT = torch.cholesky_inverse(weights_TT)
    weights_TT /= -weights_TT.diagonal().clone()
    weights_TT.fill_diagonal_(0)
    return weights_TT


def targets(denoiser_TT: torch.Tensor | None, denoise: float, num: int, device: torch.device) -> torch.Tensor:
    """Return (T, T): history x this is what the ridge has to predict for the items in training."""
    if denoise == 0 or denoiser_TT is None:
        return torch.eye(num, device=device)
    mixed_TT = denoiser_TT * denoise
    mixed_TT.diagonal().add_(1 - denoise)
    return mixed_TT


def ridge_factor(cosine_TT: torch.Tensor, gamma: float, l2: float) -> torch.Tensor:
    """Return the Cholesky factor (T, T) of kernel + l2."""
    penalised_TT = kernel(cosine_TT, gamma)
    penalised_TT.diagonal().add_(l2)
    return torch.linalg.cholesky(penalised_TT, out=penalised_TT)


def neighbour_weights(cosine_TM: torch.Tensor, k: int, exponent: float, own_M: torch.Tensor) -> torch.Tensor:
    """Return (T, M): for each item its k nearest in training, their cosine to the power, 0 for the others.

    `own_M` int64 (M,) is the item's own place in training, which is no neighbour of it; -1 where it has none.
    """
    known = (own_M >= 0).nonzero().ravel()
    near_TM = cosine_TM.clone()
    near_TM[own_M[known], known] = 0
    value_KM, place_KM = near_TM.topk(min(k, len(near_TM)), dim=0)
    near_TM.zero_()
    return near_TM.scatter_(0, place_KM, value_KM.clamp_min_(0) ** exponent)


def scale_of(weights_TT: torch.Tensor) -> float:
    """Return the mean size of the weights between two different items, so that unlike weights can be blended."""
    num = len(weights_TT)
    between = float(weights_TT.abs().sum() - weights_TT.diagonal().abs().sum())
    return max(between / max(num * (num - 1), 1), 1e-12)
