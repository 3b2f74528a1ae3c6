"""The table of metrics: every list of metric names comes from here.

A metric is an entry of its family, written beside its function: `ranking` (hits on lists, areas under ROC curves,
weighted recall), `beyond_accuracy`, `members`, `rating`. Importing the table imports no numpy.
"""

from llmrec_cli.metrics.beyond_accuracy import LISTS, VARIETY
from llmrec_cli.metrics.members import MEMBERS
from llmrec_cli.metrics.metric import Metric
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
