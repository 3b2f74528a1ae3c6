"""Acceptance test: accept a choice made on validation only if its gain exceeds its standard error, or a multiple of it.

The one-standard-error rule (Breiman et al. 1984, CART, section 3.4.3; Hastie et al. 2009, section 7.10), paired: the
standard error is that of the mean difference over the same queries, which is far smaller than that of each mean.

Shapes: Q queries.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Acceptance:
    """Paired gain of a choice over the simpler alternative.

    Attributes
    ----------
    gain : mean difference of the metric, above 0 if the choice is better
    standard_error : of that mean over queries; infinite with fewer than two queries
    num_queries : Q
    margin : number of standard errors that the gain must exceed
    """

    gain: float
    standard_error: float
    num_queries: int
    margin: float = 1.0

    @property
    def is_accepted(self) -> bool:
        """True if the gain is above 0 and above its standard errors; then the choice replaces the alternative."""
        return self.gain > 0 and self.gain > self.margin * self.standard_error

    def facts(self) -> dict[str, Any]:
        """Return the numbers for a log or a manifest; `standard_error` is None where it is not defined."""
        error = self.standard_error if np.isfinite(self.standard_error) else None
        return {"gain": self.gain, "standard_error": error, "num_queries": self.num_queries,
                "accepted": self.is_accepted}

    def __str__(self) -> str:
        error = f"standard error {self.standard_error:.4f}" if np.isfinite(self.standard_error) else "no standard error"
        return f"{self.gain:+.4f}, {error}, {self.num_queries:,} queries"


def accepted(gain_Q: np.ndarray, margin: float = 1.0) -> Acceptance:
    """Return the paired gain of a choice from the differences in each query's metric (Q,).

    The simpler alternative stays unless the mean difference is above `margin` standard errors, std(ddof=1) / sqrt(Q).
    With fewer than two queries it always stays.
    """
    num = len(gain_Q)
    if num < 2:
        return Acceptance(float(gain_Q.sum()), float("inf"), num, margin)
    return Acceptance(float(gain_Q.mean()), float(gain_Q.std(ddof=1) / num**0.5), num, margin)
