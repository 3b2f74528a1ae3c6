"""Plots as inline SVG with CSS variables as colours, so that they follow the page's light or dark theme.

Plots contain no item titles, because the fonts of the plots lack the characters of many languages.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llmrec_cli.language.phrases import ENGLISH, Joined, Phrase, translate
from llmrec_cli.metrics.table import METRICS, columns, view_metrics
from llmrec_cli.report.content import Curve

_INK, _SOFT, _RULE = "#010101", "#020202", "#030303"
_SERIES = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b")
"""Placeholder colours that the page replaces: text, secondary text, lines, the model, and other recommenders."""
_BASELINE = _SERIES[4]
"""Grey."""
_NEAR = 0.02
"""Distance, as a share of the plot, within which two dots share a label."""
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _RULE: "--rule",
              **{colour: f"--series-{n}" for n, colour in enumerate(_SERIES)}}
MAX_POINTS = 1500
"""Maximum number of points of a line or cloud, so that the file stays small for a large catalogue."""
_STYLE: Any = {
         "svg.fonttype": "none", "svg.hashsalt": "llmrec", "font.size": 10, "text.color": _INK, "axes.edgecolor": _RULE,
         "axes.labelcolor": _SOFT, "xtick.color": _RULE, "ytick.color": _RULE, "xtick.labelcolor": _SOFT,
         "ytick.labelcolor": _INK, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
         "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False, "figure.dpi": 72,
         "savefig.transparent": True, "grid.color": _RULE, "grid.linewidth": 0.6, "axes.axisbelow": True}


def metrics_with_intervals(metrics: dict[str, Any], cutoff: int, model: str, language: str = ENGLISH) -> str:
    """Return a panel per metric: the mean of each recommender with its 95% interval."""
    names = columns("panels", cutoff)
    recommenders = {model: metrics["metrics"], **metrics["baselines"]}
    with _drawing():
        figure = Figure(figsize=(10.4, 1.6 + 1.1 * len(recommenders)), layout=ConstrainedLayoutEngine(h_pad=0.14,
                                                                                                      w_pad=0.12))
        for axes, name in zip(_panels(figure, len(names)), names, strict=True):
            for row, (_who, values) in enumerate(recommenders.items()):
                mean, (low, high) = values[name]["mean"], values[name]["ci95"]
                axes.plot([low, high], [row, row], color=_colour(row), linewidth=3, alpha=0.45, solid_capstyle="round")
                axes.plot(mean, row, "o", color=_colour(row), markersize=7)
                axes.annotate(f"{mean:.3f}", (mean, row), (0, 8), textcoords="offset points", ha="center", color=_INK)
            axes.set_title(name)
            axes.set_yticks(range(len(recommenders)), list(recommenders))
            axes.set_ylim(len(recommenders) - 0.5, -0.7)
            axes.margins(x=0.18)
            axes.grid(axis="x")
            axes.tick_params(length=0)
            axes.xaxis.set_major_locator(_ticks(4))
            axes.spines[["left"]].set_visible(False)
        return _svg(figure, "metrics", translate(Phrase(
            "Means with 95% intervals of {models} for {metrics}", models=Joined(recommenders),
            metrics=Joined(names)), language))


def metrics_by_length(metrics: dict[str, Any], cutoffs: Sequence[int], model: str,
                      language: str = ENGLISH) -> str:
    """Return the main metrics over the list length, intervals as bands."""
    names = [metric.name for metric in view_metrics("lengths")]
    recommenders = {model: metrics["metrics"], **metrics["baselines"]}
    with _drawing():
        figure = Figure(figsize=(10.4, 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
            for row, (recommender, values) in enumerate(recommenders.items()):
                means = [values[f"{name}@{k}"]["mean"] for k in cutoffs]
                low, high = zip(*(values[f"{name}@{k}"]["ci95"] for k in cutoffs), strict=True)
                axes.fill_between(cutoffs, low, high, color=_colour(row), alpha=0.18, linewidth=0)
                axes.plot(cutoffs, means, "o-", color=_colour(row), markersize=4, label=recommender)
            axes.set_title(name)
            axes.set_xticks(cutoffs)
            axes.set_xlabel(translate(Phrase("list length k"), language))
            _style_axes(axes)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(recommenders))
        return _svg(figure, "lengths", translate(Phrase("{metrics} by list length for {models}", metrics=Joined(names),
                                                        models=Joined(recommenders)), language))


def popularity(counts_N: np.ndarray, exposure: dict[str, np.ndarray], language: str = ENGLISH) -> str:
    """Return the popularity curve with what is recommended: per item, and as shares of the catalogue."""
    def text(template: str, **values: str) -> str:
        return str(translate(Phrase(template, **values), language))

    order = np.argsort(-counts_N, kind="stable")
    model = next(iter(exposure))
    rank = np.arange(1, len(order) + 1)
    with _drawing():
        figure = Figure(figsize=(10.4, 3.8), layout="constrained")
        items, shares = figure.subplots(1, 2)
        points = _some(np.flatnonzero(exposure[model][order]))
        items.plot(rank[points], exposure[model][order][points], "o", color=_SERIES[0], markersize=3, alpha=0.45,
                   linewidth=0, label=text("number of lists ({model})", model=model))
        num_trained = max(1, int(np.count_nonzero(counts_N)))
        points = np.unique(np.geomspace(1, num_trained, MAX_POINTS).astype(int)) - 1
        items.plot(rank[points], counts_N[order][points], color=_INK, linewidth=1.8,
                   label=text("training interactions"))
        items.set_yscale("log")
        items.set_xscale("log")
        items.set_title(text("Each item, most popular first"))
        items.set_xlabel(text("popularity rank"))
        items.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        items.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        points = _some(np.arange(len(order)))
        for n, (label, values) in enumerate({text("training interactions"): counts_N, **exposure}.items()):
            share = np.cumsum(values[order]) / max(1, values.sum())
            shares.plot(np.r_[0, rank[points] / len(rank)], np.r_[0, share[points]], label=label, linewidth=1.8,
                        color=_colour(n - 1) if n else _INK, linestyle="-" if n <= len(_SERIES) else "--")
        shares.set_title(text("Share of the most popular items"))
        shares.set_xlabel(text("share of the catalogue, most popular first"))
        for axis in (shares.xaxis, shares.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        for axes in (items, shares):
            _style_axes(axes)
            axes.legend(loc="best")
        return _svg(figure, "popularity", text("Popularity of items and how often each is recommended"))


def trade_offs(metrics: dict[str, Any], everyone: dict[str, Any], cutoff: int,
               language: str = ENGLISH) -> str:
    """Return accuracy against coverage and against the share of the tail, a numbered dot per recommender."""
    ours, board = metrics["leaderboard"]["metric"], metrics["leaderboard"]["rows"]
    others = [(metric.column(cutoff), metric.axis) for metric in METRICS.values() if metric.axis]
    with _drawing():
        figure = Figure(figsize=(10.4, 4.2), layout="constrained")
        panels = figure.subplots(1, len(others), sharey=True, squeeze=False).flat
        for axes, (name, label) in zip(panels, others, strict=True):
            entries = [(place, entry["baseline"], everyone[entry["name"]]) for place, entry in enumerate(board, 1)
                       if name in everyone[entry["name"]]]
            # Baselines first, so that models are drawn on top.
            for _place, is_baseline, values in sorted(entries, key=lambda one: not one[1]):
                x, (low, high) = values[name]["mean"], values[ours]["ci95"]
                colour = _BASELINE if is_baseline else _SERIES[0]
                axes.plot([x, x], [low, high], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
                axes.plot(x, values[ours]["mean"], "o", color=colour, markersize=6)
            points = {place: (values[name]["mean"], values[ours]["mean"]) for place, _, values in entries}
            for places, point in _labels(points):
                axes.annotate(places, point, (7, 3), textcoords="offset points", color=_INK, fontweight="bold")
            axes.set_xlabel(translate(Phrase(label), language))
            axes.xaxis.set_major_locator(_ticks(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
            axes.margins(x=0.12, y=0.12)
            _style_axes(axes)
            axes.grid(axis="x")
        figure.axes[0].set_ylabel(ours)
        return _svg(figure, "tradeoffs", translate(Phrase(
            "{metric} against coverage and tail share, numbered as in the leaderboard", metric=ours), language))


def training(curves: Sequence[Curve], language: str = ENGLISH) -> str:
    """Return losses and validation metrics over training, a panel for each name."""
    names = list(dict.fromkeys(curve.name for curve in curves))
    with _drawing():
        figure = Figure(figsize=(10.4, 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
            for n, curve in enumerate(c for c in curves if c.name == name):
                steps, values = zip(*curve.points, strict=True)
                axes.plot(steps, values, "o-" if len(steps) < 40 else "-", color=_colour(n), markersize=4,
                          label=translate(Phrase("fit {num}", num=n + 1), language))
            axes.set_title(translate(name, language))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            _style_axes(axes)
            if n:
                axes.legend(loc="best")
        return _svg(figure, "training", translate(Phrase("Training curves: {names}", names=Joined(names)), language))


@contextmanager
def _drawing() -> Iterator[None]:
    """Use the style of the plots, without warnings about characters that only the reader's browser can draw."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _panels(figure: Figure, number: int) -> list[Axes]:
    """Return panels in rows of three, with a common vertical axis."""
    panels = list(figure.subplots(-(-number // 3), 3, sharey=True, squeeze=False).flat)
    for spare in panels[number:]:
        spare.remove()
    return panels[:number]


def _labels(points: dict[int, tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Return a label per point; points that are too near to each other share a label."""
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
    """Return at most MOST_POINTS of `places`, evenly spaced, including the first and the last."""
    return places[np.unique(np.linspace(0, len(places) - 1, MAX_POINTS).astype(int))] if len(places) else places


def _colour(row: int) -> str:
    return _SERIES[row % len(_SERIES)]


def _style_axes(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines[["left"]].set_visible(False)


def _svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an SVG element with unique ids, without declaration and namespaces."""
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
