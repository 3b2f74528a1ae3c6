"""Scores of given pairs of a query and an item, for metrics of rating prediction.

Shapes: Q queries, N items, P pairs, B queries of a block.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.distributed import dealt
from llmrec_cli.scoring.scorer import Score, blocks
from llmrec_cli.scoring.topk import require_finite


def pair_scores(score: Score, queries: Queries, pairs_QN: sp.csr_array, *, block_size: int = 1024) -> np.ndarray:
    """Return the score of every entry of `pairs_QN`, in its order, float32 (P,).

    Scored by blocks over the whole catalogue as lists are, so that a pair has the score that put it on a list; queries
    without a pair are not scored.
    """
    asked = np.flatnonzero(np.diff(pairs_QN.indptr))

    def gather(block: slice) -> np.ndarray:
        rows = asked[block]
        scores_BN = score(queries.rows(rows))
        require_finite(scores_BN, f"queries {block.start} to {block.stop - 1}")
        wanted = pairs_QN[rows]
        row = np.repeat(np.arange(len(rows)), np.diff(wanted.indptr))
        where = (torch.from_numpy(row), torch.from_numpy(wanted.indices.astype(np.int64)))
        picked: np.ndarray = scores_BN[tuple(index.to(scores_BN.device) for index in where)].float().cpu().numpy()
        return picked

    with torch.inference_mode():
        found = list(dealt(gather, blocks(len(asked), pairs_QN.shape[1], block_size)))
    return np.concatenate([np.zeros(0, np.float32), *found])
