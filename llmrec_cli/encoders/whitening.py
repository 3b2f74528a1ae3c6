"""Centring, whitening and projection of text vectors, fitted on the items in training.

    whitening = fit_whitening(settings, raw_ND, said_N)     settings: the encoder's `whitening` and `projection`
    finished_TK = whitening.apply(raw_TD)                   neither normalised nor zeroed: the caller's
    state, again = whitening.state(), Whitening.read(TensorReader(state))

`mean_D` and `matrix_DK` are there for who computes in torch: (raw - mean) @ matrix, and without a matrix raw - mean.

Shapes: N items, T texts, D dimensions of a vector, K those that are kept.
"""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import EncoderSettings

_ROWS_AT_ONCE = 8192
SMALLEST_VARIANCE = 1e-2
"""Of the mean variance, added to each: directions in which the items hardly differ must not count most."""


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
        """Return what was learned, by name."""
        return {"mean": self.mean_D} | ({} if self.matrix_DK is None else {"matrix": self.matrix_DK})

    @classmethod
    def read(cls, tensors: TensorReader) -> "Whitening":
        """Return what `state` was of."""
        mean_D = tensors.take("mean", FLOAT, (None,))
        return cls(mean_D, tensors.take("matrix", FLOAT, (len(mean_D), None)) if "matrix" in tensors else None)


def fit_whitening(settings: EncoderSettings, raw_ND: np.ndarray, said_N: np.ndarray) -> Whitening:
    """Learn the mean of those of the vectors that say something (`said_N`, bool), and what the settings ask for.

    whitening=p multiplies each principal direction by its variance to the power -p/2: 0 leaves all as they are, 1
    makes them equal (Su et al. 2021 whiten fully), between them frequent topics count less, not nothing. The map stays
    symmetric, so that directions keep their names. projection=k keeps the k directions of largest variance (PCA).
    Variances are relative to the largest, so that lengths stay as they were.

    Raises ConfigError where there are fewer dimensions than `projection` keeps.
    """
    num_dimensions = raw_ND.shape[1]
    kept = settings.projection
    if kept is not None and kept > num_dimensions:
        raise ConfigError(f"encoder.projection={kept}: the vectors of encoder={settings.kind} have {num_dimensions} "
                          f"dimensions; choose at most {num_dimensions}")
    said = np.flatnonzero(said_N)
    mean_D = raw_ND[said].mean(axis=0).astype(np.float32) if len(said) else np.zeros(num_dimensions, np.float32)
    if (settings.whitening == 0 and kept is None) or not len(said):
        return Whitening(mean_D, np.eye(num_dimensions, kept, dtype=np.float32) if kept is not None else None)
    covariance_DD = np.zeros((num_dimensions, num_dimensions))
    for start in range(0, len(said), _ROWS_AT_ONCE):
        centred = (raw_ND[said[start:start + _ROWS_AT_ONCE]] - mean_D).astype(np.float64)
        covariance_DD += centred.T @ centred / len(said)
    variances_D, directions_DD = np.linalg.eigh(covariance_DD)
    variances_D, directions_DD = np.maximum(variances_D[::-1], 0), directions_DD[:, ::-1]
    variances_D += SMALLEST_VARIANCE * variances_D.mean() + np.finfo(np.float32).tiny
    factors_D = (variances_D / variances_D[0])**(-settings.whitening / 2)
    if kept is None:
        matrix_DK = (directions_DD * factors_D) @ directions_DD.T
    else:
        # A direction's sign is arbitrary: the largest of its entries is made positive.
        leading_DK = directions_DD[:, :kept]
        largest_K = leading_DK[np.abs(leading_DK).argmax(axis=0), np.arange(kept)]
        matrix_DK = leading_DK * np.sign(largest_K) * factors_D[:kept]
    return Whitening(mean_D, np.ascontiguousarray(matrix_DK, np.float32))
