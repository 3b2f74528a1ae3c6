"""Tables of the report as rows of formatted cells."""

from typing import Any

from llmrec_cli.report.cells import Cell, Row, Table
from llmrec_cli.report.content import Content

METRICS = ("ndcg", "recall", "precision", "f1", "hit", "map", "mrr", "coverage", "novelty", "tail_share", "diversity",
           "gini", "arp")
SLICED = ("ndcg", "recall", "hit", "mrr")
SLICES = {"item:head": "Items: most popular 5%", "item:mid": "Items: next 15%", "item:tail": "Items: other 80%",
          "item:cold": "Items: not in training", "user:few": "Users: third with the shortest history",
          "user:many": "Users: third with the longest history", "user:cold": "Users: none in the training split"}


def metrics_table(content: Content) -> Table:
    """Return a row per metric: the mean of each recommender, then the difference to each baseline."""
    metrics, k = content.metrics, content.cutoff
    named = [metrics["metrics"], *metrics["baselines"].values()]
    rows = []
    for name in (f"{name}@{k}" for name in METRICS if f"{name}@{k}" in metrics["metrics"]):
        differences = [_difference(compared.get(name)) for compared in metrics["comparisons"].values()]
        rows.append(Row(name, [*(_mean(values, name) for values in named), *differences]))
    return Table([content.model, *metrics["baselines"], *(f"gain over {who}" for who in metrics["comparisons"])], rows)


def slices_table(content: Content) -> Table:
    """Return a row per slice with what the model reaches in it."""
    metrics, k = content.metrics, content.cutoff
    names, sizes = [f"{name}@{k}" for name in SLICED], metrics["protocol"]["slice_queries"]
    return Table(["users", *names], [Row(SLICES[which], [Cell(f"{sizes[which]:,}", ""),
                                                         *(_mean(values, name) for name in names)])
                                     for which, values in metrics["slices"].items()])


def _mean(metrics: dict[str, Any], name: str) -> Cell:
    if name not in metrics:
        return Cell("–", "")
    limits = metrics[name]["ci95"]
    return Cell(_number(metrics[name]["mean"]), f"{_number(limits[0])} to {_number(limits[1])}" if limits else "")


def _difference(comparison: dict[str, Any] | None) -> Cell:
    if comparison is None:
        return Cell("", "")
    low, high = comparison["ci95"]
    kind = "better" if low > 0 else "worse" if high < 0 else ""
    return Cell(f"{comparison['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}; p {comparison['p']:.3f}", kind)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
