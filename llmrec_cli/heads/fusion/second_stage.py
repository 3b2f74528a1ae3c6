"""A learned second stage of a fusion: the best items of the weighted sum, ordered anew by a small model.

Stacking (Wolpert 1992) with more than the members' scores: places on the members' lists, popularity and its trend,
whether the item is cold or already in the history, and the length of the history. It is learned on validation queries
and judged on held-out folds of their users, like the weights; if it gains no more than its standard error there, the
weighted sum stays.

Shapes: B queries of a block, Q queries, N items, C candidates of a query, P candidates of all queries, F features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmrec_cli.data.histories import pair_keys
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.fusion.fast_validation import mark_best, owners_of
from llmrec_cli.heads.fusion.rankers import RANKERS, Ranker
from llmrec_cli.metrics.hits import monitored_values
from llmrec_cli.scoring.acceptance import Acceptance, accepted
from llmrec_cli.scoring.scorer import blocks
from llmrec_cli.scoring.validation import Validation

DEPTH = 100
"""Items that are ordered anew: the best of all, and the best outside the history."""
_FOLDS = 5
_LEAST_QUERIES = 100
"""Fewest validation queries with a relevant candidate: fewer teach nothing."""
_NEWEST = 0.1
"""Share of the training interactions that count as new for the trend of an item."""
_PLACES = 10.0
"""Place on a member's list at which the feature has half its value."""
_BETWEEN_TIES = 1e-3
"""Weight of the sum in the model's scores, so that candidates with the same features keep its order."""
Scores = Mapping[str, torch.Tensor]


class TooFewError(DataError):
    """There are too few validation queries to learn a second stage."""


@dataclass(frozen=True)
class ItemFacts:
    """Popularity of items, 0 to 1, and their trend, -3 to 3, float32 (N,) each."""

    popularity_N: np.ndarray
    trend_N: np.ndarray

    @classmethod
    def of(cls, data: TrainingData) -> "ItemFacts":
        """Return the facts of training data; the trend is 0 if the interactions have no order."""
        interactions = data.interactions
        counts_N = interactions.item_counts
        popularity_N = np.log1p(counts_N) / max(1e-9, np.log1p(counts_N.max(initial=0)))
        trend_N = _trend(interactions) if data.has_order else np.zeros(len(counts_N))
        return cls(popularity_N.astype(np.float32), trend_N.astype(np.float32))

    def extended(self, num: int) -> "ItemFacts":
        """Return the facts with `num` new items, which nobody has."""
        more = np.zeros(num, np.float32)
        return ItemFacts(np.concatenate([self.popularity_N, more]), np.concatenate([self.trend_N, more]))


def _trend(interactions: Interactions) -> np.ndarray:
    """Return the log ratio of an item's share of the newest interactions to its share of all, smoothed, (N,)."""
    num_new = max(1, int(_NEWEST * len(interactions)))
    newest = np.argsort(interactions.timestamp, kind="stable")[-num_new:]
    new_N = np.bincount(interactions.item[newest], minlength=interactions.num_items)
    share = num_new / max(1, len(interactions))
    trend_N: np.ndarray = np.log((new_N + 1) / (share * interactions.item_counts + 1)).clip(-3, 3)
    return trend_N


@dataclass(frozen=True)
class Candidates:
    """The best items of the weighted sum of a block of queries, by query.

    Attributes
    ----------
    row_P, item_P : int64, query and item of each candidate, by query and item
    sum_P : float32, their weighted sums
    features_PF : float32
    """

    row_P: np.ndarray
    item_P: np.ndarray
    sum_P: np.ndarray
    features_PF: np.ndarray


def num_features(num_members: int) -> int:
    """Return F for a number of members."""
    return 6 + 2 * num_members


def candidates_of(queries: Queries, scores: Scores, sum_BN: torch.Tensor, facts: ItemFacts,
                  cold_N: np.ndarray) -> Candidates:
    """Return the candidates of queries; `scores` are the members' scaled scores (B, N), in a fixed order."""
    owned = torch.from_numpy(pair_keys(queries.history))
    is_candidate_BN = torch.zeros(sum_BN.shape, dtype=torch.bool)
    outside_BN = sum_BN.reshape(-1).index_fill(0, owned, -torch.inf).view_as(sum_BN)
    for block in (sum_BN, outside_BN):
        mark_best(is_candidate_BN, block, DEPTH)
    row, item = torch.nonzero(is_candidate_BN, as_tuple=True)
    in_history_BN = torch.zeros(sum_BN.numel(), dtype=torch.bool).index_fill_(0, owned, value=True).view_as(sum_BN)
    row_P, item_P = row.numpy(), item.numpy()
    sum_P = sum_BN[row, item].float()
    lengths_B = np.log1p(np.diff(queries.history.indptr)) / np.log1p(50)
    columns = [sum_P, torch.from_numpy(facts.popularity_N[item_P]), torch.from_numpy(facts.trend_N[item_P]),
               torch.from_numpy(cold_N[item_P]), in_history_BN[row, item], torch.from_numpy(lengths_B[row_P])]
    for one in scores.values():
        own_P = one[row, item].float()
        columns += [own_P, _PLACES / (_PLACES + _place(own_P, row, len(sum_BN)))]
    return Candidates(row_P, item_P, sum_P.numpy(), torch.stack([one.float() for one in columns], dim=1).numpy())


def _place(scores_P: torch.Tensor, row_P: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return the number of better candidates of the same query; equal scores share a place."""
    sizes_B = torch.bincount(row_P, minlength=num_rows)
    start_B = sizes_B.cumsum(0) - sizes_B
    place_P = torch.arange(len(row_P)) - start_B[row_P]
    padded_BC = torch.full((num_rows, int(sizes_B.max())), torch.inf)
    padded_BC[row_P, place_P] = -scores_P
    return torch.searchsorted(padded_BC.sort(dim=1).values, padded_BC)[row_P, place_P]


@dataclass(frozen=True)
class SecondStage:
    """The fitted second stage.

    Attributes
    ----------
    kind : its name in `RANKERS`
    ranker : scores candidates by their features
    facts : of the items, from the interactions that the fusion was fitted on
    """

    kind: str
    ranker: Ranker
    facts: ItemFacts

    def reordered(self, queries: Queries, scores: Scores, sum_BN: torch.Tensor, cold_N: np.ndarray) -> torch.Tensor:
        """Return scores (B, N) that put the candidates first, in the order of the model; the others keep theirs."""
        found = candidates_of(queries, scores, sum_BN, self.facts, cold_N)
        ranked_P = torch.from_numpy(_ranked(self.ranker, found))
        row, item = torch.from_numpy(found.row_P), torch.from_numpy(found.item_P)
        lowest_B = torch.full((len(sum_BN),), torch.inf, dtype=ranked_P.dtype).scatter_reduce(0, row, ranked_P, "amin")
        result = sum_BN.clone()
        result[row, item] = (sum_BN.amax(dim=1)[row] + 1 + (ranked_P - lowest_B[row])).to(sum_BN.dtype)
        return result

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays of the model and the facts of the items."""
        return {**self.ranker.state(), "popularity": self.facts.popularity_N, "trend": self.facts.trend_N}

    @classmethod
    def read(cls, kind: str, tensors: TensorReader, num_members: int, num_items: int) -> "SecondStage":
        """Restore `state`."""
        facts = ItemFacts(tensors.take("popularity", FLOAT, (num_items,)), tensors.take("trend", FLOAT, (num_items,)))
        return cls(kind, RANKERS[kind].read(tensors, num_features(num_members)), facts)


def _ranked(ranker: Ranker, found: Candidates) -> np.ndarray:
    return ranker.score(found.features_PF) + _BETWEEN_TIES * found.sum_P


@dataclass(frozen=True)
class Learned:
    """A second stage, and how it did on queries that it was not learned on.

    Attributes
    ----------
    values_Q : float64, the metric of each query, by a model learned without the fold of its user
    gain : of these over the weighted sum
    """

    stage: SecondStage
    values_Q: np.ndarray
    gain: Acceptance


def learn_second_stage(kind: str, score: Callable[[Queries], tuple[Scores, torch.Tensor]], validation: Validation,
                       facts: ItemFacts, cold_N: np.ndarray, seed: int) -> Learned:
    """Learn the second stage on validation queries, each with a relevant item, and judge it on held-out folds.

    `score` returns the members' scaled scores and their weighted sum for a block of queries. Rows of one user are in
    one fold. Raises TooFewError if too few queries have a relevant item among their candidates.
    """
    found, relevant_P = _gather(score, validation, facts, cold_N)
    num_queries = len(validation.queries)
    num_found = len(np.unique(found.row_P[relevant_P]))
    if num_found < _LEAST_QUERIES:
        raise TooFewError(f"{num_found:,} validation queries have a relevant item among the {DEPTH} best, and at least "
                          f"{_LEAST_QUERIES} are needed")
    ranker_class = RANKERS[kind]

    def fitted(is_used_Q: np.ndarray) -> Ranker:
        has_relevant_Q = np.bincount(found.row_P[relevant_P], minlength=num_queries) > 0
        used = (is_used_Q & has_relevant_Q)[found.row_P]
        return ranker_class.fit(found.features_PF[used], relevant_P[used], found.row_P[used], seed)

    ranked_P, fold_Q = np.zeros(len(found.row_P)), _folds(validation.queries, seed)
    for fold in range(_FOLDS):
        judged = fold_Q[found.row_P] == fold
        part = replace(found, row_P=found.row_P[judged], item_P=found.item_P[judged], sum_P=found.sum_P[judged],
                       features_PF=found.features_PF[judged])
        ranked_P[judged] = _ranked(fitted(fold_Q != fold), part)
    ranks_P, num_relevant_Q = validation.ranks[found.item_P], np.diff(validation.relevant.indptr)
    after, before = (_values(found.row_P, scores_P, ranks_P, relevant_P, num_relevant_Q, validation.monitor)
                     for scores_P in (ranked_P, found.sum_P))
    return Learned(SecondStage(kind, fitted(np.ones(num_queries, bool)), facts), after, accepted(after - before))


def _gather(score: Callable[[Queries], tuple[Scores, torch.Tensor]], validation: Validation, facts: ItemFacts,
            cold_N: np.ndarray) -> tuple[Candidates, np.ndarray]:
    """Return the candidates of all queries that may be recommended, and a mask of the relevant ones."""
    queries, parts, relevant = validation.queries, [], []
    for block in blocks(len(queries), len(cold_N), 1024):
        rows = queries.rows(block)
        found = candidates_of(rows, *score(rows), facts, cold_N)
        key_P = found.row_P * len(cold_N) + found.item_P
        allowed = ~np.isin(key_P, pair_keys(rows.seen))
        relevant.append(np.isin(key_P[allowed], pair_keys(validation.relevant[block])))
        parts.append(Candidates(found.row_P[allowed] + block.start, found.item_P[allowed], found.sum_P[allowed],
                                found.features_PF[allowed]))
    columns = (np.concatenate([getattr(part, name) for part in parts])
               for name in ("row_P", "item_P", "sum_P", "features_PF"))
    return Candidates(*columns), np.concatenate(relevant)


def _folds(queries: Queries, seed: int) -> np.ndarray:
    """Return the fold of each query, int64 (Q,); queries of one user are in one fold."""
    owners = owners_of(queries)
    fold_of = np.random.default_rng(seed).permutation(owners.max(initial=0) + 1) % _FOLDS
    folds: np.ndarray = fold_of[owners]
    return folds


def _values(row_P: np.ndarray, scores_P: np.ndarray, ranks_P: np.ndarray, relevant_P: np.ndarray,
            num_relevant_Q: np.ndarray, monitor: str) -> np.ndarray:
    """Return the metric of each query's candidates in the order of their scores, float64 (Q,)."""
    k = int(monitor.partition("@")[2])
    order = np.lexsort((ranks_P, -scores_P, row_P))
    starts_Q = np.searchsorted(row_P, np.arange(len(num_relevant_Q)))
    place_P = np.arange(len(order)) - starts_Q[row_P[order]]
    is_hit_QK = np.zeros((len(num_relevant_Q), k), bool)
    on_list = order[place_P < k]
    is_hit_QK[row_P[on_list], place_P[place_P < k]] = relevant_P[on_list]
    return monitored_values(monitor, is_hit_QK, num_relevant_Q)
