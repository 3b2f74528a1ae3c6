"""Half-steps of alternating least squares: ridge regressions of many rows on fixed factors, with a prior from features.

Shapes: R rows to solve for, C columns with fixed factors, D dimensions, B rows of a batch, Z pairs observed in it.

Row r minimises (Rendle et al. 2022, eq. 3, for one row)

    sum over its observed columns c_rc (1 - x.y_c)^2  +  w * sum over all columns (x.y_c)^2
        +  penalty_r * |x - prior_r|^2

where c_rc is the weight of the interaction, 1 unless interactions are weighted. An observed pair has the confidence
w (1 + alpha c_rc) with alpha = 1 / w, an unobserved pair w (Hu et al. 2008, eq. 3). Conjugate gradients start from the
current x (Takacs et al. 2011), so each step lowers the loss. Differs: all rows of a batch step together on the
compressed rows, without padding: products of observed pairs only, then sums of the factors by row. And the steps are
preconditioned by the expected matrix of a row whose weights sum to n,

    w * Y'Y + penalty + n * (weighted mean of y y' over observed pairs)

which the solutions of one generalised eigenproblem, D by D, make diagonal for all rows at once. One step then does the
work of three or more without preconditioning.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.errors import DivergedError

BATCH_BYTES = 2**22
"""Working set of a batch of rows: a part of the last cache level."""
_CHUNK_ROWS = 2**14
_MOST_STEPS = 200
_ROUNDING = 1e-7
"""Share of the first residual that counts as 0: below it are rounding errors of float32."""
_SMALLEST = 1e-37
"""Squared residual that always counts as 0: division by anything smaller gives infinity."""

# torch warns once per process; the tests compare the two products used here with dense products.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


@dataclass(frozen=True)
class Penalty:
    """Ridge penalty of a row, growing with its observed pairs (Rendle et al. 2022, eq. 5).

    `scale * (n + offset)^exponent`, where n is the sum of the observed pairs' weights and `offset` the weight of all
    unobserved pairs. `usual` is n in the row of a random interaction.
    """

    scale: float
    offset: float
    exponent: float
    usual: float

    @classmethod
    def of(cls, counts_R: np.ndarray, offset: float, mean: float, exponent: float) -> "Penalty":
        """Return the penalty of rows with these counts, scaled to this mean."""
        sizes_R = counts_R.astype(np.float64) + offset
        return cls(float(mean / (sizes_R**exponent).mean()), offset, exponent,
                   float((counts_R.astype(np.float64)**2).sum() / counts_R.sum()))

    def __call__(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the penalty of rows with these numbers of observed columns."""
        return self.scale * (counts + self.offset)**self.exponent

    def line(self) -> tuple[float, float]:
        """Return penalty(0) and slope of the tangent at the usual count, both at least 0."""
        at = self.usual + self.offset
        slope = self.scale * self.exponent * at**(self.exponent - 1)
        return self.scale * at**self.exponent - self.usual * slope, slope


@dataclass(frozen=True)
class Batch:
    """Rows that are solved together.

    Attributes
    ----------
    rows : their positions
    counts_B1 : numbers of observed columns, or the sums of their weights
    starts, columns : the observed columns, as CSR
    weights : float32 (Z,), c above; None if all are 1
    """

    rows: slice
    counts_B1: torch.Tensor
    starts: torch.Tensor
    columns: torch.Tensor
    num_columns: int
    weights: torch.Tensor | None = None

    def weighted(self, values_Z: torch.Tensor) -> torch.Tensor:
        """Multiply the values of the observed pairs by the pairs' weights."""
        return values_Z if self.weights is None else values_Z * self.weights

    def products(self, x_BD: torch.Tensor, y_CD: torch.Tensor) -> torch.Tensor:
        """Return x.y of the observed pairs (Z,)."""
        return torch.sparse.sampled_addmm(self._matrix(x_BD.new_zeros(len(self.columns))), x_BD, y_CD.T,
                                          beta=0.0).values()

    def sums(self, values_Z: torch.Tensor, y_CD: torch.Tensor) -> torch.Tensor:
        """Return the sum of y times the pair's value, for each row (B, D)."""
        matrix = self._matrix(values_Z)
        # The first form is twice as fast but exists only on the CPU.
        return torch.sparse.mm(matrix, y_CD, "sum") if values_Z.device.type == "cpu" else matrix @ y_CD

    def _matrix(self, values_Z: torch.Tensor) -> torch.Tensor:
        return torch.sparse_csr_tensor(self.starts, self.columns, values_Z, (len(self.counts_B1), self.num_columns),
                                       check_invariants=False)


class Observed:
    """The observed columns of each row, in batches whose working set fits into the cache.

    If `weighted`, the entries of the matrix are the weights of pairs, above 0; otherwise all pairs weigh 1. Rows of
    similar length should be neighbours, because a batch runs until its last row has converged.
    """

    def __init__(self, matrix_RC: sp.csr_array, embedding_size: int, device: torch.device,
                 weighted: bool = False) -> None:
        self.num_rows, self.num_columns = matrix_RC.shape
        self.starts = torch.from_numpy(matrix_RC.indptr.astype(np.int64))
        self.columns = torch.from_numpy(matrix_RC.indices.astype(np.int32, copy=False)).to(device)
        self.weights = torch.from_numpy(matrix_RC.data.astype(np.float32)).to(device) if weighted else None
        counts_R = matrix_RC @ np.ones(self.num_columns, np.float64) if weighted else np.diff(matrix_RC.indptr)
        self.counts_R = torch.from_numpy(counts_R.astype(np.float32))
        cost_R = np.cumsum(24 * embedding_size + 12 * np.diff(matrix_RC.indptr).astype(np.int64))
        self.bounds = np.append(np.unique(cost_R // BATCH_BYTES, return_index=True)[1], self.num_rows).tolist()

    def batches(self) -> Iterator[Batch]:
        """Yield all rows, in order."""
        for first, end in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            starts = self.starts[first:end + 1]
            low, high = int(starts[0]), int(starts[-1])
            counts_B1 = self.counts_R[first:end, None].to(self.columns.device)
            yield Batch(slice(first, end), counts_B1, (starts - low).to(self.columns.device, torch.int32),
                        self.columns[low:high], self.num_columns,
                        None if self.weights is None else self.weights[low:high])


class Ridge:
    """Fixed factors, shared by all rows, in the basis that makes the expected normal equations diagonal."""

    def __init__(self, y_CD: torch.Tensor, counts_C: torch.Tensor, unobserved: float, penalty: Penalty) -> None:
        """Prepare for fixed factors.

        `counts_C` is the sum of the weights of each column's observed pairs; columns with 0 are left out of the loss.
        `unobserved` is w above.
        """
        self.penalty = penalty
        self.base, slope = penalty.line()
        all_DD, observed_DD = _grams(y_CD, counts_C)
        eye_DD = torch.eye(len(all_DD), dtype=torch.float64)
        shared_DD = unobserved * all_DD + self.base * eye_DD
        factor_DD, failed = torch.linalg.cholesky_ex(shared_DD)
        if failed or not torch.isfinite(factor_DD).all():
            raise DivergedError(f"head=ials: the normal equations cannot be solved with a penalty of {self.base:.3g} "
                                f"and factors up to {float(y_CD.abs().max()):.3g}; choose a head.l2 nearer to its "
                                f"default")
        half_DD = torch.linalg.solve_triangular(factor_DD, observed_DD + slope * eye_DD, upper=False)
        per_pair_DD = torch.linalg.solve_triangular(factor_DD, half_DD.T.contiguous(), upper=False)
        expected_D, basis_DD = torch.linalg.eigh((per_pair_DD + per_pair_DD.T) / 2)
        basis_DD = torch.linalg.solve_triangular(factor_DD.T, basis_DD, upper=True)
        into_DD, gram_DD = shared_DD @ basis_DD, basis_DD.T @ basis_DD
        self.basis_DD, self.into_DD, self.gram_DD, self.expected_D = (
            t.to(y_CD.device, torch.float32) for t in (basis_DD, into_DD, gram_DD, expected_D.clamp(min=0)))
        self.y_CD = y_CD @ self.basis_DD

    def improve(self, observed: Observed, x_RD: torch.Tensor, num_steps: int,
                prior_RD: torch.Tensor | None = None) -> None:
        """Take `num_steps` steps from `x_RD`, in place."""
        for batch in observed.batches():
            prior_BD = None if prior_RD is None else prior_RD[batch.rows]
            x_RD[batch.rows] = self._steps(batch, x_RD[batch.rows], prior_BD, num_steps, 0.0)

    def solve(self, observed: Observed, tolerance: float) -> torch.Tensor:
        """Return the solutions (R, D), each solved until its residual is `tolerance` times the residual at 0.

        Rows stop independently, so a solution does not depend on the other rows.
        """
        x_RD = self.y_CD.new_empty((observed.num_rows, self.y_CD.shape[1]))
        for batch in observed.batches():
            x_RD[batch.rows] = self._steps(batch, None, None, _MOST_STEPS, tolerance)
        return x_RD

    def _steps(self, batch: Batch, start_BD: torch.Tensor | None, prior_BD: torch.Tensor | None, num_steps: int,
               tolerance: float) -> torch.Tensor:
        """Return x (B, D) after preconditioned conjugate gradients (Golub and Van Loan 2013, algorithm 11.5.1)."""
        penalty_B1 = self.penalty(batch.counts_B1)
        above_B1 = penalty_B1 - self.base
        inverse_BD = 1 / (1 + batch.counts_B1 * self.expected_D)
        if start_BD is None:
            x_BD = torch.zeros_like(inverse_BD)
            residual_BD = batch.sums(batch.weighted(inverse_BD.new_ones(len(batch.columns))), self.y_CD)
        else:
            x_BD = start_BD @ self.into_DD
            residual_BD = batch.sums(batch.weighted(1 - batch.products(x_BD, self.y_CD)), self.y_CD)
            residual_BD -= x_BD + above_B1 * (x_BD @ self.gram_DD)
        if prior_BD is not None:
            residual_BD += penalty_B1 * (prior_BD @ self.basis_DD)
        step_BD = inverse_BD * residual_BD
        size_B1 = (residual_BD * step_BD).sum(1, keepdim=True)
        # Relative, because rows of small weights have small residuals.
        enough_B1 = (max(tolerance, _ROUNDING)**2 * size_B1).clamp(min=_SMALLEST)
        for steps_left in range(num_steps, 0, -1):
            image_BD = batch.sums(batch.weighted(batch.products(step_BD, self.y_CD)), self.y_CD)
            image_BD += step_BD + above_B1 * (step_BD @ self.gram_DD)
            length_B1 = size_B1 / (step_BD * image_BD).sum(1, keepdim=True)
            # Converged rows stay unchanged, also those that start converged, whose step length is 0 / 0.
            length_B1 = torch.where(size_B1 > enough_B1, length_B1, 0)
            x_BD += length_B1 * step_BD
            residual_BD -= length_B1 * image_BD
            towards_BD = inverse_BD * residual_BD
            before_B1, size_B1 = size_B1, (residual_BD * towards_BD).sum(1, keepdim=True)
            if steps_left == 1 or not bool((size_B1 > enough_B1).any()):
                break
            step_BD = towards_BD + torch.where(before_B1 > enough_B1, size_B1 / before_B1, 0) * step_BD
        return x_BD @ self.basis_DD.T


def _grams(y_CD: torch.Tensor, counts_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of y y' over columns with observed pairs, and its mean over observed pairs, float64 (D, D)."""
    all_DD = observed_DD = torch.zeros((y_CD.shape[1],) * 2, dtype=torch.float64)
    for start in range(0, len(y_CD), _CHUNK_ROWS):
        chunk, counts = y_CD[start:start + _CHUNK_ROWS], counts_C[start:start + _CHUNK_ROWS, None]
        all_DD = all_DD + ((chunk * (counts > 0)).T @ chunk).cpu().double()
        observed_DD = observed_DD + ((chunk * counts).T @ chunk).cpu().double()
    total = float(counts_C.sum())
    return all_DD, observed_DD / (total if total > 0 else 1.0)


_STEPS = 10


class LinearPrior:
    """Ridge regression of factors on features, refined after each update of the factors.

    Minimises sum over items weight_i |y_i - f_i M|^2 + |M|^2 by conjugate gradients, all dimensions together. Since
    the penalty draws the factors to f_i M, this is a Gaussian prior on the factors with covariance 1 + f f' between
    items, as in matrix factorisation with side information (Agarwal and Chen 2009; Cortes 2018).
    """

    def __init__(self, dense_NE: np.ndarray, sparse_NG: sp.csr_array, embedding_size: int,
                 device: torch.device) -> None:
        """Take features in two parts, side by side: F = E + G."""
        self.dense_NE = torch.from_numpy(dense_NE).to(device)
        self.sparse_NG = _sparse(sparse_NG, device)
        self.sparse_GN = _sparse(sp.csr_array(sparse_NG.T), device)
        self.map_FD = torch.zeros((dense_NE.shape[1] + sparse_NG.shape[1], embedding_size), device=device)

    def means(self) -> torch.Tensor:
        """Return the factors predicted from the features alone (N, D)."""
        return self._forward(self.map_FD)

    def fit(self, y_ND: torch.Tensor, weights_N1: torch.Tensor) -> None:
        """Take some steps towards the best map for these factors; items of weight 0 are ignored."""
        scale_F1 = 1 / (1 + self._back(weights_N1.expand(-1, 1), squared=True))
        residual_FD = self._back(weights_N1 * (y_ND - self.means())) - self.map_FD
        step_FD = scale_F1 * residual_FD
        size_D = (residual_FD * step_FD).sum(0)
        for _ in range(_STEPS):
            image_FD = self._back(weights_N1 * self._forward(step_FD)) + step_FD
            length_D = torch.where(size_D > _SMALLEST, size_D / (step_FD * image_FD).sum(0), 0)
            self.map_FD += length_D * step_FD
            residual_FD -= length_D * image_FD
            towards_FD = scale_F1 * residual_FD
            before_D, size_D = size_D, (residual_FD * towards_FD).sum(0)
            step_FD = towards_FD + torch.where(before_D > _SMALLEST, size_D / before_D, 0) * step_FD

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
