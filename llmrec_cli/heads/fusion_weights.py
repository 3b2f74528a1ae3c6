"""Learn the weights of a fusion on validation, so that it is not worse than its best member elsewhere.

Stacking (Wolpert 1992; Breiman 1996 with weights of at least 0) by cross-validation: weights are learned on four fifths
of the queries and judged on the last fifth, in turn, and the folds' weights are averaged. Members are added one by one
from the best, as in ensemble selection (Caruana et al. 2004), each only if the held-out folds gain more than their
standard error (`scoring.acceptance`). So the library always holds the best member alone, as the discrete super learner
does (van der Laan, Polley and Hubbard 2007), and it stays unless a sum is shown to be better. Differs from these: the
objective is the ranking metric itself, by coordinate ascent, since squared error says little about lists.

Shapes: Q queries, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from llmrec_cli.heads.fusion_scored import Scored, weighted_sum
from llmrec_cli.scoring.acceptance import Acceptance, accepted

STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Weights tried for a member, as multiples of the largest weight."""
ROUNDS = 3
"""Most rounds over the members."""
NUM_FOLDS = 5
ENOUGH = 400
"""Fewest queries, and for cold items held-out interactions with them, on which parts get weights of their own."""
DIGITS = 3
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
    """Something that was tried: a further member, or weights of their own for a part.

    Attributes
    ----------
    name : the member, `long histories` or `cold items`
    held_out : the gain on queries held out in turn
    kept : whether it became part of the fusion
    """

    name: str
    held_out: Acceptance
    kept: bool


@dataclass(frozen=True)
class Learned:
    """Learned weights, the metric of each member alone, and all that was tried on the way."""

    weights: Weights
    alone: dict[str, float]
    steps: list[Step]


Learner = Callable[[Weights, np.ndarray], Weights]
"""Return better weights than those given, learned on some of the queries (their numbers)."""


def learn(scored: Scored, seed: int, rows: np.ndarray | None = None) -> Learned:
    """Return weights learned on the queries `rows` (all by default): the best member's, or those shown to be better."""
    rows = np.arange(scored.num_queries) if rows is None else rows
    alone = {name: float(scored.values({name: 1.0}, {})[rows].mean()) for name in scored.names}
    best = max(scored.names, key=lambda name: alone[name])
    weights = Weights(dict.fromkeys(scored.names, 0.0) | {best: 1.0}, {}, {}, 0)
    folds = np.array_split(np.random.default_rng(seed).permutation(rows), min(NUM_FOLDS, len(rows)))
    if len(folds) < 2:
        return Learned(weights, alone, [])
    search = _Search(scored, folds)
    weights = search.members(weights)
    limit = int(np.median(scored.lengths_Q[rows])) + 1
    num_long = int((scored.lengths_Q[rows] >= limit).sum())
    if len(rows) >= ENOUGH and 0 < num_long < len(rows):
        weights = search.attempt(weights, "long histories", partial(_by_length, scored, limit))
    if scored.num_cold_Q[rows].sum() >= ENOUGH:
        weights = search.attempt(weights, "cold items", partial(_by_coldness, scored))
    return Learned(weights, alone, search.steps)


class _Search:
    """What is tried on the folds, and the record of it."""

    def __init__(self, scored: Scored, folds: list[np.ndarray]) -> None:
        self.scored, self.folds = scored, folds
        self.steps: list[Step] = []

    def members(self, weights: Weights) -> Weights:
        """Return the weights after members were added one by one, the one that gains most first."""
        while left := [name for name, weight in weights.all.items() if weight == 0]:
            tried = {name: self._cross_fitted(weights, partial(_with_member, self.scored, name)) for name in left}
            name = max(tried, key=lambda name: tried[name][1].gain)
            self.steps += [Step(other, tried[other][1], kept=False) for other in left if other != name]
            if not self._keeps(name, weights, *tried[name]):
                return weights
            weights = tried[name][0]
        return weights

    def attempt(self, weights: Weights, name: str, learner: Learner) -> Weights:
        """Return what the learner makes of the weights if the held-out folds say that it is better."""
        found, held_out = self._cross_fitted(weights, learner)
        return found if self._keeps(name, weights, found, held_out) else weights

    def _keeps(self, name: str, weights: Weights, found: Weights, held_out: Acceptance) -> bool:
        rows = np.concatenate(self.folds)
        # The averaged weights are none of those that were judged, so that they too must be better.
        better = found.values(self.scored)[rows].mean() > weights.values(self.scored)[rows].mean()
        self.steps.append(Step(name, held_out, kept=held_out.is_accepted and bool(better)))
        return self.steps[-1].kept

    def _cross_fitted(self, weights: Weights, learner: Learner) -> tuple[Weights, Acceptance]:
        """Return the mean of the weights learned without each fold, and their gain on the folds left out."""
        before_Q, found, gains = weights.values(self.scored), [], []
        for fold in self.folds:
            others = np.concatenate([other for other in self.folds if other is not fold])
            found.append(learner(weights, others))
            gains.append(found[-1].values(self.scored)[fold] - before_Q[fold])
        return _mean(found), accepted(np.concatenate(gains))


def _with_member(scored: Scored, name: str, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of the members so far and one more."""
    names = [other for other, weight in weights.all.items() if weight > 0] + [name]
    found = coordinate_ascent(weights.all, names, lambda tried: scored.values(tried, {})[rows])
    return replace(weights, all=_scaled(found))


def _by_length(scored: Scored, limit: int, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of their own for histories of fewer items than `limit` and for the others."""
    def own(part: np.ndarray) -> Numbers:
        return _scaled(coordinate_ascent(weights.all, list(weights.all), lambda tried: scored.values(tried, {})[part]))

    is_long = scored.lengths_Q[rows] >= limit
    if is_long.all() or not is_long.any():
        return weights
    return Weights(own(rows[~is_long]), own(rows[is_long]), weights.cold, limit)


def _by_coldness(scored: Scored, weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of their own for cold items."""
    names = list(weights.all)
    return replace(weights, cold=coordinate_ascent(weights.all, names,
                                         lambda tried: replace(weights, cold=tried).values(scored)[rows]))


def coordinate_ascent(numbers: Numbers, names: list[str], values_of: Callable[[Numbers], np.ndarray]) -> Numbers:
    """Return the weights after coordinate ascent over the named members."""
    value = float(values_of(numbers).mean())
    for _ in range(ROUNDS):
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
    for step in STEPS:
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
    return {name: round(float(np.mean([numbers[name] for numbers in found])), DIGITS) for name in found[0]}
