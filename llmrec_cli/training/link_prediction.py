"""Link prediction on held-out triples: filtered ranks (Bordes et al. 2013).

Each held-out triple is a query twice, for its tail and for its head. All entities are ranked except other true answers
in the graph. Equal scores count half, so that a model of equal vectors gains nothing.

Pairs of entities are held out with all triples between the two. Graphs often have each fact twice, once from either end
(`written_by` and `writer_of`), and the inverse triple would give the answer away.

Shapes: T triples, E entities, Q queries, P pairs of entities.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

_MOST_QUESTIONS = 1000
"""Maximum number of held-out pairs."""
MOST_SCORES = 2**31
"""Maximum number of scores computed, so that a graph of millions of entities has fewer queries."""
_SCORES_AT_ONCE = 2**23

Answers = Callable[[np.ndarray, np.ndarray, bool], torch.Tensor]
"""Function from sources (Q,), relations (Q,) and a flag (True: predict heads) to the scores (Q, E) of all entities."""


class Ids(NamedTuple):
    """Triples as integer ids, (T,) each."""

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray

    def rows(self, rows: np.ndarray | slice) -> "Ids":
        """Return the triples of these rows."""
        return Ids(*(column[rows] for column in self))


def held_out(triples: Ids, num_entities: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return a mask (T,) of held-out triples: those of a share of the entity pairs.

    An entity of a held-out pair also occurs in triples that are not held out.
    """
    low, high = np.minimum(triples.head, triples.tail), np.maximum(triples.head, triples.tail)
    pairs, pair_T = np.unique(low.astype(np.int64) * num_entities + high, return_inverse=True)
    number = min(round(share * len(pairs)), _MOST_QUESTIONS, MOST_SCORES // max(1, 2 * num_entities))
    is_held_P = np.zeros(len(pairs), bool)
    is_held_P[generator.choice(len(pairs), number, replace=False)] = True
    train_T = ~is_held_P[pair_T]
    named_E = np.zeros(num_entities, bool)
    named_E[triples.head[train_T]] = named_E[triples.tail[train_T]] = True
    # An entity without training triples would have no vector.
    is_held_P[pair_T[~(named_E[triples.head] & named_E[triples.tail])]] = False
    return is_held_P[pair_T]


def filtered_ranks(scores_QE: torch.Tensor, answer_Q: np.ndarray,
                   true_answers: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the expected rank (Q,) of each answer among all entities except `true_answers`, given as (row, entity)."""
    own_Q1 = scores_QE.gather(1, torch.from_numpy(answer_Q).to(scores_QE.device)[:, None]).clone()
    row, entity = (torch.from_numpy(array).to(scores_QE.device) for array in true_answers)
    scores_QE = scores_QE.index_put((row, entity), scores_QE.new_tensor(-torch.inf))
    # The answer must not be ranked against itself, also if it is not among the true answers.
    scores_QE.scatter_(1, torch.from_numpy(answer_Q).to(scores_QE.device)[:, None], -torch.inf)
    better_Q, equal_Q = (scores_QE > own_Q1).sum(dim=1), (scores_QE == own_Q1).sum(dim=1)
    ranks: np.ndarray = (1 + better_Q + equal_Q / 2).cpu().numpy()
    return ranks


def link_prediction(held: Ids, triples: Ids, num_entities: int, answers: Answers) -> dict[str, float]:
    """Return the mean reciprocal rank and hits@10 over both ends of the held-out triples `held`."""
    ranks = []
    for backward in (False, True):
        source, answer = (held.tail, held.head) if backward else (held.head, held.tail)
        row_A, entity_A = _true_answers(held, triples, backward)
        at_once = max(1, _SCORES_AT_ONCE // num_entities)
        for first in range(0, len(source), at_once):
            rows = slice(first, first + at_once)
            inside = slice(*np.searchsorted(row_A, (first, first + at_once)))
            scores_QE = answers(source[rows], held.relation[rows], backward)
            ranks.append(filtered_ranks(scores_QE, answer[rows], (row_A[inside] - first, entity_A[inside])))
    rank = np.concatenate(ranks)
    return {"mrr": float((1 / rank).mean()), "hits@10": float((rank <= 10).mean())}


def _true_answers(held: Ids, triples: Ids, backward: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all answers of the graph to the queries of `held`, as ascending rows of `held` and entities."""
    num_relations = int(max(triples.relation.max(), held.relation.max())) + 1
    source, answer = (triples.tail, triples.head) if backward else (triples.head, triples.tail)
    query_Q = (held.tail if backward else held.head) * num_relations + held.relation
    queries, distinct_Q = np.unique(query_Q, return_inverse=True)
    code_T = source * num_relations + triples.relation
    place_T = np.searchsorted(queries, code_T).clip(max=len(queries) - 1)
    matches = np.flatnonzero(queries[place_T] == code_T)
    matches = matches[np.argsort(place_T[matches], kind="stable")]
    lengths = np.bincount(place_T[matches], minlength=len(queries))
    starts, lengths_Q = lengths.cumsum() - lengths, lengths[distinct_Q]
    row = np.repeat(np.arange(len(query_Q)), lengths_Q)
    within = np.arange(len(row)) - np.repeat(lengths_Q.cumsum() - lengths_Q, lengths_Q)
    return row, answer[matches[np.repeat(starts[distinct_Q], lengths_Q) + within]]
