"""Terminal output: plain text without control codes, on a terminal and in a pipe alike."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.report.candidates import query_count

_JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts and emoji need."""
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that can move the cursor, reverse the text direction or break a line."""


def printable(text: str) -> str:
    """Return `text` with control characters escaped: ESC as \\x1b, a line break as \\n."""
    return "".join(c if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE
                   else c.encode("unicode_escape").decode() for c in text)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, the first column left-aligned and the others right-aligned."""
    table = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(display_width(row[n]) for row in table) for n in range(len(header))]
    lines = []
    for row in table:
        cells = [" " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cell + space if n == 0 else space + cell
                               for n, (cell, space) in enumerate(zip(row, cells, strict=True))).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Return the width of a text in terminal cells; East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) or c in _JOINERS else
               2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def p_value(p: float) -> str:
    """Return a p-value with three decimals; a smaller value is never written as 0."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


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
    return p_value(comparison[name]["p_holm"]) if name in comparison else ""
