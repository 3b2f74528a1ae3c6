"""The table of metrics, from which every list of metric names comes, and its glossary as text.

A metric is an entry of its family, written beside its function: `ranking` (hits on lists, areas under ROC curves,
weighted recall), `beyond_accuracy`, `members`, `rating`. Importing the table imports no numpy.

`python -m llmrec_cli.metrics.table` prints docs/metrics.md; `make docs` writes it.
"""

from llmrec_cli.metrics.beyond_accuracy import LISTS, VARIETY
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import LOWER, Metric
from llmrec_cli.metrics.ranking import AREAS, RANKING, WEIGHTED_RECALL
from llmrec_cli.metrics.rating import LIKES, VALUES

METRICS = {metric.name: metric
           for metric in (*RANKING, *AREAS, *WEIGHTED_RECALL, *LISTS, *VARIETY, *MEMBERS, *VALUES, *LIKES)}
"""Name -> metric."""
MONITORED = tuple(metric.name for metric in METRICS.values() if metric.monitored)
"""Names of the metrics that may choose on validation."""


def metric_of(column: str) -> Metric:
    """Return the metric of a column of metrics.json, `ndcg@10` or `auc`."""
    return METRICS[column.partition("@")[0]]


def shown(view: str) -> list[Metric]:
    """Return the metrics of a view, an attribute of `Shown`, in their order there."""
    chosen = [metric for metric in METRICS.values() if getattr(metric.shown, view)]
    return sorted(chosen, key=lambda metric: int(getattr(metric.shown, view)))


def columns(view: str, k: int) -> list[str]:
    """Return the columns of metrics.json that a view shows at list length k."""
    return [metric.column(k) for metric in shown(view)]


_PAGE = """# Metrics

Written from the table of metrics by `make docs`; `llmrec evaluate --help` and report.html print the same sentences.

`<metric>@k` is about the first k places of each list, for every `k=` of `llmrec evaluate`. Means are over users or
groups with held-out interactions; an empty list scores 0 in metrics of accuracy and has no value in metrics of its
items. Differences between recommenders are tested where one direction is better and each user or group has a value.

- monitor: `llmrec finetune monitor=<metric>@<k>` chooses by it on validation.
- slices: reported for slices of users and items.
- ties: `ties=expected` gives its mean over all orders of equal scores; other metrics use the order by hash.
- lists: one value for all lists or pairs together, without an interval.

| metric | definition | better | |
|---|---|---|---|
"""


def sentence(metric: Metric) -> str:
    """Return the definition, and the direction where it is not the usual one."""
    return f"{metric.definition} Lower is better." if metric.better == LOWER else metric.definition


def markdown() -> str:
    """Return the page docs/metrics.md."""
    rows = [f"| `{metric.column('k')}` | {metric.definition} | {metric.better or '–'} | {', '.join(_marks(metric))} |"
            for metric in METRICS.values()]
    return _PAGE + "\n".join(rows) + "\n"


def _marks(metric: Metric) -> list[str]:
    marks = {"monitor": metric.monitored, "slices": metric.sliced, "ties": metric.expected, "lists": metric.whole}
    return [name for name, marked in marks.items() if marked]


if __name__ == "__main__":
    print(markdown(), end="")
