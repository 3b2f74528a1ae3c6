"""The table of metrics, the only source of metric names, and the page docs/metrics.md.

Each family of metrics lists its entries beside its functions: `ranking` (hits on lists, areas under ROC curves,
weighted recall), `beyond_accuracy`, `members`, `rating`. Importing the table imports no numpy.

`python -m llmrec_cli.metrics.table` prints docs/metrics.md; `make docs` writes it.
"""

from llmrec_cli.metrics.beyond_accuracy import LISTS, VARIETY
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import LOWER, SYMBOLS, Metric
from llmrec_cli.metrics.ranking import AREAS, RANKING, WEIGHTED_RECALL
from llmrec_cli.metrics.rating import LIKES, VALUES

METRICS = {metric.name: metric
           for metric in (*RANKING, *AREAS, *WEIGHTED_RECALL, *LISTS, *VARIETY, *MEMBERS, *VALUES, *LIKES)}
"""Name -> metric."""
MONITORED = tuple(metric.name for metric in METRICS.values() if metric.monitored)
"""Names of the metrics that are allowed for model selection on validation."""


def metric_of(column: str) -> Metric:
    """Return the metric of a column of metrics.json, such as `ndcg@10` or `auc`."""
    return METRICS[column.partition("@")[0]]


def view_metrics(view: str) -> list[Metric]:
    """Return the metrics of a view (an attribute of `ViewPositions`) in the order of their positions."""
    metrics = [metric for metric in METRICS.values() if getattr(metric.positions, view)]
    return sorted(metrics, key=lambda metric: int(getattr(metric.positions, view)))


def columns(view: str, k: int) -> list[str]:
    """Return the columns of metrics.json in a view at list length k."""
    return [metric.column(k) for metric in view_metrics(view)]


_PAGE = """# Metrics

`make docs` writes this page from the table of metrics; `llmrec evaluate --help` and report.html print the same
definitions.

`<metric>@k` uses the first k places of each list, for every `k=` of `llmrec evaluate`. Means are over users or groups
with held-out interactions. An empty list scores 0 in accuracy metrics and has no value in metrics of the items on it.
Differences between recommenders are tested where one direction is better and each user or group has a value.

`llmrec evaluate` writes report.html, in which every metric has its definition as a tooltip and in a glossary;
`language=zh` writes it in Chinese. A report on several models, `models=[<a>,<b>]`, is about the model with the highest
metric (the `monitor` that all were chosen by, otherwise ndcg), or the model that `about=<model>` names. metrics.json is
always about the first model. A baseline that is one of the models is left out.

- monitor: usable for model selection on validation, `llmrec finetune monitor=<metric>@<k>`.
- slices: also reported for slices of users and items.
- ties: `ties=expected` gives the mean over all orders of equal scores; other metrics break ties by hash.
- lists: one value for all lists or pairs together, without a confidence interval.

Symbols in the formulas: SYMBOLS

| metric | definition | formula | range | better | look at it | |
|---|---|---|---|---|---|---|
"""


def sentence(metric: Metric) -> str:
    """Return the definition of a metric, and a note where lower values are better."""
    return f"{metric.definition} Lower is better." if metric.better == LOWER else metric.definition


def markdown() -> str:
    """Return the page docs/metrics.md."""
    rows = [f"| `{metric.column('k')}` | {metric.definition} | {metric.formula} | {metric.range} | "
            f"{metric.better or '–'} | {metric.use} | {', '.join(_marks(metric))} |" for metric in METRICS.values()]
    return _PAGE.replace("SYMBOLS", SYMBOLS) + "\n".join(rows) + "\n"


def _marks(metric: Metric) -> list[str]:
    marks = {"monitor": metric.monitored, "slices": metric.sliced, "ties": metric.expected, "lists": metric.pooled}
    return [name for name, marked in marks.items() if marked]


if __name__ == "__main__":
    print(markdown(), end="")
