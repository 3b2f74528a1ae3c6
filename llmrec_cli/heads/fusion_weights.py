"""Learning the weights of a fusion on validation.

Shapes: Q queries, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.scoring.validation import Validation

STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
"""Weights tried for a member, as multiples of the largest weight."""
ROUNDS = 3
"""Most rounds over the members."""
SPLITS = 2
"""Times the validation queries are split in halves; the weights learned on the halves are averaged."""
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

    def used(self) -> set[str]:
        """Return the members with a weight above 0 somewhere."""
        return {name for part in (self.all, self.long, self.cold) for name, weight in part.items() if weight > 0}

    def sum(self, scores: dict[str, torch.Tensor], lengths_Q: torch.Tensor, cold_N: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the members' scaled scores (Q, N)."""
        sum_QN = _sum(self.all, scores)
        if self.long and bool((long_Q := lengths_Q >= self.long_history).any()):
            sum_QN[long_Q] = _sum(self.long, {name: s[long_Q] for name, s in scores.items()})
        if self.cold and bool(cold_N.any()):
            sum_QN[:, cold_N] = _sum(self.cold, {name: s[:, cold_N] for name, s in scores.items()})
        return sum_QN


@dataclass(frozen=True)
class Scored:
    """The members' scaled scores (Q, N) of the validation queries."""

    scores: dict[str, torch.Tensor]
    validation: Validation
    cold_N: torch.Tensor

    @property
    def lengths_Q(self) -> torch.Tensor:
        """The length of each query's history."""
        return torch.from_numpy(np.diff(self.validation.queries.history.indptr))

    def value(self, weights: Weights) -> float:
        """Return the validation metric of a weighted sum."""
        return self.validation.of(weights.sum(self.scores, self.lengths_Q, self.cold_N))

    def rows(self, which: np.ndarray) -> "Scored":
        """Return the chosen queries."""
        ours = self.validation
        part = replace(ours, queries=ours.queries.rows(which), relevant=ours.relevant[which])
        return Scored({name: s[torch.from_numpy(which)] for name, s in self.scores.items()}, part, self.cold_N)

    def halves(self, seed: int) -> tuple["Scored", "Scored"]:
        """Return the queries in two parts, drawn at random."""
        drawn = np.random.default_rng(seed).permutation(len(self.validation.queries))
        middle = len(drawn) // 2
        return self.rows(np.sort(drawn[:middle])), self.rows(np.sort(drawn[middle:]))

    def num_cold(self) -> int:
        """Return the held-out interactions with cold items."""
        return int(self.cold_N.numpy()[self.validation.relevant.indices].sum())


def learn(scored: Scored, seed: int) -> tuple[Weights, dict[str, float]]:
    """Return weights never worse than the best member on validation, and the value of each member alone."""
    names = list(scored.scores)
    alone = {name: scored.value(_only(name, names)) for name in names}
    weights = _common(scored, alone, seed)
    weights = _apart(scored, weights, _by_length, seed)
    if min(half.num_cold() for half in scored.halves(seed)) >= ENOUGH:
        weights = _apart(scored, weights, _by_coldness, seed)
    return weights, alone


def _common(scored: Scored, alone: dict[str, float], seed: int) -> Weights:
    """Return the mean of what is learned on halves; where that is no better than the best member, what all say."""
    best = max(alone, key=lambda name: alone[name])
    if len(scored.validation.queries) >= 2 * ENOUGH:
        found = [_from_best(half) for n in range(SPLITS) for half in scored.halves(seed + n)]
        mean = Weights(_mean([weights.all for weights in found]), {}, {}, 0)
        if scored.value(mean) > alone[best]:
            return mean
    return _from_best(scored)


def _from_best(scored: Scored) -> Weights:
    names = list(scored.scores)
    best = max(names, key=lambda name: scored.value(_only(name, names)))
    return _ascent(scored, _only(best, names), "all")


def _by_length(scored: Scored, weights: Weights) -> Weights:
    """Return weights of their own for short and long histories."""
    lengths_Q = scored.lengths_Q.numpy()
    limit = weights.long_history or int(np.median(lengths_Q)) + 1
    parts = {}
    for name, where in (("all", lengths_Q < limit), ("long", lengths_Q >= limit)):
        part = scored.rows(np.flatnonzero(where))
        parts[name] = _ascent(part, Weights(weights.all, {}, {}, 0), "all").all if where.any() else weights.all
    return Weights(parts["all"], parts["long"], weights.cold, limit)


def _by_coldness(scored: Scored, weights: Weights) -> Weights:
    """Return weights of their own for cold items."""
    return _ascent(scored, replace(weights, cold=dict(weights.all)), "cold")


def _apart(scored: Scored, weights: Weights, learned: Callable[[Scored, Weights], Weights], seed: int) -> Weights:
    """Return weights for two parts apart if that, learned on either half of the queries, is better on the other.

    Otherwise, and where there are too few queries, return the weights as they are. What is kept is the mean of both.
    """
    if len(scored.validation.queries) < 2 * ENOUGH:
        return weights
    one, other = scored.halves(seed)
    limit = replace(weights, long_history=int(np.median(scored.lengths_Q.numpy())) + 1)
    start = limit if learned is _by_length else weights
    of_one, of_other = learned(one, start), learned(other, start)
    if other.value(of_one) <= other.value(weights) or one.value(of_other) <= one.value(weights):
        return weights
    mean = Weights(_mean([of_one.all, of_other.all]), _mean([of_one.long, of_other.long]),
                   _mean([of_one.cold, of_other.cold], of_one.all), of_one.long_history)
    return mean if scored.value(mean) > scored.value(weights) else weights


def _ascent(scored: Scored, weights: Weights, part: str) -> Weights:
    """Return the weights after coordinate ascent on those of one part."""
    numbers, value = dict(getattr(weights, part)), scored.value(weights)

    def value_of(tried: Numbers) -> float:
        return scored.value(replace(weights, **{part: tried}))

    for _ in range(ROUNDS):
        before = value
        for name in numbers:
            numbers, value = ascend(numbers, name, value, value_of)
        if value == before:
            break
    return replace(weights, **{part: numbers})


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


def _mean(found: list[Numbers], like: Numbers | None = None) -> Numbers:
    """Return the mean of weights, each scaled to sum 1; those of cold items keep their size beside the others."""
    if not found[0]:
        return {}
    sums = [1.0 if like is not None else sum(weights.values()) for weights in found]
    return {name: sum(weights[name] / s for weights, s in zip(found, sums, strict=True)) / len(found)
            for name in found[0]}


def _sum(weights: Numbers, scores: dict[str, torch.Tensor]) -> torch.Tensor:
    used = [name for name in scores if weights[name] > 0]
    sum_QN = scores[used[0]] * weights[used[0]]
    for name in used[1:]:
        sum_QN.add_(scores[name], alpha=weights[name])
    return sum_QN


def drawn(validation: Validation, num: int, seed: int) -> Validation:
    """Return at most `num` of the validation queries, at random."""
    size = len(validation.queries)
    if size <= num:
        return validation
    rows = np.sort(np.random.default_rng(seed).choice(size, num, replace=False))
    relevant: sp.csr_array = validation.relevant[rows]
    return replace(validation, queries=validation.queries.rows(rows), relevant=relevant)
