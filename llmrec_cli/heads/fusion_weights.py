"""Learning the weights of a fusion on validation.

Shapes: Q queries, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from llmrec_cli.heads.fusion_scored import Scored

STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Weights tried for a member, as multiples of the largest weight."""
ROUNDS = 3
"""Most rounds over the members."""
ENOUGH = 200
"""Fewest queries in a half, and held-out interactions with cold items in it, for weights to be learned on it."""

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
        sum_QN = _sum(self.all, scores)
        if self.long and bool((long_Q := lengths_Q >= self.long_history).any()):
            sum_QN[long_Q] = _sum(self.long, {name: s[long_Q] for name, s in scores.items()})
        if self.cold and bool(cold_N.any()):
            sum_QN[:, cold_N] = _sum(self.cold, {name: s[:, cold_N] for name, s in scores.items()})
        return sum_QN


def learn(scored: Scored, seed: int) -> tuple[Weights, dict[str, float]]:
    """Return weights never worse than the best member on validation, and the value of each member alone."""
    names = list(scored.scores)
    alone = {name: scored.value(_only(name, names)) for name in names}
    weights = common(scored, _only(max(names, key=lambda name: alone[name]), names))
    limit = int(np.median(scored.lengths_Q)) + 1
    weights = _apart(scored, weights, partial(_by_length, limit), seed)
    if min(half.num_cold() for half in _halves(scored, seed)) >= ENOUGH:
        weights = _apart(scored, weights, _by_coldness, seed)
        if weights.cold:
            # The others are for warm items alone now; before, they had to do for both.
            weights = common(scored, weights)
    return weights, alone


def common(scored: Scored, start: Weights) -> Weights:
    """Return the weights after coordinate ascent on those of all that has none of its own."""
    return replace(start, all=_ascent(start.all, lambda tried: scored.value(replace(start, all=tried))))


def _by_length(limit: int, scored: Scored, weights: Weights) -> Weights:
    """Return weights of their own for histories of fewer items than `limit` and for the others."""
    start = Weights(weights.all, {}, {}, 0)
    short, long = (scored.rows(np.flatnonzero(where)) for where in (scored.lengths_Q < limit,
                                                                    scored.lengths_Q >= limit))
    if not len(short) or not len(long):
        return weights
    return Weights(common(short, start).all, common(long, start).all, weights.cold, limit)


def _by_coldness(scored: Scored, weights: Weights) -> Weights:
    """Return weights of their own for cold items."""
    cold = _ascent(weights.all, lambda tried: scored.value(replace(weights, cold=tried)))
    return replace(weights, cold=cold)


def _apart(scored: Scored, weights: Weights, learned: Callable[[Scored, Weights], Weights], seed: int) -> Weights:
    """Return weights for two parts apart if those learned on either half of the queries are better on the other.

    Otherwise, and where there are too few queries, return the weights as they are. What is kept is learned on all.
    """
    if len(scored) < 2 * ENOUGH:
        return weights
    one, other = _halves(scored, seed)
    for here, there in ((one, other), (other, one)):
        # Against what learning on this half is worth without parts too: going on learning alone is no ground for them.
        together = max(there.value(weights), there.value(common(here, weights)))
        if there.value(learned(here, weights)) <= together:
            return weights
    apart = learned(scored, weights)
    return apart if scored.value(apart) > scored.value(weights) else weights


def _halves(scored: Scored, seed: int) -> tuple[Scored, Scored]:
    """Return the queries in two parts, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(scored))
    middle = len(order) // 2
    return scored.rows(np.sort(order[:middle])), scored.rows(np.sort(order[middle:]))


def _ascent(numbers: Numbers, value_of: Callable[[Numbers], float]) -> Numbers:
    """Return the weights after coordinate ascent."""
    value = value_of(numbers)
    for _ in range(ROUNDS):
        before = value
        for name in numbers:
            numbers, value = ascend(numbers, name, value, value_of)
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


def _only(name: str, names: list[str]) -> Weights:
    return Weights(dict.fromkeys(names, 0.0) | {name: 1.0}, {}, {}, 0)


def _sum(weights: Numbers, scores: dict[str, torch.Tensor]) -> torch.Tensor:
    used = [name for name in scores if weights[name] > 0]
    sum_QN = scores[used[0]] * weights[used[0]]
    for name in used[1:]:
        sum_QN.add_(scores[name], alpha=weights[name])
    return sum_QN
