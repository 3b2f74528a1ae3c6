"""HTML pages without network or script, and tables of formatted cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrec_cli import __version__
from llmrec_cli.metrics.metric import LOWER, Metric
from llmrec_cli.metrics.table import view_metrics

if TYPE_CHECKING:  # `prepare` renders a page too and must not import torch.
    from llmrec_cli.report.content import EvaluationReport


@dataclass(frozen=True)
class Cell:
    """A value with a note below it; `kind` is better, worse, letters, a shade of the heat map, or empty."""

    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table with a note below its name; `ours` marks the model that the page is about."""

    name: str
    cells: list[Cell]
    note: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """Column names, without the first column, and rows."""

    columns: list[str]
    rows: list[Row]


SLICES = {"item:head": "Items: most popular 5%", "item:mid": "Items: next 15%", "item:tail": "Items: other 80%",
          "item:cold": "Items: not in training", "item:warm": "Items: in training",
          "user:few": "Users: third with the shortest histories",
          "user:many": "Users: third with the longest histories", "user:cold": "Users: no training interactions",
          "user:warm": "Users: with training interactions", "group:few": "Groups: third with the shortest histories",
          "group:many": "Groups: third with the longest histories", "group:cold": "Groups: no training interactions"}


def metrics_table(content: "EvaluationReport") -> Table:
    """Return a row per metric: the mean of each recommender, then the differences to each baseline."""
    metrics, k = content.metrics, content.cutoff
    recommenders = [metrics["metrics"], *metrics["baselines"].values()]
    rows = []
    for metric in table_metrics(content):
        name = metric.column(k)
        differences = [difference_cell(compared.get(name), -1 if metric.better == LOWER else 1)
                       for who, compared in metrics["comparisons"].items() if who in metrics["baselines"]]
        rows.append(Row(name, [*(mean_cell(values, name) for values in recommenders), *differences]))
    return Table([content.model, *metrics["baselines"], *(f"gain over {who}" for who in metrics["baselines"])], rows)


def table_metrics(content: "EvaluationReport") -> list[Metric]:
    """Return the metrics in metrics.json that the table shows, in their order."""
    return [metric for metric in view_metrics("table") if metric.column(content.cutoff) in content.metrics["metrics"]]


def slices_table(content: "EvaluationReport") -> Table:
    """Return a row per slice with the metrics of the model."""
    metrics, k = content.metrics, content.cutoff
    names = [metric.column(k) for metric in view_metrics("table") if metric.sliced]
    sizes = metrics["protocol"]["slice_queries"]
    rows = [Row(slice_name(which), [Cell(f"{sizes[which]:,}", ""), *(mean_cell(values, name) for name in names)])
            for which, values in metrics["slices"].items()]
    return Table([metrics["protocol"].get("audience", "users"), *names], rows)


def slice_name(which: str) -> str:
    """Return a readable name of a slice: item:genres=Drama as "Items: genres Drama"."""
    side, _, rest = which.partition(":")
    return SLICES.get(which) or f"{side.title()}s: {rest.replace('=', ' ', 1)}"


def mean_cell(metrics: dict[str, Any], name: str) -> Cell:
    """Return a cell with the mean of a metric and its interval below."""
    if name not in metrics:
        return Cell("–", "")
    limits = metrics[name]["ci95"]
    return Cell(_number(metrics[name]["mean"]), f"{_number(limits[0])} to {_number(limits[1])}" if limits else "")


def difference_cell(comparison: dict[str, Any] | None, good: int) -> Cell:
    """Return a cell with a paired difference and its interval; `good` is 1 if higher is better, -1 if lower is."""
    if comparison is None:
        return Cell("", "")
    low, high = comparison["ci95"]
    sign = good if low > 0 else -good if high < 0 else 0
    kind = {1: "better", -1: "worse", 0: ""}[sign]
    p = comparison.get("p_holm", comparison["p"])
    return Cell(f"{comparison['difference']:+.4f}",
                f"{low:+.4f} to {high:+.4f}; p {'< .001' if p < 0.001 else f'{p:.3f}'}", kind)


def _number(value: float) -> str:
    return f"{value:z.4f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


_FOLDER = Path(__file__).parent
# One environment per process, since compiling a template takes longer than rendering most pages.
_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def page(template: str, values: Mapping[str, Any]) -> str:
    """Render the template with `values`, `style` and `version`; values from data are escaped."""
    # The style sheet is part of the package, so it needs no escaping.
    style = Markup((_FOLDER / "style.css").read_text("utf-8"))
    return _TEMPLATES.get_template(template).render(values, version=__version__, style=style)
