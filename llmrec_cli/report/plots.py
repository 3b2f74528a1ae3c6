"""Plots as inline SVG whose colours are CSS variables, so that they follow the page's light or dark theme.

No item titles here: fonts of a plot lack scripts that a browser has.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llmrec_cli.metrics.table import METRICS, columns, view_metrics
from llmrec_cli.report.content import Curve

_INK, _SOFT, _RULE = "#010101", "#020202", "#030303"
_SERIES = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b")
"""Colours that the page replaces: text, lesser text, lines, the model, and each of the others."""
_BASELINE = _SERIES[4]
"""Grey."""
_NEAR = 0.02
"""Share of a picture within which two dots have one label."""
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _RULE: "--rule",
              **{colour: f"--series-{n}" for n, colour in enumerate(_SERIES)}}
MOST_POINTS = 1500
"""Points that one line or cloud has at most: a picture of a large catalogue must stay small."""
_STYLE: Any = {
         "svg.fonttype": "none", "svg.hashsalt": "llmrec", "font.size": 10, "text.color": _INK, "axes.edgecolor": _RULE,
         "axes.labelcolor": _SOFT, "xtick.color": _RULE, "ytick.color": _RULE, "xtick.labelcolor": _SOFT,
         "ytick.labelcolor": _INK, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
         "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False, "figure.dpi": 72,
         "savefig.transparent": True, "grid.color": _RULE, "grid.linewidth": 0.6, "axes.axisbelow": True}


def metrics_with_intervals(metrics: dict[str, Any], cutoff: int, model: str) -> str:
    """Return a panel per metric: the mean of each recommender with its 95% interval."""
    names = columns("panels", cutoff)
    named = {model: metrics["metrics"], **metrics["baselines"]}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 1.6 + 1.1 * len(named)), layout=ConstrainedLayoutEngine(h_pad=0.14, w_pad=0.12))
        for axes, name in zip(_panels(figure, len(names)), names, strict=True):
            for row, (_who, values) in enumerate(named.items()):
                mean, (low, high) = values[name]["mean"], values[name]["ci95"]
                axes.plot([low, high], [row, row], color=_colour(row), linewidth=3, alpha=0.45, solid_capstyle="round")
                axes.plot(mean, row, "o", color=_colour(row), markersize=7)
                axes.annotate(f"{mean:.3f}", (mean, row), (0, 8), textcoords="offset points", ha="center", color=_INK)
            axes.set_title(name)
            axes.set_yticks(range(len(named)), list(named))
            axes.set_ylim(len(named) - 0.5, -0.7)
            axes.margins(x=0.18)
            axes.grid(axis="x")
            axes.tick_params(length=0)
            axes.xaxis.set_major_locator(_ticks(4))
            axes.spines[["left"]].set_visible(False)
        return _svg(figure, "metrics", f"Means with 95% intervals of {', '.join(named)} for {', '.join(names)}")


def metrics_by_length(metrics: dict[str, Any], cutoffs: Sequence[int], model: str) -> str:
    """Return the main metrics over the list length, intervals as bands."""
    names = [metric.name for metric in view_metrics("lengths")]
    named = {model: metrics["metrics"], **metrics["baselines"]}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
            for row, (who, values) in enumerate(named.items()):
                means = [values[f"{name}@{k}"]["mean"] for k in cutoffs]
                low, high = zip(*(values[f"{name}@{k}"]["ci95"] for k in cutoffs), strict=True)
                axes.fill_between(cutoffs, low, high, color=_colour(row), alpha=0.18, linewidth=0)
                axes.plot(cutoffs, means, "o-", color=_colour(row), markersize=4, label=who)
            axes.set_title(name)
            axes.set_xticks(cutoffs)
            axes.set_xlabel("list length k")
            _open(axes)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(named))
        return _svg(figure, "lengths", f"{', '.join(names[:-1])} and {names[-1]} by list length for {', '.join(named)}")


def popularity(counts_N: np.ndarray, exposure: dict[str, np.ndarray]) -> str:
    """Return the popularity curve with what is recommended: per item, and as shares of the catalogue."""
    order = np.argsort(-counts_N, kind="stable")
    model = next(iter(exposure))
    rank = np.arange(1, len(order) + 1)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 3.8), layout="constrained")
        items, shares = figure.subplots(1, 2)
        drawn = _some(np.flatnonzero(exposure[model][order]))
        items.plot(rank[drawn], exposure[model][order][drawn], "o", color=_SERIES[0], markersize=3, alpha=0.45,
                   linewidth=0, label=f"lists of {model} it is on")
        num_trained = max(1, int(np.count_nonzero(counts_N)))
        drawn = np.unique(np.geomspace(1, num_trained, MOST_POINTS).astype(int)) - 1
        items.plot(rank[drawn], counts_N[order][drawn], color=_INK, linewidth=1.8, label="training interactions")
        items.set_yscale("log")
        items.set_xscale("log")
        items.set_title("Each item, most popular first")
        items.set_xlabel("popularity rank")
        items.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        items.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        drawn = _some(np.arange(len(order)))
        for n, (label, values) in enumerate({"training interactions": counts_N, **exposure}.items()):
            share = np.cumsum(values[order]) / max(1, values.sum())
            shares.plot(np.r_[0, rank[drawn] / len(rank)], np.r_[0, share[drawn]], label=label, linewidth=1.8,
                        color=_colour(n - 1) if n else _INK, linestyle="-" if n <= len(_SERIES) else "--")
        shares.set_title("Share that goes to the most popular")
        shares.set_xlabel("share of the catalogue, most popular first")
        for axis in (shares.xaxis, shares.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        for axes in (items, shares):
            _open(axes)
            axes.legend(loc="best")
        return _svg(figure, "popularity", "Popularity of items and how often each is recommended")


def trade_offs(metrics: dict[str, Any], everyone: dict[str, Any], cutoff: int) -> str:
    """Return accuracy against coverage and against the share of the tail, a numbered dot per recommender."""
    ours, board = f"ndcg@{cutoff}", metrics["leaderboard"]["rows"]
    others = [(metric.column(cutoff), metric.axis) for metric in METRICS.values() if metric.axis]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 4.2), layout="constrained")
        panels = figure.subplots(1, len(others), sharey=True, squeeze=False).flat
        for axes, (name, label) in zip(panels, others, strict=True):
            drawn = [(place, entry["baseline"], everyone[entry["name"]]) for place, entry in enumerate(board, 1)
                     if name in everyone[entry["name"]]]
            # Baselines first: where a model and a baseline are the same, the model is seen.
            for _place, is_baseline, values in sorted(drawn, key=lambda one: not one[1]):
                x, (low, high) = values[name]["mean"], values[ours]["ci95"]
                colour = _BASELINE if is_baseline else _SERIES[0]
                axes.plot([x, x], [low, high], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
                axes.plot(x, values[ours]["mean"], "o", color=colour, markersize=6)
            points = {place: (values[name]["mean"], values[ours]["mean"]) for place, _, values in drawn}
            for places, point in _labels(points):
                axes.annotate(places, point, (7, 3), textcoords="offset points", color=_INK, fontweight="bold")
            axes.set_xlabel(label)
            axes.xaxis.set_major_locator(_ticks(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
            axes.margins(x=0.12, y=0.12)
            _open(axes)
            axes.grid(axis="x")
        figure.axes[0].set_ylabel(ours)
        return _svg(figure, "tradeoffs", f"{ours} against coverage and tail share, numbered as in the leaderboard")


def training(curves: Sequence[Curve]) -> str:
    """Return losses and validation metrics over training, a panel for each name."""
    names = list(dict.fromkeys(curve.name for curve in curves))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
            for n, curve in enumerate(c for c in curves if c.name == name):
                steps, values = zip(*curve.points, strict=True)
                axes.plot(steps, values, "o-" if len(steps) < 40 else "-", color=_colour(n), markersize=4,
                          label=f"fit {n + 1}")
            axes.set_title(name)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            _open(axes)
            if n:
                axes.legend(loc="best")
        return _svg(figure, "training", f"Training curves: {', '.join(names)}")


def _panels(figure: Figure, number: int) -> list[Axes]:
    """Return panels in rows of three, with a common vertical axis."""
    panels = list(figure.subplots(-(-number // 3), 3, sharey=True, squeeze=False).flat)
    for spare in panels[number:]:
        spare.remove()
    return panels[:number]


def _labels(points: dict[int, tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Return a label for each point, one for those that lie too near to each other to have their own."""
    width, height = (max(np.ptp(axis), 1e-9) for axis in zip(*points.values(), strict=True)) if points else (1, 1)
    groups: list[list[int]] = []
    for place, (x, y) in points.items():
        near = next((group for group in groups if abs(points[group[0]][0] - x) <= _NEAR * width
                     and abs(points[group[0]][1] - y) <= _NEAR * height), None)
        groups.append([place]) if near is None else near.append(place)
    return [(", ".join(map(str, group)), points[group[0]]) for group in groups]


def _ticks(number: int) -> MaxNLocator:
    return MaxNLocator(number, steps=[1, 2, 2.5, 5, 10])


def _some(places: np.ndarray) -> np.ndarray:
    """Return at most MOST_POINTS of `places`, evenly chosen, the first and the last among them."""
    return places[np.unique(np.linspace(0, len(places) - 1, MOST_POINTS).astype(int))] if len(places) else places


def _colour(row: int) -> str:
    return _SERIES[row % len(_SERIES)]


def _open(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines[["left"]].set_visible(False)


def _svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an SVG element with ids of its own, without a declaration and links to namespaces."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg, count=5)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(description)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
