"""Centring, whitening and projection of text vectors, fitted on the training items.

    whitening = fit_whitening(settings, raw_ND, has_text_N)     settings: the encoder's `whitening` and `projection`
    mapped_TK = whitening.apply(raw_TD)                         the caller normalises, and zeroes empty texts
    state, again = whitening.state(), Whitening.read(TensorReader(state))

For use in torch: (raw - mean_D) @ matrix_DK, or raw - mean_D without a matrix.

Shapes: N items, T texts, D dimensions of a vector, K dimensions of a mapped vector.
"""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import EncoderSettings

_ROWS_AT_ONCE = 8192
SMALLEST_VARIANCE = 1e-2
"""Share of the mean variance added to each variance, so that directions of little variance do not dominate."""


@dataclass(frozen=True)
class Whitening:
    """An affine map of vectors; without a matrix it only centres.

    Attributes
    ----------
    mean_D : float32 (D,)
    matrix_DK : float32 (D, K), or None
    """

    mean_D: np.ndarray
    matrix_DK: np.ndarray | None = None

    @property
    def size(self) -> int:
        """K."""
        return len(self.mean_D) if self.matrix_DK is None else self.matrix_DK.shape[1]

    def apply(self, raw_TD: np.ndarray) -> np.ndarray:
        """Return the vectors centred and mapped, float32 (T, K)."""
        centred_TD = raw_TD - self.mean_D
        return centred_TD if self.matrix_DK is None else centred_TD @ self.matrix_DK

    def state(self) -> dict[str, np.ndarray]:
        """Return the learned arrays by name."""
        return {"mean": self.mean_D} | ({} if self.matrix_DK is None else {"matrix": self.matrix_DK})

    @classmethod
    def read(cls, tensors: TensorReader) -> "Whitening":
        """Return the whitening with this `state`."""
        mean_D = tensors.take("mean", FLOAT, (None,))
        return cls(mean_D, tensors.take("matrix", FLOAT, (len(mean_D), None)) if "matrix" in tensors else None)


def fit_whitening(settings: EncoderSettings, raw_ND: np.ndarray, has_text_N: np.ndarray) -> Whitening:
    """Fit the centring, whitening and projection of `settings` to the vectors of items with text (`has_text_N`, bool).

    whitening=p multiplies each principal direction by its variance to the power -p/2: 0 changes nothing, 1 gives equal
    variances (Su et al. 2021), and values in between reduce the weight of frequent topics. The map is symmetric, so
    that dimensions keep their meaning. projection=k keeps the k directions of largest variance (PCA). Variances are
    relative to the largest one, so that lengths stay similar.

    Raises ConfigError if there are fewer dimensions than `projection`.
    """
    num_dimensions = raw_ND.shape[1]
    size = settings.projection
    if size is not None and size > num_dimensions:
        raise ConfigError(f"encoder.projection={size}: the vectors of encoder={settings.kind} have {num_dimensions} "
                          f"dimensions; choose at most {num_dimensions}")
    rows = np.flatnonzero(has_text_N)
    mean_D = raw_ND[rows].mean(axis=0).astype(np.float32) if len(rows) else np.zeros(num_dimensions, np.float32)
    if (settings.whitening == 0 and size is None) or not len(rows):
        return Whitening(mean_D, np.eye(num_dimensions, size, dtype=np.float32) if size is not None else None)
    covariance_DD = np.zeros((num_dimensions, num_dimensions))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        centred = (raw_ND[rows[start:start + _ROWS_AT_ONCE]] - mean_D).astype(np.float64)
        covariance_DD += centred.T @ centred / len(rows)
    variances_D, directions_DD = np.linalg.eigh(covariance_DD)
    variances_D, directions_DD = np.maximum(variances_D[::-1], 0), directions_DD[:, ::-1]
    variances_D += SMALLEST_VARIANCE * variances_D.mean() + np.finfo(np.float32).tiny
    factors_D = (variances_D / variances_D[0])**(-settings.whitening / 2)
    if size is None:
        matrix_DK = (directions_DD * factors_D) @ directions_DD.T
    else:
        # A direction's sign is arbitrary: make its largest entry positive.
        leading_DK = directions_DD[:, :size]
        largest_K = leading_DK[np.abs(leading_DK).argmax(axis=0), np.arange(size)]
        matrix_DK = leading_DK * np.sign(largest_K) * factors_D[:size]
    return Whitening(mean_D, np.ascontiguousarray(matrix_DK, np.float32))
