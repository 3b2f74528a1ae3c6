"""Link prediction by entity vectors on triples held out from training: filtered ranks (Bordes et al. 2013).

Each held-out triple is asked twice, for its tail and for its head. All entities are ranked, without those that other
triples of the graph already name as answers. Equal scores count half, so that a model of equal vectors is no oracle.

Whole pairs of entities are held out, with all that joins the two: graphs often say everything twice, once from either
end (`written_by` and `writer_of`), and such a triple would be told by its twin.

Shapes: T triples, E entities, Q questions, P pairs of entities.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

_MOST_QUESTIONS = 1000
"""Triples that are asked."""
MOST_SCORES = 2**31
"""Scores that are computed at most, so that a graph of millions of entities is asked less."""
_SCORES_AT_ONCE = 2**23

Answers = Callable[[np.ndarray, np.ndarray, bool], torch.Tensor]
"""Sources (Q,), relations (Q,) and whether heads are asked for -> the scores (Q, E) of all entities."""


class Ids(NamedTuple):
    """Triples in integers, (T,) each."""

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> "Ids":
        """Return some of them."""
        return Ids(*(column[chosen] for column in self))


def held_out(triples: Ids, num_entities: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return bool (T,): the triples of a share of the joined pairs, each end of which other triples name too."""
    low, high = np.minimum(triples.head, triples.tail), np.maximum(triples.head, triples.tail)
    pairs, pair_T = np.unique(low.astype(np.int64) * num_entities + high, return_inverse=True)
    number = min(round(share * len(pairs)), _MOST_QUESTIONS, MOST_SCORES // max(1, 2 * num_entities))
    is_held_P = np.zeros(len(pairs), bool)
    is_held_P[generator.choice(len(pairs), number, replace=False)] = True
    kept_T = ~is_held_P[pair_T]
    named_E = np.zeros(num_entities, bool)
    named_E[triples.head[kept_T]] = named_E[triples.tail[kept_T]] = True
    # An entity that nothing else is said of would have no vector.
    is_held_P[pair_T[~(named_E[triples.head] & named_E[triples.tail])]] = False
    return is_held_P[pair_T]


def filtered_ranks(scores_QE: torch.Tensor, answer_Q: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the expected rank (Q,) of each answer among all entities but the `known` ones, as (row, entity)."""
    own_Q1 = scores_QE.gather(1, torch.from_numpy(answer_Q).to(scores_QE.device)[:, None]).clone()
    row, entity = (torch.from_numpy(array).to(scores_QE.device) for array in known)
    scores_QE = scores_QE.index_put((row, entity), scores_QE.new_tensor(-torch.inf))
    # The answer itself is out as well where it is known; where it is not, it is not better than itself.
    scores_QE.scatter_(1, torch.from_numpy(answer_Q).to(scores_QE.device)[:, None], -torch.inf)
    better_Q, equal_Q = (scores_QE > own_Q1).sum(dim=1), (scores_QE == own_Q1).sum(dim=1)
    ranks: np.ndarray = (1 + better_Q + equal_Q / 2).cpu().numpy()
    return ranks


def link_prediction(asked: Ids, triples: Ids, num_entities: int, answers: Answers) -> dict[str, float]:
    """Return the mean reciprocal rank and the share within the first ten, over both ends of the triples `asked`."""
    ranks = []
    for backward in (False, True):
        source, answer = (asked.tail, asked.head) if backward else (asked.head, asked.tail)
        row_A, entity_A = _known(asked, triples, backward)
        at_once = max(1, _SCORES_AT_ONCE // num_entities)
        for first in range(0, len(source), at_once):
            rows = slice(first, first + at_once)
            inside = slice(*np.searchsorted(row_A, (first, first + at_once)))
            scores_QE = answers(source[rows], asked.relation[rows], backward)
            ranks.append(filtered_ranks(scores_QE, answer[rows], (row_A[inside] - first, entity_A[inside])))
    rank = np.concatenate(ranks)
    return {"mrr": float((1 / rank).mean()), "hits@10": float((rank <= 10).mean())}


def _known(asked: Ids, triples: Ids, backward: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what the triples answer the questions, as rows of `asked`, ascending, and entities."""
    num_relations = int(max(triples.relation.max(), asked.relation.max())) + 1
    source, answer = (triples.tail, triples.head) if backward else (triples.head, triples.tail)
    question_Q = (asked.tail if backward else asked.head) * num_relations + asked.relation
    questions, question_of_Q = np.unique(question_Q, return_inverse=True)
    code_T = source * num_relations + triples.relation
    place_T = np.searchsorted(questions, code_T).clip(max=len(questions) - 1)
    found = np.flatnonzero(questions[place_T] == code_T)
    found = found[np.argsort(place_T[found], kind="stable")]
    lengths = np.bincount(place_T[found], minlength=len(questions))
    starts, lengths_Q = lengths.cumsum() - lengths, lengths[question_of_Q]
    row = np.repeat(np.arange(len(question_Q)), lengths_Q)
    within = np.arange(len(row)) - np.repeat(lengths_Q.cumsum() - lengths_Q, lengths_Q)
    return row, answer[found[np.repeat(starts[question_of_Q], lengths_Q) + within]]
