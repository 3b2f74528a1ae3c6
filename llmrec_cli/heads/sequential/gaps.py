"""Time before each interaction of a history, as one of a few buckets on a logarithmic scale."""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.queries import UNTIMED

NUM_GAPS = 32
"""Buckets: 0 unknown, 1 below a second, 2 + n from 2^n seconds on; the last begins at 17 years."""


def gap_buckets(times: sp.csr_array) -> np.ndarray:
    """Return the bucket of the time between each entry and the one before it in its row, int64 (num_entries,).

    `times` has milliseconds, oldest first in each row, or `UNTIMED`. The gap is unknown for the first entry of a row,
    and where one of both times is unknown.
    """
    buckets = np.zeros(times.nnz, np.int64)
    if times.nnz < 2:
        return buckets
    later, earlier = times.data[1:], times.data[:-1]
    known = (later != UNTIMED) & (earlier != UNTIMED)
    starts = times.indptr[(times.indptr > 0) & (times.indptr < times.nnz)]
    known[starts - 1] = False
    seconds = (later[known] - earlier[known]) // 1000
    # frexp gives the exact exponent, where a logarithm may be rounded to the next one.
    exponent = np.frexp(seconds.astype(np.float64))[1]
    buckets[1:][known] = np.minimum(1 + exponent, NUM_GAPS - 1)
    return buckets
