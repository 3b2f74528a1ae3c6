"""Generated scoring cases with ties, short lists and empty users, and expected results computed with loops."""

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmrec_cli.data.queries import Queries

LEVELS = (-1.5, -0.0, 0.0, 0.25, 2.0)


def csr(mask, values=None):
    """CSR of a bool matrix, with these values."""
    matrix = sp.csr_array(mask.astype(np.float32))
    matrix.sort_indices()
    if values is not None:
        matrix.data = values[mask].astype(np.float64)
    return matrix


def queries_of(seen):
    """Queries of unknown users, one per row, with the seen items of a bool matrix."""
    ids = np.array([f"u{n}" for n in range(len(seen))], object)
    return Queries(ids, ids, np.arange(len(seen)), csr(seen), csr(seen), np.full(len(seen), "", object))


def fixed(scores):
    """A scorer that looks up the scores of the users of `queries_of` in a matrix."""
    return lambda queries: torch.from_numpy(scores[queries.user])


@st.composite
def cases(draw, max_items=9):
    """Scores with few levels, so that many tie; masks of seen, relevant and candidate items; and k."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, max_items)))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(LEVELS)))
    masks = [draw(hnp.arrays(bool, shape)) for _ in range(3)]
    seen, relevant, given = masks
    return scores, seen, relevant & ~seen, given, draw(st.integers(1, max_items + 2)), draw(st.permutations(
        range(shape[1])))


def candidates_of(row, case, given=True):
    """The items that may be on the list of a row."""
    scores, seen, _, chosen, _, _ = case
    return [n for n in range(scores.shape[1]) if not seen[row, n] and (chosen[row, n] or not given)]


def auc(row, case, given=True):
    """Compare each relevant candidate with each other candidate: 1 if above, one half if equal."""
    scores, relevant = case[0][row], case[2][row]
    members = candidates_of(row, case, given)
    pairs = [(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
             for i in members if relevant[i] for j in members if not relevant[j]]
    return sum(pairs) / len(pairs) if pairs else float("nan")
