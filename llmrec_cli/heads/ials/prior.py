"""A linear map from item features to item factors.

Shapes: N items, F features, D dimensions of the factors.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.heads.ials.least_squares import SMALLEST

STEPS = 10


class LinearPrior:
    """Ridge regression of factors on features, fitted a little more each time that the factors have moved.

    Minimises sum over items weight_i |y_i - f_i M|^2 + |M|^2 by conjugate gradients, all dimensions together. With M
    and the factors drawn to f_i M this is a Gaussian prior of the factors whose covariance between items is
    1 + f f', as in matrix factorisation with side information (Agarwal and Chen 2009; Cortes 2018).
    """

    def __init__(self, dense_NE: np.ndarray, sparse_NG: sp.csr_array, embedding_size: int,
                 device: torch.device) -> None:
        """Take features in two parts, side by side: F = E + G."""
        self.dense_NE = torch.from_numpy(dense_NE).to(device)
        self.sparse_NG = _sparse(sparse_NG, device)
        self.sparse_GN = _sparse(sp.csr_array(sparse_NG.T), device)
        self.map_FD = torch.zeros((dense_NE.shape[1] + sparse_NG.shape[1], embedding_size), device=device)

    def means(self) -> torch.Tensor:
        """Return what the features alone say of the factors (N, D)."""
        return self._forward(self.map_FD)

    def fit(self, y_ND: torch.Tensor, weights_N1: torch.Tensor) -> None:
        """Take some steps towards the best map for these factors; items of weight 0 have no part in it."""
        scale_F1 = 1 / (1 + self._back(weights_N1.expand(-1, 1), squared=True))
        residual_FD = self._back(weights_N1 * (y_ND - self.means())) - self.map_FD
        step_FD = scale_F1 * residual_FD
        size_D = (residual_FD * step_FD).sum(0)
        for _ in range(STEPS):
            image_FD = self._back(weights_N1 * self._forward(step_FD)) + step_FD
            length_D = torch.where(size_D > SMALLEST, size_D / (step_FD * image_FD).sum(0), 0)
            self.map_FD += length_D * step_FD
            residual_FD -= length_D * image_FD
            towards_FD = scale_F1 * residual_FD
            before_D, size_D = size_D, (residual_FD * towards_FD).sum(0)
            step_FD = towards_FD + torch.where(before_D > SMALLEST, size_D / before_D, 0) * step_FD

    def _forward(self, map_FD: torch.Tensor) -> torch.Tensor:
        num_dense = self.dense_NE.shape[1]
        return self.dense_NE @ map_FD[:num_dense] + self.sparse_NG @ map_FD[num_dense:]

    def _back(self, values_ND: torch.Tensor, squared: bool = False) -> torch.Tensor:
        dense, sparse = self.dense_NE, self.sparse_GN
        if squared:
            dense = dense.square()
            sparse = torch.sparse_csr_tensor(sparse.crow_indices(), sparse.col_indices(), sparse.values().square(),
                                             sparse.shape, check_invariants=False)
        return torch.cat([dense.T @ values_ND, sparse @ values_ND])


def _sparse(matrix: sp.csr_array, device: torch.device) -> torch.Tensor:
    starts, columns, values = (torch.from_numpy(array.astype(dtype)).to(device) for array, dtype in
                               ((matrix.indptr, np.int64), (matrix.indices, np.int64), (matrix.data, np.float32)))
    return torch.sparse_csr_tensor(starts, columns, values, matrix.shape, check_invariants=False)
