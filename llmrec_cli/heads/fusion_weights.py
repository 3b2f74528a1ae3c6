"""Learn the weights of a fusion on validation, so that it is not worse than its best member elsewhere.

Stacking (Wolpert 1992; Breiman 1996, with weights of at least 0) by cross-validation: weights are learned on four
fifths of the queries and judged on the last fifth, in turn, and the folds' weights are averaged. The best member alone
is always among what is compared, as in the discrete super learner (van der Laan, Polley and Hubbard 2007). It stays
unless the held-out folds gain more than their standard error (`scoring.acceptance`); by the same rule a member is
dropped that the others do without. Differs from these: the objective is the ranking metric itself, by coordinate
ascent, since squared error says little about lists.

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
"""Fewest queries with a long history, and with a short one, and for cold items held-out interactions with them, on
which a part gets weights of its own."""
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
    """A trial: the members together, one of them beside the others, or weights of their own for a part.

    Attributes
    ----------
    name : `members`, a member, `long histories` or `cold items`
    held_out : the gain on queries held out in turn, over what there would be without it
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
    limit = int(np.median(scored.lengths_Q[rows])) + 1
    is_long = scored.lengths_Q[rows] >= limit
    folds = _folds(rows, is_long, seed)
    if len(folds) < 2:
        return Learned(weights, alone, [])
    search = _Search(scored, folds)
    weights = search.members(weights)
    if min(np.count_nonzero(is_long), np.count_nonzero(~is_long)) >= max(ENOUGH, NUM_FOLDS):
        weights = search.attempt(weights, "long histories", partial(_by_length, scored, limit))
    if scored.num_cold_Q[rows].sum() >= ENOUGH:
        weights = search.attempt(weights, "cold items", partial(_by_coldness, scored))
    return Learned(weights, alone, search.steps)


def _folds(rows: np.ndarray, is_long: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows in at most NUM_FOLDS random folds; each has its share of the long histories, give or take one."""
    order = np.random.default_rng(seed).permutation(len(rows))
    stratified = rows[order[np.argsort(is_long[order], kind="stable")]]
    num_folds = min(NUM_FOLDS, len(rows))
    return [stratified[first::num_folds] for first in range(num_folds)]


class _Search:
    """Trials on the folds, and the record of them."""

    def __init__(self, scored: Scored, folds: list[np.ndarray]) -> None:
        self.scored, self.folds = scored, folds
        self.rows = np.concatenate(folds)
        self.steps: list[Step] = []

    def members(self, single: Weights) -> Weights:
        """Return weights of the members that gain something together, none that the others do without."""
        names = list(self.scored.names)
        weights = self.attempt(single, "members", partial(_of_members, self.scored, names))
        alone_Q = single.values(self.scored)[self.rows]
        while weights != single and len(names) > 2:
            _, full_Q = self._cross_fitted(single, partial(_of_members, self.scored, names))
            removable = [name for name in names if single.all[name] == 0]
            without = {name: self._cross_fitted(single, partial(_of_members, self.scored,
                                                                [other for other in names if other != name]))
                       for name in removable}
            gains = {name: accepted(full_Q - held_out_Q) for name, (_, held_out_Q) in without.items()}
            least = min(removable, key=lambda name: gains[name].gain)
            fewer, fewer_Q = without[least]
            # What is left must still be better than the best member alone.
            if gains[least].is_accepted or not self._is_better(single, fewer, accepted(fewer_Q - alone_Q)):
                self.steps += [Step(name, gains[name], kept=True) for name in removable]
                return weights
            self.steps.append(Step(least, gains[least], kept=False))
            names.remove(least)
            weights = fewer
        return weights

    def attempt(self, weights: Weights, name: str, learner: Learner) -> Weights:
        """Return the weights that the learner finds, if the held-out folds say that they are better."""
        found, held_out_Q = self._cross_fitted(weights, learner)
        held_out = accepted(held_out_Q - weights.values(self.scored)[self.rows])
        self.steps.append(Step(name, held_out, kept=self._is_better(weights, found, held_out)))
        return found if self.steps[-1].kept else weights

    def _is_better(self, weights: Weights, found: Weights, held_out: Acceptance) -> bool:
        # The averaged weights are none of those that were judged, so that they too must be better.
        return held_out.is_accepted and bool(found.values(self.scored)[self.rows].mean()
                                             > weights.values(self.scored)[self.rows].mean())

    def _cross_fitted(self, weights: Weights, learner: Learner) -> tuple[Weights, np.ndarray]:
        """Return the mean of the weights learned without each fold, and each query's metric by those of its fold."""
        found = [learner(weights, np.concatenate([other for other in self.folds if other is not fold]))
                 for fold in self.folds]
        held_out_Q = np.concatenate([of_fold.values(self.scored)[fold]
                                     for of_fold, fold in zip(found, self.folds, strict=True)])
        return _mean(found), held_out_Q


def _of_members(scored: Scored, names: list[str], weights: Weights, rows: np.ndarray) -> Weights:
    """Return weights of the named members, the others as they are."""
    found = coordinate_ascent(weights.all, names, lambda tried: scored.values(tried, {})[rows])
    return replace(weights, all=_scaled(found))


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
    assert all(numbers.keys() == found[0].keys() for numbers in found), "a part has weights in some folds alone"
    return {name: round(float(np.mean([numbers[name] for numbers in found])), DIGITS) for name in found[0]}
