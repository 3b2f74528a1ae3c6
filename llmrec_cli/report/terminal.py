"""Terminal output: plain text without control codes, on a terminal and in a pipe alike."""

from typing import Any

from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.plain_text import columns, display_width, printable
from llmrec_cli.report.candidates import query_count

__all__ = ["columns", "display_width", "headline_table", "printable"]


def headline_table(model: str, content: dict[str, Any], cutoff: int) -> str:
    """Return the main metrics of the model, the other models and the baselines; `content` is that of metrics.json.

    p-values are corrected for the number of comparisons (Holm).
    """
    names = metric_columns("terminal", cutoff)
    header = [query_count(content["protocol"]), *names]
    rows = [[model, *(_value(content["metrics"], name) for name in names)],
            ["  95% interval", *(_interval(content["metrics"], name) for name in names)]]
    others = {name: one["metrics"] for name, one in content.get("models", {}).items() if name != model}
    for other, metrics in (others | content["baselines"]).items():
        rows.append([other, *(_value(metrics, name) for name in names)])
        rows.append([f"  p against {model} (Holm)", *(_p(content["comparisons"][other], name) for name in names)])
    return columns(header, rows)


def _value(metrics: dict[str, Any], name: str) -> str:
    return f"{metrics[name]['mean']:z.4f}" if name in metrics else "-"


def _interval(metrics: dict[str, Any], name: str) -> str:
    limits = metrics.get(name, {}).get("ci95")
    return f"{limits[0]:z.3f}-{limits[1]:z.3f}" if limits else ""


def _p(comparison: dict[str, Any], name: str) -> str:
    return f"{comparison[name]['p_holm']:.3f}" if name in comparison else ""
