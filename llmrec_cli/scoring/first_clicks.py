"""What users do first, and what they do after that.

Shapes: R rows (users), N items.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.interactions import Interactions


def in_order(interactions: Interactions, data: np.ndarray | None = None) -> sp.csr_array:
    """Return CSR (num_users, num_items) of values, rows oldest first; equal times stay as they are.

    In prepared data a salted hash, or dataset.columns.order, put equal times in order; without times it is the hash.
    `data` (num_interactions,) takes the place of the values.
    """
    order = np.lexsort((interactions.timestamp, interactions.user))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(interactions.user, minlength=interactions.num_users))])
    return sp.csr_array(((interactions.value if data is None else data)[order], interactions.item[order], indptr),
                        shape=(interactions.num_users, interactions.num_items))


def divided(matrix_RN: sp.csr_array, num: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the first `num` entries of each row, and the others, both in their order."""
    lengths_R = np.diff(matrix_RN.indptr)
    place = np.arange(len(matrix_RN.indices)) - np.repeat(matrix_RN.indptr[:-1], lengths_R)
    return _kept(matrix_RN, place < num), _kept(matrix_RN, place >= num)


def _kept(matrix_RN: sp.csr_array, keep: np.ndarray) -> sp.csr_array:
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix_RN.indptr]
    return sp.csr_array((matrix_RN.data[keep], matrix_RN.indices[keep], indptr), shape=matrix_RN.shape)
