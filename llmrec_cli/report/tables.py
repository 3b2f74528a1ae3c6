"""Tables of the report as rows of formatted cells."""

from dataclasses import dataclass
from typing import Any

from llmrec_cli.report.content import Content

METRICS = ("ndcg", "recall", "precision", "f1", "hit", "map", "mrr", "coverage", "novelty", "tail_share", "diversity",
           "gini", "arp")
COMPARED = ("ndcg", "recall", "precision", "hit", "map", "mrr")
SLICED = ("ndcg", "recall", "hit", "mrr")
SLICES = {"item:head": "Items: most popular 5%", "item:mid": "Items: next 15%", "item:tail": "Items: other 80%",
          "item:cold": "Items: not in training", "user:few": "Users: third with the shortest history",
          "user:many": "Users: third with the longest history", "user:cold": "Users: none in the training split"}


@dataclass(frozen=True)
class Cell:
    """A value and what stands below it; `kind` is better, worse or empty."""

    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    cells: list[Cell]
    users: str = ""


@dataclass(frozen=True)
class Tables:
    """All tables and the names of their columns."""

    names: list[str]
    metrics: list[Row]
    compared: list[str]
    comparisons: list[Row]
    sliced: list[str]
    slices: list[Row]


def tables(content: Content) -> Tables:
    """Return the tables of an evaluation at the report's list length."""
    metrics, k = content.metrics, content.cutoff
    names = [f"{name}@{k}" for name in METRICS if f"{name}@{k}" in metrics["metrics"]]
    named = {content.model: metrics["metrics"], **metrics["baselines"]}
    compared, sliced = [f"{name}@{k}" for name in COMPARED], [f"{name}@{k}" for name in SLICED]
    sizes = metrics["protocol"]["slice_queries"]
    return Tables(names, [Row(who, [_mean(values, name) for name in names]) for who, values in named.items()],
                  compared, [Row(who, [_difference(values[name]) for name in compared])
                             for who, values in metrics["comparisons"].items()],
                  sliced, [Row(SLICES[slice_], [_mean(values, name) for name in sliced], f"{sizes[slice_]:,}")
                           for slice_, values in metrics["slices"].items()])


def _mean(metrics: dict[str, Any], name: str) -> Cell:
    if name not in metrics:
        return Cell("–", "")
    limits = metrics[name]["ci95"]
    return Cell(_number(metrics[name]["mean"]), f"{_number(limits[0])} to {_number(limits[1])}" if limits else "")


def _difference(comparison: dict[str, Any]) -> Cell:
    low, high = comparison["ci95"]
    kind = "better" if low > 0 else "worse" if high < 0 else ""
    return Cell(f"{comparison['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}; p {comparison['p']:.3f}", kind)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
