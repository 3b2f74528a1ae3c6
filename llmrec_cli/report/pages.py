"""Pages of HTML without network or script, and tables of formatted cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmrec_cli import __version__
from llmrec_cli.metrics.metric import LOWER, Metric
from llmrec_cli.metrics.table import view_metrics

if TYPE_CHECKING:  # `prepare` makes a page too and must not wait for torch.
    from llmrec_cli.report.content import Content


@dataclass(frozen=True)
class Cell:
    """A value and what stands below it; `kind` is better, worse, letters, a shade of heat or empty."""

    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table; `note` stands below the name, `ours` is the line that the page is about."""

    name: str
    cells: list[Cell]
    note: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """Names of the columns after the first, and the rows."""

    columns: list[str]
    rows: list[Row]


SLICES = {"item:head": "Items: most popular 5%", "item:mid": "Items: next 15%", "item:tail": "Items: other 80%",
          "item:cold": "Items: not in training", "item:warm": "Items: in training",
          "user:few": "Users: third with the shortest history",
          "user:many": "Users: third with the longest history", "user:cold": "Users: none in the training split",
          "user:warm": "Users: some in the training split", "group:few": "Groups: third with the shortest history",
          "group:many": "Groups: third with the longest history", "group:cold": "Groups: none in the training split"}


def metrics_table(content: "Content") -> Table:
    """Return a row per metric: the mean of each recommender, then the difference to each baseline."""
    metrics, k = content.metrics, content.cutoff
    named = [metrics["metrics"], *metrics["baselines"].values()]
    rows = []
    for metric in measured(content):
        name = metric.column(k)
        differences = [difference_cell(compared.get(name), -1 if metric.better == LOWER else 1)
                       for who, compared in metrics["comparisons"].items() if who in metrics["baselines"]]
        rows.append(Row(name, [*(described(values, name) for values in named), *differences]))
    return Table([content.model, *metrics["baselines"], *(f"gain over {who}" for who in metrics["baselines"])], rows)


def measured(content: "Content") -> list[Metric]:
    """Return the metrics of the table that metrics.json has, in their order."""
    return [metric for metric in view_metrics("table") if metric.column(content.cutoff) in content.metrics["metrics"]]


def slices_table(content: "Content") -> Table:
    """Return a row per slice with what the model reaches in it."""
    metrics, k = content.metrics, content.cutoff
    names = [metric.column(k) for metric in view_metrics("table") if metric.sliced]
    sizes = metrics["protocol"]["slice_queries"]
    rows = [Row(slice_name(which), [Cell(f"{sizes[which]:,}", ""), *(described(values, name) for name in names)])
            for which, values in metrics["slices"].items()]
    return Table([metrics["protocol"].get("audience", "users"), *names], rows)


def slice_name(which: str) -> str:
    """Return the name of a slice for people: item:genres=Drama as "Items: genres Drama"."""
    side, _, rest = which.partition(":")
    return SLICES.get(which) or f"{side.title()}s: {rest.replace('=', ' ', 1)}"


def described(metrics: dict[str, Any], name: str) -> Cell:
    """Return the mean of a metric over its interval."""
    if name not in metrics:
        return Cell("–", "")
    limits = metrics[name]["ci95"]
    return Cell(_number(metrics[name]["mean"]), f"{_number(limits[0])} to {_number(limits[1])}" if limits else "")


def difference_cell(comparison: dict[str, Any] | None, good: int) -> Cell:
    """Return a paired difference over its interval; `good` is 1 where more is better, -1 where less is."""
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
# One for the process: a template is compiled where it is first asked for, which takes longer than most pages.
_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def page(template: str, values: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from data is escaped, `style` and `version` are added."""
    # The style is ours, not the data's.
    style = Markup((_FOLDER / "style.css").read_text("utf-8"))
    return _TEMPLATES.get_template(template).render(values, version=__version__, style=style)
