"""Pretraining report: one HTML file that needs no network and no script."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from llmrec_cli.report import plots
from llmrec_cli.report.content import Curve
from llmrec_cli.report.pages import Cell, Row, Table, page

_MOST_POINTS = 300


@dataclass(frozen=True)
class ProbeExample:
    """A question of the probe with its right title.

    `before` and `after` pretraining are the nearest titles, each with True if it is the right one; `rank_before` and
    `rank_after` are the ranks of the right title.
    """

    question: str
    right: str
    before: list[tuple[str, bool]]
    after: list[tuple[str, bool]]
    rank_before: float
    rank_after: float


@dataclass(frozen=True)
class PretrainingReport:
    """Content of a pretraining report.

    Attributes
    ----------
    metrics : the content of metrics.json
    data : name of the data
    facts : groups of (label, value)
    losses : (step, training loss) of every step
    probe_examples : a few questions of the probe
    sample : a few training texts
    """

    metrics: dict[str, Any]
    data: str
    facts: dict[str, list[tuple[str, str]]]
    losses: list[tuple[float, float]]
    probe_examples: list[ProbeExample]
    sample: list[str]


def logged_losses(log: Path) -> list[tuple[float, float]]:
    """Return (step, training loss) from a run's log; if a resumed run repeated a step, its last loss counts."""
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.is_file() else []
    return sorted({record["step"]: record["loss"] for record in records if record["event"] == "step"}.items())


def render(content: PretrainingReport) -> str:
    """Return the report as HTML; everything that comes from data is escaped by the template."""
    values = {"content": content, "title": _title(content.metrics), "cards": _cards(content.metrics),
              "epochs": _epochs(content.metrics), "probe": _probe(content.metrics),
              # Markup only from matplotlib, never from the data.
              "curves": Markup(plots.training(_curves(content)))}
    return page("pretraining.html.j2", values)


def _title(metrics: dict[str, Any]) -> str:
    """Return the result in one sentence; the probe comes first, since it measures retrieval, the encoder's purpose."""
    loss = f"held-out loss {metrics['before']['loss']:.2f} to {metrics['after']['loss']:.2f}"
    probe = metrics["probe"]
    if probe is None:
        return f"Pretraining with {metrics['objective']}: {loss}"
    words = {"better": "finds titles better than before", "worse": "finds titles worse than before",
             "no clear difference": "finds titles about as well as before"}
    return f"The encoder {words[probe['verdict']]}; {loss}"


def _cards(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    before, after, probe = metrics["before"], metrics["after"], metrics["probe"]
    chance = "" if after["chance"] is None else f"; by chance {after['chance']:.1%}"
    cards = [("Held-out loss", f"{after['loss']:.3f}",
              f"nats, {before['loss']:.3f} before, over {after['num_scored']:,} {metrics['scored']}"),
             ("Accuracy", f"{after['accuracy']:.1%}", f"{before['accuracy']:.1%} before{chance}")]
    if probe:
        low, high = probe["mrr_difference"]["ci95"]
        cards.insert(0, ("Probe, mrr", f"{probe['after']['mrr']:.3f}",
                         f"{probe['before']['mrr']:.3f} before; 95% interval of the difference {low:+.3f} to "
                         f"{high:+.3f}"))
    return cards


def _epochs(metrics: dict[str, Any]) -> Table:
    best = metrics["best_epoch"]
    first = Row("before", [Cell("–", ""), Cell(f"{metrics['before']['loss']:.4f}", "")])
    rows = [Row(str(n), [Cell(f"{epoch['training_loss']:.4f}", ""), Cell(f"{epoch['held_out_loss']:.4f}", "")],
                "saved" if n == best else "", ours=n == best) for n, epoch in enumerate(metrics["epochs"], 1)]
    return Table(["training loss", "held-out loss"], [first, *rows])


def _probe(metrics: dict[str, Any]) -> Table | None:
    probe = metrics["probe"]
    if probe is None:
        return None
    rows = []
    for name in probe["before"]:
        cells = [Cell(f"{probe[when][name]:.4f}", "") for when in ("before", "after")]
        difference = probe["after"][name] - probe["before"][name]
        # Only mrr is tested: a verdict per metric would be three chances of a false positive.
        kind = {"better": "better", "worse": "worse"}.get(probe["verdict"], "") if name == "mrr" else ""
        interval = probe["mrr_difference"]["ci95"]
        note = f"{interval[0]:+.4f} to {interval[1]:+.4f}" if name == "mrr" else ""
        rows.append(Row(name, [*cells, Cell(f"{difference:+.4f}", note, kind)]))
    return Table(["before", "after", "difference"], rows)


def _curves(content: PretrainingReport) -> list[Curve]:
    held_out = [(0.0, content.metrics["before"]["loss"]),
                *((float(n), epoch["held_out_loss"]) for n, epoch in enumerate(content.metrics["epochs"], 1))]
    return [Curve("training loss by step", _thinned(content.losses))] * bool(content.losses) + [
        Curve("held-out loss by epoch", held_out)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most _MOST_POINTS points, each the mean of its neighbours."""
    size = -(-len(points) // _MOST_POINTS)
    parts = [points[n:n + size] for n in range(0, len(points), size)]
    return [(sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)) for part in parts]
