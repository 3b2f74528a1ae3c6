"""HTML pages without network or script, and tables of formatted cells."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from llmrec_cli import __version__
from llmrec_cli.language.phrases import ENGLISH, Joined, Phrase, fixed_phrase, translate
from llmrec_cli.metrics.metric import LOWER, SYMBOLS, Metric
from llmrec_cli.metrics.table import metric_of, view_metrics
from llmrec_cli.report.terminal import p_value

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
    """Column names, without the first column, and rows; `metrics` says where metrics are named: rows or columns."""

    columns: list[str]
    rows: list[Row]
    metrics: str = ""


SLICES = {"item:head": Phrase("Items: most popular 5%"), "item:mid": Phrase("Items: next 15%"),
          "item:tail": Phrase("Items: other 80%"), "item:cold": Phrase("Items: not in training"),
          "item:warm": Phrase("Items: in training"),
          "user:few": Phrase("Users: third with the shortest histories"),
          "user:many": Phrase("Users: third with the longest histories"),
          "user:cold": Phrase("Users: no training interactions"),
          "user:warm": Phrase("Users: with training interactions"),
          "group:few": Phrase("Groups: third with the shortest histories"),
          "group:many": Phrase("Groups: third with the longest histories"),
          "group:cold": Phrase("Groups: no training interactions")}


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
    return Table([content.model, *metrics["baselines"], *(gain_over(who) for who in metrics["baselines"])], rows,
                 "rows")


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
    return Table([Phrase(metrics["protocol"].get("audience", "users")), *names], rows, "columns")


def slice_name(which: str) -> str:
    """Return a readable name of a slice: item:genres=Drama as "Items: genres Drama"."""
    side, _, rest = which.partition(":")
    return SLICES.get(which) or Phrase("{kind}: {which}", kind=Phrase(f"{side.title()}s"),
                                       which=rest.replace("=", " ", 1))


def gain_over(baseline: str) -> Phrase:
    """Return the name of the column with differences to a baseline."""
    return Phrase("gain over {baseline}", baseline=baseline)


def mean_cell(metrics: dict[str, Any], name: str) -> Cell:
    """Return a cell with the mean of a metric and its interval below."""
    if name not in metrics:
        return Cell("–", "")
    limits = metrics[name]["ci95"]
    return Cell(_number(metrics[name]["mean"]), Phrase("{low} to {high}", low=_number(limits[0]),
                                                       high=_number(limits[1])) if limits else "")


def difference_cell(comparison: dict[str, Any] | None, good: int) -> Cell:
    """Return a cell with a paired difference and its interval; `good` is 1 if higher is better, -1 if lower is."""
    if comparison is None:
        return Cell("", "")
    low, high = comparison["ci95"]
    sign = good if low > 0 else -good if high < 0 else 0
    kind = {1: "better", -1: "worse", 0: ""}[sign]
    p = p_value(comparison.get("p_holm", comparison["p"]))
    return Cell(f"{comparison['difference']:+.4f}", Phrase("{low:+.4f} to {high:+.4f}; p {p}", low=low, high=high, p=p),
                kind)


def _number(value: float) -> str:
    return f"{value:z.4f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


@dataclass(frozen=True)
class GlossaryEntry:
    """A metric of the glossary, in words."""

    name: str
    column: str
    definition: Phrase
    formula: Phrase
    bounds: Phrase
    use: Phrase

    @property
    def tip(self) -> Joined:
        """The definition and the range, for a tooltip."""
        return Joined([self.definition, self.bounds], " ")


def glossary(names: Iterable[str]) -> dict[str, GlossaryEntry]:
    """Return the entries of the metrics in `names`, such as ndcg@10, by the name before @."""
    metrics = dict.fromkeys(map(metric_of, names))
    return {metric.name: GlossaryEntry(
        metric.name, metric.column("k"), metric.definition, Phrase(metric.formula),
        Phrase("Range: {range}; {direction}.", range=metric.range, direction=metric.direction), Phrase(metric.use))
        for metric in metrics}


_FOLDER = Path(__file__).parent


@pass_context
def _in_language(context: Context, value: Any) -> Any:
    return translate(value, context["language"])


# One environment per process, since compiling a template takes longer than rendering most pages.
_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                         finalize=_in_language)
_TEMPLATES.globals |= {"phrase": Phrase, "fixed_phrase": fixed_phrase, "joined": Joined, "glossary": {},
                       "symbols": Phrase(SYMBOLS)}


def page(template: str, values: Mapping[str, Any], language: str = ENGLISH) -> str:
    """Render the template with `values`, `style` and `version`; values from data are escaped, phrases translated."""
    # The style sheet is part of the package, so it needs no escaping.
    style = Markup((_FOLDER / "style.css").read_text("utf-8"))
    return _TEMPLATES.get_template(template).render(values, version=__version__, style=style, language=language)
