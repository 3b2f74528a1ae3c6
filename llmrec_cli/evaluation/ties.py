"""Blocks of equal scores on lists, for metrics in expectation over the order of ties.

Shapes: Q queries, K ranks, N items, T tie blocks, R relevant entries.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.metrics.hits import TieBlocks
from llmrec_cli.scoring.scorer import Lists


def tie_blocks(lists: Lists, relevant_QN: sp.csr_array, gains_QN: sp.csr_array | None = None,
               inside_N: np.ndarray | None = None) -> TieBlocks:
    """Return the tie block of each rank of lists that were made with this `relevant_QN`.

    `gains_QN` has the same entries as `relevant_QN`. With `inside_N` (N,) bool only those items count as relevant, as
    in a slice of items; blocks are as large as ever.
    """
    assert lists.relevant_scores is not None
    scores_QK = lists.scores_QK
    num_queries, num_ranks = scores_QK.shape
    new_QK = np.ones((num_queries, num_ranks), bool)
    new_QK[:, 1:] = (scores_QK[:, 1:] != scores_QK[:, :-1]) | (scores_QK[:, 1:] == -np.inf)
    block_QK = np.cumsum(new_QK.ravel()).reshape(scores_QK.shape) - 1
    start_QK = np.maximum.accumulate(np.where(new_QK, np.arange(num_ranks), 0), axis=1)
    size_T = np.bincount(block_QK.ravel())
    lengths_Q = (scores_QK > -np.inf).sum(axis=1)
    some = np.flatnonzero(lengths_Q)
    size_T[block_QK[some, lengths_Q[some] - 1]] = lists.last_size_Q[some]

    query_R = np.repeat(np.arange(num_queries), np.diff(relevant_QN.indptr))
    scores_R = lists.relevant_scores
    counted = scores_R > -np.inf
    if inside_N is not None:
        counted &= inside_N[relevant_QN.indices]
    keys_T = _keys(np.nonzero(new_QK)[0], scores_QK[new_QK])
    wanted = _keys(query_R[counted], scores_R[counted])
    block = np.minimum(np.searchsorted(keys_T, wanted), len(keys_T) - 1)
    found = keys_T[block] == wanted if len(keys_T) else np.zeros(len(wanted), bool)
    relevant_T = np.bincount(block[found], minlength=len(size_T))
    gain_QK = None
    if gains_QN is not None:
        gain_T = np.bincount(block[found], gains_QN.data[counted][found], minlength=len(size_T))
        gain_QK = gain_T[block_QK]
    return TieBlocks(size_T[block_QK], relevant_T[block_QK], np.arange(num_ranks) - start_QK, gain_QK)


def _keys(query: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return one number each that rises with the query and, within it, as the score falls; equal only where both are.

    The bits of a float32 that is not negative rise with it, those of a negative one fall.
    """
    bits = (scores + np.float32(0)).view(np.int32)
    falling = np.where(bits < 0, bits, bits ^ np.int32(0x7FFFFFFF)).view(np.uint32)
    return (query.astype(np.uint64) << np.uint64(32)) | falling
