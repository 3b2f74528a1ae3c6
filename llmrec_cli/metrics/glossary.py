"""The table of metrics as text, for `evaluate --help` and docs/metrics.md.

`python -m llmrec_cli.metrics.glossary` prints docs/metrics.md; `make docs` writes it.
"""

from llmrec_cli.metrics.metric import LOWER, Metric
from llmrec_cli.metrics.table import METRICS

PAGE = """# Metrics

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
    return PAGE + "\n".join(rows) + "\n"


def _marks(metric: Metric) -> list[str]:
    marks = {"monitor": metric.monitored, "slices": metric.sliced, "ties": metric.expected, "lists": metric.whole}
    return [name for name, marked in marks.items() if marked]


if __name__ == "__main__":
    print(markdown(), end="")
