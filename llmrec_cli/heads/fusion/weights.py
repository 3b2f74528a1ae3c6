"""Weights of a fusion, learned on validation and protected against overfitting by cross-validation.

Stacking (Wolpert 1992; Breiman 1996, with weights of at least 0) by 10-fold cross-validation, 5-fold with many
queries: weights are learned on all folds but one and judged on that one, in turn, and the folds' weights are averaged.
The best member alone is always a candidate, as in the discrete super learner (van der Laan, Polley and Hubbard 2007).
Each fold compares the sum with the member that is best on its own queries, so neither side was chosen on the judged
queries. The best member stays unless the gain on the held-out folds is larger than its standard error
(`scoring.acceptance`); a step without any gain on the first folds is given up.
Differs from these: the objective is the ranking metric itself, by coordinate ascent, since squared error says little
about lists.

The limit between short and long histories is learned on the training split. After a refit on more interactions,
histories are longer; the limit then moves so that the same share of users is beyond it.

Shapes: Q queries, N items.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.heads.fusion.fast_validation import WeightedMetric, weighted_sum
from llmrec_cli.scoring.acceptance import Acceptance, accepted


def share_of_long(interactions: Interactions, limit: int) -> float:
    """Return the share of users with at least `limit` interactions among users with any, 0 to 1."""
    return float((_lengths(interactions) >= limit).mean())


def limit_for(interactions: Interactions, share: float, limit: int) -> int:
    """Return the number of items from which about `share` of the users have a long history; ties: nearest to `limit`.
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


_STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Candidate weights of a member, as multiples of the largest weight."""
_ROUNDS = 3
"""Most rounds over the members."""
NUM_FOLDS, FEWER_FOLDS, MANY_QUERIES = 10, 5, 5_000
"""Folds, and folds from this many queries on: nine tenths and four fifths of so many teach about the same weights."""
_FIRST_FOLDS = 3
"""Folds after which a step without any gain is given up."""
ENOUGH = 400
"""Minimum for separate weights: queries with a long history, queries with a short one, and for cold items their
held-out interactions."""
_LEAST = 0.05
"""Smallest averaged weight that is kept, as a multiple of the largest. It equals the smallest candidate weight
(_STEPS): most folds gave a member below it no weight."""
_DIGITS = 3
"""Digits of averaged weights, few enough to type."""

Numbers = dict[str, float]


@dataclass(frozen=True)
class Weights:
    """Weights of the members by name; an empty `cold` or `long` means no separate weights.

    Attributes
    ----------
    all : weights for all items and queries not covered by `long` or `cold`
    long : weights for queries with at least `long_history` items in their history
    cold : weights for items without training interactions, in all queries
    """

    all: Numbers
    long: Numbers
    cold: Numbers
    long_history: int

    @property
    def parts(self) -> list[Numbers]:
        """The non-empty sets of weights."""
        return [part for part in (self.all, self.long, self.cold) if part]

    def most(self, name: str) -> float:
        """Return a member's largest weight over all parts."""
        return max(part[name] for part in self.parts)

    def with_zero(self, name: str) -> "Weights":
        """Return the weights with one more member, of weight 0."""
        every, long, cold = ({**part, name: 0.0} if part else part for part in (self.all, self.long, self.cold))
        return replace(self, all=every, long=long, cold=cold)

    def without_zeros(self) -> "Weights":
        """Drop members whose weights are all 0."""
        names = [name for name in self.all if self.most(name) > 0]
        every, long, cold = ({name: part[name] for name in names if part} for part in (self.all, self.long, self.cold))
        return Weights(every, long, cold, self.long_history)

    def sum(self, scores: dict[str, torch.Tensor], lengths_Q: torch.Tensor, cold_N: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the members' scaled scores (Q, N)."""
        sum_QN = weighted_sum(self.all, scores)
        if self.long and bool((long_Q := lengths_Q >= self.long_history).any()):
            sum_QN[long_Q] = weighted_sum(self.long, {name: s[long_Q] for name, s in scores.items()})
        if self.cold and bool(cold_N.any()):
            sum_QN[:, cold_N] = weighted_sum(self.cold, {name: s[:, cold_N] for name, s in scores.items()})
        return sum_QN

    def values(self, metric: WeightedMetric) -> np.ndarray:
        """Return the validation metric of each query (Q,)."""
        values_Q = metric.values(self.all, self.cold)
        if not self.long:
            return values_Q
        return np.where(metric.lengths_Q >= self.long_history, metric.values(self.long, self.cold), values_Q)


@dataclass(frozen=True)
class Step:
    """A step of the search: weights of all members, or separate weights for a part.

    Attributes
    ----------
    name : `members`, `long histories` or `cold items`
    held_out : gain on the held-out folds, over the weights before this step; of the first folds if it was given up
    is_kept : True if the weights of this step are used
    """

    name: str
    held_out: Acceptance
    is_kept: bool


@dataclass(frozen=True)
class SearchResult:
    """Learned weights, the metric of each member alone, and all steps of the search."""

    weights: Weights
    alone: dict[str, float]
    steps: list[Step]


Learner = Callable[[Weights, np.ndarray], Weights]
"""Function that learns weights on some of the queries (their numbers), starting from given weights."""


def learn(metric: WeightedMetric, seed: int, rows: np.ndarray | None = None) -> SearchResult:
    """Learn weights on the queries `rows` (all by default): the best member alone, or weights proven to be better."""
    rows = np.arange(metric.num_queries) if rows is None else rows
    alone = {name: float(values_Q[rows].mean()) for name, values_Q in _values_alone(metric).items()}
    limit = int(np.median(metric.lengths_Q[rows])) + 1
    is_long = metric.lengths_Q[rows] >= limit
    search = _Search(metric, _folds(rows, metric.owner_Q[rows], is_long, seed))
    if len(search.folds) < 2:
        return SearchResult(search.weights, alone, [])
    search.attempt("members", partial(_learn_shared, metric))
    if min(np.count_nonzero(is_long), np.count_nonzero(~is_long)) >= max(ENOUGH, NUM_FOLDS):
        search.attempt("long histories", partial(_learn_by_length, metric, limit))
    if metric.num_cold_Q[rows].sum() >= ENOUGH:
        search.attempt("cold items", partial(_learn_cold, metric))
    return SearchResult(search.weights, alone, search.steps)


def _values_alone(metric: WeightedMetric) -> dict[str, np.ndarray]:
    """Return the validation metric of each member alone, per query (Q,)."""
    return {name: metric.values({name: 1.0}, {}) for name in metric.names}


def _folds(rows: np.ndarray, owners: np.ndarray, is_long: np.ndarray, seed: int) -> list[np.ndarray]:
    """Split the rows into NUM_FOLDS or FEWER_FOLDS random folds.

    Rows of one of the `owners` are in one fold; if each has one row, folds are stratified by long and short histories.
    """
    num_folds = min(NUM_FOLDS if len(rows) < MANY_QUERIES else FEWER_FOLDS, len(np.unique(owners)))
    generator = np.random.default_rng(seed)
    if len(np.unique(owners)) < len(rows):
        fold_of = generator.permutation(owners.max() + 1) % num_folds
        folds = [rows[fold_of[owners] == fold] for fold in range(num_folds)]
        return [fold for fold in folds if len(fold)]
    order = generator.permutation(len(rows))
    stratified = rows[order[np.argsort(is_long[order], kind="stable")]]
    return [stratified[first::num_folds] for first in range(num_folds)]


class _Search:
    """Cross-validated search for weights, step by step.

    Attributes
    ----------
    folds : numbers of the queries in each fold
    others : numbers of the queries in all other folds, for each fold
    weights : result so far
    fold_weights : weights learned without each fold
    steps : record of the steps
    """

    def __init__(self, metric: WeightedMetric, folds: list[np.ndarray]) -> None:
        self.metric, self.folds = metric, folds
        self.rows = np.concatenate(folds)
        self.others = [np.concatenate([other for other in folds if other is not fold]) if len(folds) > 1 else fold
                       for fold in folds]
        values = _values_alone(metric)
        self.weights, *self.fold_weights = (_best_alone(values, rows) for rows in (self.rows, *self.others))
        self.steps: list[Step] = []

    def attempt(self, name: str, learner: Learner) -> None:
        """Replace the weights by the learner's, if the held-out folds show that they are better."""
        fold_weights = self._learn(learner, slice(_FIRST_FOLDS))
        if self._gains(fold_weights).mean() > 0:
            fold_weights += self._learn(learner, slice(_FIRST_FOLDS, None))
        held_out, mean = accepted(self._gains(fold_weights)), _mean(fold_weights)
        # The folds do not judge the averaged weights, so these must also be no worse on all queries.
        is_kept = (len(fold_weights) == len(self.folds) and held_out.is_accepted
                   and self._value(mean) >= self._value(self.weights))
        self.steps.append(Step(name, held_out, is_kept))
        if is_kept:
            self.weights, self.fold_weights = mean, fold_weights

    def _learn(self, learner: Learner, folds: slice) -> list[Weights]:
        """Return the weights learned without each of these folds, one fold per thread at a time."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # The sums of a chunk are too small to be divided.
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(learner, self.fold_weights[folds], self.others[folds]))
        finally:
            torch.set_num_threads(threads)

    def _gains(self, of_folds: list[Weights]) -> np.ndarray:
        """Return the gains of the queries in the first folds, with weights learned without the query's fold."""
        return np.concatenate([(new.values(self.metric) - old.values(self.metric))[fold]
                               for new, old, fold in zip(of_folds, self.fold_weights, self.folds, strict=False)])

    def _value(self, weights: Weights) -> float:
        return float(weights.values(self.metric)[self.rows].mean())


def _best_alone(values: dict[str, np.ndarray], rows: np.ndarray) -> Weights:
    """Return weight 1 for the member with the highest mean metric on the queries `rows`, and 0 for the others."""
    best = max(values, key=lambda name: values[name][rows].mean())
    return Weights(dict.fromkeys(values, 0.0) | {best: 1.0}, {}, {}, 0)


def _learn_shared(metric: WeightedMetric, weights: Weights, rows: np.ndarray) -> Weights:
    """Optimise the weights shared by all items and queries."""
    return replace(weights, all=_scaled(coordinate_ascent(weights.all, list(weights.all),
                                                          lambda trial: metric.values(trial, {}, rows))))


def _learn_by_length(metric: WeightedMetric, limit: int, weights: Weights, rows: np.ndarray) -> Weights:
    """Optimise separate weights for short and long histories (from `limit` items on); `rows` must have both."""
    def optimise(part: np.ndarray) -> Numbers:
        return _scaled(coordinate_ascent(weights.all, list(weights.all), lambda trial: metric.values(trial, {}, part)))

    is_long = metric.lengths_Q[rows] >= limit
    assert is_long.any()
    assert not is_long.all()
    return Weights(optimise(rows[~is_long]), optimise(rows[is_long]), weights.cold, limit)


def _learn_cold(metric: WeightedMetric, weights: Weights, rows: np.ndarray) -> Weights:
    """Optimise separate weights for cold items."""
    names = list(weights.all)
    return replace(weights, cold=coordinate_ascent(weights.all, names,
                                         lambda trial: replace(weights, cold=trial).values(metric)[rows]))


def coordinate_ascent(numbers: Numbers, names: list[str], values_of: Callable[[Numbers], np.ndarray]) -> Numbers:
    """Optimise the named members' weights by coordinate ascent."""
    value = float(values_of(numbers).mean())
    for _ in range(_ROUNDS):
        before = value
        for name in names:
            numbers, value = ascend(numbers, name, value, lambda trial: float(values_of(trial).mean()))
        if value == before:
            break
    return numbers


def ascend(weights: Numbers, name: str, value: float,
           value_of: Callable[[Numbers], float]) -> tuple[Numbers, float]:
    """Optimise one member's weight; return the weights and their value, unchanged if no candidate is better."""
    top = max(weights.values())
    best = weights
    for step in _STEPS:
        trial = weights | {name: step * top}
        if max(trial.values()) > 0 and (trial_value := value_of(trial)) > value:
            best, value = trial, trial_value
    return best, value


def _scaled(numbers: Numbers) -> Numbers:
    """Scale the weights so that the largest is 1."""
    top = max(numbers.values())
    return {name: number / top for name, number in numbers.items()}


def _mean(of_folds: list[Weights]) -> Weights:
    """Return the mean of weights learned on several folds."""
    every, long, cold = ([getattr(weights, part) for weights in of_folds] for part in ("all", "long", "cold"))
    return Weights(_mean_numbers(every), _mean_numbers(long), _mean_numbers(cold), of_folds[0].long_history)


def _mean_numbers(of_folds: list[Numbers]) -> Numbers:
    """Return the mean of each member's weight; means below `_LEAST` become 0."""
    assert all(numbers.keys() == of_folds[0].keys() for numbers in of_folds), "a part has weights in some folds only"
    mean = {name: float(np.mean([numbers[name] for numbers in of_folds])) for name in of_folds[0]}
    least = _LEAST * max(mean.values(), default=0.0)
    return {name: round(weight, _DIGITS) if weight >= least else 0.0 for name, weight in mean.items()}
