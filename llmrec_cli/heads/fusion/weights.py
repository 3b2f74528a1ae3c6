"""Weights of a fusion, learned on validation so that it is not worse than its best member elsewhere.

Stacking (Wolpert 1992; Breiman 1996, with weights of at least 0) by 10-fold cross-validation: weights are learned on
nine tenths of the queries and judged on the last tenth, in turn, and the folds' weights are averaged. The best member
alone is always among what is compared, as in the discrete super learner (van der Laan, Polley and Hubbard 2007). Each
fold compares the sum with the member that is best on its own nine tenths, so both sides of the comparison were chosen
without the judged queries. The best member stays unless the gain on the held-out folds is larger than its standard
error (`scoring.acceptance`). Differs from these: the objective is the ranking metric itself, by coordinate ascent,
since squared error says little about lists.

Shapes: Q queries, N items.

The limit of a fusion is learned on histories of the training split. After a refit on more, users are asked with longer
ones: there the limit is where the same share of users is beyond it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.heads.fusion.fast_validation import Scored, weighted_sum
from llmrec_cli.scoring.acceptance import Acceptance, accepted


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


_STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Weights tried for a member, as multiples of the largest weight."""
_ROUNDS = 3
"""Most rounds over the members."""
NUM_FOLDS = 10
ENOUGH = 400
"""Fewest queries with a long history, and with a short one, and for cold items held-out interactions with them, on
which a part gets weights of its own."""
_LEAST = 0.05
"""Smallest averaged weight that is kept, as a multiple of the largest. It is the smallest weight tried (_STEPS): most
folds gave a member below it no weight."""
_DIGITS = 3
"""Digits that averaged weights are rounded to, so that a person can type them."""

Numbers = dict[str, float]


@dataclass(frozen=True)
class Weights:
    """Weights of the members by name; an empty `cold` or `long` has no weights of its own.

    Attributes
    ----------
    all : of every item and query that the others don't say otherwise for
    long : of queries with at least `long_history` items in their history
    cold : of items without training interactions, for all queries
    """

    all: Numbers
    long: Numbers
    cold: Numbers
    long_history: int

    @property
    def parts(self) -> list[Numbers]:
        """The weights of every part that has its own."""
        return [part for part in (self.all, self.long, self.cold) if part]

    def used(self) -> "Weights":
        """Return the weights of those members alone that have one above 0 somewhere."""
        names = [name for name in self.all if max(part[name] for part in self.parts) > 0]
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

    def values(self, scored: Scored) -> np.ndarray:
        """Return the validation metric of each query (Q,)."""
        values_Q = scored.values(self.all, self.cold)
        if not self.long:
            return values_Q
        return np.where(scored.lengths_Q >= self.long_history, scored.values(self.long, self.cold), values_Q)


@dataclass(frozen=True)
class Step:
    """A trial: all members together, or weights of their own for a part.

    Attributes
    ----------
    name : `members`, `long histories` or `cold items`
    held_out : gain on the held-out folds, over the weights before this step
    kept : True if the weights of this step are used
    """

    name: str
    held_out: Acceptance
    kept: bool


@dataclass(frozen=True)
class Learned:
    """Learned weights, the metric of each member alone, and all steps that were tried."""

    weights: Weights
    alone: dict[str, float]
    steps: list[Step]


Learner = Callable[[Weights, np.ndarray], Weights]
"""Return weights learned on some of the queries (their numbers), beginning with the weights given."""


def learn(scored: Scored, seed: int, rows: np.ndarray | None = None) -> Learned:
    """Return weights learned on the queries `rows` (all by default): the best member's, or those shown to be better."""
    rows = np.arange(scored.num_queries) if rows is None else rows
    alone = {name: float(values_Q[rows].mean()) for name, values_Q in _values_alone(scored).items()}
    limit = int(np.median(scored.lengths_Q[rows])) + 1
    is_long = scored.lengths_Q[rows] >= limit
    search = _Search(scored, _folds(rows, is_long, seed))
    if len(search.folds) < 2:
        return Learned(search.weights, alone, [])
    search.attempt("members", partial(_of_members, scored))
    if min(np.count_nonzero(is_long), np.count_nonzero(~is_long)) >= max(ENOUGH, NUM_FOLDS):
        search.attempt("long histories", partial(_by_length, scored, limit))
    if scored.num_cold_Q[rows].sum() >= ENOUGH:
        search.attempt("cold items", partial(_by_coldness, scored))
    return Learned(search.weights, alone, search.steps)


def _values_alone(scored: Scored) -> dict[str, np.ndarray]:
    """Return each member's validation metric of each query (Q,)."""
    return {name: scored.values({name: 1.0}, {}) for name in scored.names}


def _folds(rows: np.ndarray, is_long: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows in at most NUM_FOLDS random folds; each has its share of the long histories, give or take one."""
    order = np.random.default_rng(seed).permutation(len(rows))
    stratified = rows[order[np.argsort(is_long[order], kind="stable")]]
    num_folds = min(NUM_FOLDS, len(rows))
    return [stratified[first::num_folds] for first in range(num_folds)]


class _Search:
    """Cross-validated search for weights, step by step.

    Attributes
    ----------
    folds : numbers of the queries in each fold
    others : numbers of the queries in all other folds, for each fold
    weights : result so far
    fold_weights : the same, learned without each fold
    steps : record of what was tried
    """

    def __init__(self, scored: Scored, folds: list[np.ndarray]) -> None:
        self.scored, self.folds = scored, folds
        self.rows = np.concatenate(folds)
        self.others = [np.concatenate([other for other in folds if other is not fold]) if len(folds) > 1 else fold
                       for fold in folds]
        values = _values_alone(scored)
        self.weights, *self.fold_weights = (_best_alone(values, rows) for rows in (self.rows, *self.others))
        self.steps: list[Step] = []

    def attempt(self, name: str, learner: Learner) -> None:
        """Replace the weights by those that the learner returns, if the held-out folds show that they are better."""
        learned = [learner(weights, rows) for weights, rows in zip(self.fold_weights, self.others, strict=True)]
        held_out = accepted(self._held_out(learned) - self._held_out(self.fold_weights))
        mean = _mean(learned)
        # The averaged weights are not among those judged, so they must not be worse on all queries either.
        kept = held_out.is_accepted and self._value(mean) >= self._value(self.weights)
        self.steps.append(Step(name, held_out, kept))
        if kept:
            self.weights, self.fold_weights = mean, learned

    def _held_out(self, of_folds: list[Weights]) -> np.ndarray:
        """Return each query's metric by the weights that were learned without its fold."""
        return np.concatenate([weights.values(self.scored)[fold]
                               for weights, fold in zip(of_folds, self.folds, strict=True)])

    def _value(self, weights: Weights) -> float:
        return float(weights.values(self.scored)[self.rows].mean())


def _best_alone(values: dict[str, np.ndarray], rows: np.ndarray) -> Weights:
    """Return weight 1 for the member with the highest mean metric on the queries `rows`, and 0 for the others."""
    best = max(values, key=lambda name: values[name][rows].mean())
    return Weights(dict.fromkeys(values, 0.0) | {best: 1.0}, {}, {}, 0)


def _of_members(scored: Scored, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of all members."""
    return replace(weights, all=_scaled(coordinate_ascent(weights.all, list(weights.all),
                                                          lambda tried: scored.values(tried, {})[rows])))


def _by_length(scored: Scored, limit: int, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of their own for histories of fewer items than `limit` and for the others; `rows` have both."""
    def own(part: np.ndarray) -> Numbers:
        return _scaled(coordinate_ascent(weights.all, list(weights.all), lambda tried: scored.values(tried, {})[part]))

    is_long = scored.lengths_Q[rows] >= limit
    assert is_long.any()
    assert not is_long.all()
    return Weights(own(rows[~is_long]), own(rows[is_long]), weights.cold, limit)


def _by_coldness(scored: Scored, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of their own for cold items."""
    names = list(weights.all)
    return replace(weights, cold=coordinate_ascent(weights.all, names,
                                         lambda tried: replace(weights, cold=tried).values(scored)[rows]))


def coordinate_ascent(numbers: Numbers, names: list[str], values_of: Callable[[Numbers], np.ndarray]) -> Numbers:
    """Return the weights after coordinate ascent over the named members."""
    value = float(values_of(numbers).mean())
    for _ in range(_ROUNDS):
        before = value
        for name in names:
            numbers, value = ascend(numbers, name, value, lambda tried: float(values_of(tried).mean()))
        if value == before:
            break
    return numbers


def ascend(weights: Numbers, name: str, value: float,
           value_of: Callable[[Numbers], float]) -> tuple[Numbers, float]:
    """Return the weights with the best weight for one member, and their value; unchanged where none is better."""
    top = max(weights.values())
    best = weights
    for step in _STEPS:
        tried = weights | {name: step * top}
        if max(tried.values()) > 0 and (found := value_of(tried)) > value:
            best, value = tried, found
    return best, value


def _scaled(numbers: Numbers) -> Numbers:
    """Return the weights with the largest at 1."""
    top = max(numbers.values())
    return {name: number / top for name, number in numbers.items()}


def _mean(found: list[Weights]) -> Weights:
    """Return the mean of weights learned on several folds."""
    every, long, cold = ([getattr(weights, part) for weights in found] for part in ("all", "long", "cold"))
    return Weights(_mean_numbers(every), _mean_numbers(long), _mean_numbers(cold), found[0].long_history)


def _mean_numbers(found: list[Numbers]) -> Numbers:
    """Return the mean of each member's weight; small ones are 0 (`_LEAST`)."""
    assert all(numbers.keys() == found[0].keys() for numbers in found), "a part has weights in some folds alone"
    mean = {name: float(np.mean([numbers[name] for numbers in found])) for name in found[0]}
    least = _LEAST * max(mean.values(), default=0.0)
    return {name: round(weight, _DIGITS) if weight >= least else 0.0 for name, weight in mean.items()}
