"""From how many items on a history is long, when histories grow.

The limit of a fusion is learned on histories of the training split. After a refit on more, users are asked with longer
ones: there the limit is where the same share of users is beyond it.

Shapes: U users with interactions.
"""

import numpy as np

from llmrec_cli.data.interactions import Interactions


def share_of_long(interactions: Interactions, limit: int) -> float:
    """Return the share of the users with interactions who have at least `limit`, 0 to 1."""
    return float((_lengths(interactions) >= limit).mean())


def limit_for(interactions: Interactions, share: float, limit: int) -> int:
    """Return from how many items on histories are long for about `share` of the users; of equals, nearest to `limit`.
    """
    lengths_U = np.sort(_lengths(interactions))
    limits = np.arange(1, int(lengths_U.max(initial=0)) + 2)
    shares = 1 - np.searchsorted(lengths_U, limits, side="left") / max(1, len(lengths_U))
    off = np.abs(shares - share)
    best = limits[off <= off.min() + 1e-12]
    return int(best[np.abs(best - limit).argmin()])


def _lengths(interactions: Interactions) -> np.ndarray:
    lengths = np.diff(interactions.matrix.indptr)
    return lengths[lengths > 0]
