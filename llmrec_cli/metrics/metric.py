"""A metric of the table: its function and its properties (direction, bounds, views).

Shapes: Q queries, C cutoffs (list lengths k), P pairs of a user and an item.

Modules of metrics import numpy inside functions, since `--help` and composing a config read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any

from llmrec_cli.language.phrases import Phrase

HIGHER, LOWER = "higher", "lower"
SYMBOLS = (
    "k: length of the list. h(n): number of relevant items among the first n of the list; h = h(k). r: number of "
    "relevant items. Σ over hits: sum over the relevant items on the list, at their ranks. n_i: number of training "
    "interactions of item i; N: of all items. M: number of candidate items. Means over users or groups follow.")
"""Symbols in the formulas."""


@dataclass(frozen=True)
class ViewPositions:
    """Position of a metric in each view, lowest first; 0: not in the view. Equal positions keep the table's order.

    Attributes
    ----------
    table : rows of the table of metrics in report.html
    leaderboard : columns of the leaderboard
    terminal : columns of the table that `evaluate` prints
    panels, lengths : plots of the means, and of the means by list length
    summary : metrics in a run's manifest, and columns of tables with a row per model variant
    """

    table: int = 0
    leaderboard: int = 0
    terminal: int = 0
    panels: int = 0
    lengths: int = 0
    summary: int = 0


@dataclass(frozen=True)
class Metric:
    """A metric, named after its function and defined by the first sentence of the function's docstring.

    Attributes
    ----------
    function : maps the family's input to values: (Q, C), without `by_length` (Q,), with `pooled` (C,) or a number
    better : higher | lower; empty where neither is better, so that differences are not tested
    by_length : has a value for each list length k, named `<name>@<k>`
    pooled : one value for all lists together, without an interval over queries
    expected : supports `TiedHits`, so that ties=expected gives the mean over all orders of equal scores
    monitored : allowed for model selection on validation, `monitor=<name>@<k>`
    sliced : reported for slices of users and items
    shortest : smallest k that it is defined for
    weight : maps the family's input to the weight of each query in the mean, float64 (Q,); None: equal weights
    root : values of queries are squares and the metric is the root of their mean
    highest : upper bound; the lower bound is 0
    formula : formula in the symbols of `SYMBOLS`
    use : sentence on when to look at the metric
    empty : value for a query with an empty list
    axis : label of its axis in the plot of accuracy against variety; empty: not in the plot
    """

    function: Callable[[Any], Any]
    better: str = ""
    by_length: bool = True
    pooled: bool = False
    expected: bool = False
    monitored: bool = False
    sliced: bool = False
    shortest: int = 1
    weight: Callable[[Any], Any] | None = None
    root: bool = False
    highest: float = 1.0
    empty: float = 0.0
    axis: str = ""
    formula: str = ""
    use: str = ""
    positions: ViewPositions = field(default_factory=ViewPositions)

    @property
    def name(self) -> str:
        """The name in metrics.json, without `@<k>`."""
        return self.function.__name__

    @property
    def definition(self) -> Phrase:
        """One sentence for `evaluate --help`, the report and docs/metrics.md."""
        return Phrase(" ".join((self.function.__doc__ or "").partition("\n\n")[0].split()))

    @property
    def range(self) -> Phrase:
        """Lowest and highest value."""
        return Phrase("0 or more") if isinf(self.highest) else Phrase("0 to {highest:g}", highest=self.highest)

    @property
    def direction(self) -> Phrase:
        """Better direction of the values, in words."""
        return (Phrase("higher is better") if self.better == HIGHER else
                Phrase("lower is better") if self.better == LOWER else Phrase("neither is better in itself"))

    @property
    def tested(self) -> bool:
        """True if differences between recommenders are tested: the metric has a direction and a value per query."""
        return bool(self.better) and not self.pooled

    def values(self, source: Any) -> Any:
        """Return the values within the metric's range; rounding alone can move a computed value out of it."""
        import numpy as np

        return np.clip(self.function(source), 0, self.highest)

    def column(self, k: int | str) -> str:
        """Return the name at list length k."""
        return f"{self.name}@{k}" if self.by_length else self.name

    def columns(self, cutoffs: Sequence[int]) -> dict[str, int]:
        """Return {column name: index in `cutoffs`} for the list lengths that the metric is defined for."""
        if not self.by_length:
            return {self.name: 0}
        return {self.column(k): c for c, k in enumerate(cutoffs) if k >= self.shortest}


def evaluate_all(family: Iterable[Metric], source: Any, cutoffs: Sequence[int], *, pooled: bool = False,
                 by_cutoff: bool = False) -> dict[str, Any]:
    """Return the values of a family's metrics by column: all lengths of a metric, then the next metric.

    `pooled` selects the metrics with one value for all lists; otherwise those with a value per query. `by_cutoff`
    orders columns by length first: all metrics of a length, then the next length.
    """
    columns: list[tuple[int, str, Any]] = []
    for metric in family:
        if metric.pooled == pooled:
            values = metric.values(source)
            columns += [(c, column, values[..., c] if metric.by_length else values)
                        for column, c in metric.columns(cutoffs).items()]
    if by_cutoff:
        columns.sort(key=lambda entry: entry[0])
    return {column: values for _, column, values in columns}


def weights_of(family: Iterable[Metric], source: Any, cutoffs: Sequence[int]) -> dict[str, Any]:
    """Return {column: query weights, float64 (Q,)} for the metrics that weight queries."""
    return {column: metric.weight(source) for metric in family if metric.weight is not None
            for column in metric.columns(cutoffs)}
