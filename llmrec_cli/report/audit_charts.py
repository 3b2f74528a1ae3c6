"""Charts of the audit as plain geometry, which a template draws as SVG.

matplotlib, which the evaluation report uses, takes longer to import than a small data set takes to prepare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrec_cli.language.phrases import Phrase

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 52
_CHARACTER = 9
"""Width of a character on an axis at the largest size, which the page uses on narrow screens."""
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM


@dataclass(frozen=True)
class Tick:
    """A label on an axis; `at` is in units of the picture."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Bar:
    """A rectangle of one series; `label` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    series: int
    label: str


@dataclass(frozen=True)
class Line:
    """Points `x,y x,y ...` of one series."""

    points: str
    series: int


@dataclass(frozen=True)
class Chart:
    """A picture of WIDTH x HEIGHT with bars or lines, axis labels and a legend."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bars: list[Bar] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)


def bars(title: str, x_label: str, y_label: str, names: Sequence[str], series: dict[str, list[int]],
         ticks: Sequence[tuple[float, str]] | None = None) -> Chart:
    """Return stacked bars, one per name; `ticks` (position in bars, label) replace the names on the axis."""
    filled = {name: counts for name, counts in series.items() if any(counts)}
    top, steps = scale(max((sum(counts) for counts in zip(*filled.values(), strict=True)), default=1))
    slot = _INNER_WIDTH / max(1, len(names))
    gap = min(6.0, slot * 0.15)
    rectangles = []
    for place, name in enumerate(names):
        below = 0
        for split, counts in filled.items():
            if counts[place]:
                y = _y((below + counts[place]) / top)
                label: str = Phrase("{name}: {num:,} {split}", name=name, num=counts[place], split=split) \
                    if len(series) > 1 else f"{name}: {counts[place]:,}"
                rectangles.append(Bar(_round(LEFT + place * slot + gap / 2), y, _round(slot - gap),
                                      _round(_y(below / top) - y), list(series).index(split), label))
            below += counts[place]
    placed = ticks if ticks is not None else [(n + 0.5, name) for n, name in _some(names)]
    return Chart(title, x_label, y_label, _x_ticks([(at / max(1, len(names)), label) for at, label in placed]),
                 [Tick(_y(step / top), short(step), "end") for step in steps], bars=rectangles,
                 legend=list(series) if len(series) > 1 else [])


def curve(title: str, x_label: str, y_label: str, lines: dict[str, list[list[float]]]) -> Chart:
    """Return a chart of lines whose points are shares, 0 to 1, on both axes."""
    shares = (0, 0.25, 0.5, 0.75, 1)
    polylines = [Line(" ".join(f"{_round(LEFT + x * _INNER_WIDTH)},{_y(y)}" for x, y in points), number)
                 for number, points in enumerate(lines.values())]
    return Chart(title, x_label, y_label, _x_ticks([(share, f"{share:.0%}") for share in shares]),
                 [Tick(_y(share), f"{share:.0%}", "end") for share in shares], lines=polylines, legend=list(lines))


def scale(most: float) -> tuple[float, list[float]]:
    """Return the end of an axis from 0 to at least `most`, and about five round steps along it."""
    rough = max(most, 1) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = max(1, next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough - 1e-9))
    if step < 10:
        step = math.ceil(step)
    num = math.ceil(max(most, 1) / step - 1e-9)
    return step * num, [step * n for n in range(num + 1)]


def short(number: float) -> str:
    """Format a number briefly for an axis: 1,200, 45k, 2.5M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 10 * unit or (unit > 1e3 and number >= unit):
            return f"{number / unit:.4g}{name}"
    return f"{number:,.4g}" if number < 1000 else f"{number:,.0f}"


def _x_ticks(places: Sequence[tuple[float, str]]) -> list[Tick]:
    return [Tick(_round(LEFT + share * _INNER_WIDTH), label,
                 "start" if share < 0.02 else "end" if share > 0.98 else "middle") for share, label in places]


def _some(names: Sequence[str]) -> list[tuple[int, str]]:
    """Return as many of the names, evenly spaced, as fit on the axis."""
    room = max(1, int(_INNER_WIDTH / (_CHARACTER * max((len(name) for name in names), default=1) + 10)))
    every = math.ceil(len(names) / room)
    return [(n, name) for n, name in enumerate(names) if n % every == 0]


def _y(share: float) -> float:
    return _round(TOP + (1 - share) * _INNER_HEIGHT)


def _round(value: float) -> float:
    return round(value, 2)
