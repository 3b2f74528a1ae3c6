"""Pretraining report: one HTML file that needs no network and no script."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from llmrec_cli.language.phrases import ENGLISH, Phrase, fixed_phrase
from llmrec_cli.report import plots
from llmrec_cli.report.content import Curve
from llmrec_cli.report.pages import Cell, Row, Table, glossary, page

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


_LABELS = {"holdout_share": Phrase("Share held out"), "histories": Phrase("Histories written as texts"),
           "history_length": Phrase("Items of a history"), "max_histories": Phrase("Histories, at most"),
           "knowledge": Phrase("Triples written as texts"), "mask_share": Phrase("Share of tokens masked"),
           "whole_words": Phrase("Whole words masked together"),
           "num_negatives": Phrase("Wrong next items per example"),
           "views": Phrase("Two views of an item"), "temperature": Phrase("Softmax temperature")}
"""Setting of an objective -> its name on the page."""
_VALUES = {"dropout": Phrase("its text, twice with different dropout"),
           "history": Phrase("its text and the history before it"),
           "knowledge": Phrase("its text and its triples as text")}
"""Value of the setting `views` -> its description on the page."""


def settings_in_words(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return labels and values of the settings of an objective, without its name and without empty settings."""
    return [(_LABELS.get(name, name.replace("_", " ").capitalize()), _value_in_words(name, value))
            for name, value in settings.items() if name != "kind" and value is not None]


def _value_in_words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return Phrase("yes") if value else Phrase("no")
    if name.endswith("_share"):
        return f"{100 * value:g}%"
    return _VALUES.get(value, value) if isinstance(value, str) else f"{value:,}"


def render(content: PretrainingReport, language: str = ENGLISH) -> str:
    """Return the report as HTML; everything that comes from data is escaped by the template."""
    metrics = content.metrics
    values = {"content": content, "title": _title(metrics), "card_rows": _cards(metrics),
              "fact_groups": list(content.facts.items()),
              "epochs": _epochs(metrics), "probe": _probe(metrics),
              "glossary": glossary(_PROBE_METRICS if metrics["probe"] else ()),
              # Markup only from matplotlib, never from the data.
              "curves": Markup(plots.training(_curves(content), language))}
    return page("pretraining.html.j2", values, language)


_PROBE_METRICS = ("recall", "mrr")


def _title(metrics: dict[str, Any]) -> str:
    """Return the result in one sentence; the probe comes first, since it measures retrieval, the encoder's purpose."""
    loss = Phrase("held-out loss {before:.2f} to {after:.2f}", before=metrics["before"]["loss"],
                  after=metrics["after"]["loss"])
    probe = metrics["probe"]
    if probe is None:
        return Phrase("Pretraining with {objective}: {loss}", objective=fixed_phrase(metrics["objective"]), loss=loss)
    words = {"better": Phrase("finds titles better than before"), "worse": Phrase("finds titles worse than before"),
             "no clear difference": Phrase("finds titles about as well as before")}
    return Phrase("The encoder {verdict}; {loss}", verdict=words[probe["verdict"]], loss=loss)


def _cards(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    before, after, probe = metrics["before"], metrics["after"], metrics["probe"]
    accuracy = (Phrase("{share:.1%} before", share=before["accuracy"]) if after["chance"] is None else
                Phrase("{share:.1%} before; by chance {chance:.1%}", share=before["accuracy"], chance=after["chance"]))
    cards: list[tuple[str, str, str]] = [
        (Phrase("Held-out loss"), f"{after['loss']:.3f}",
         Phrase("nats, {before:.3f} before, over {num:,} {scored}", before=before["loss"], num=after["num_scored"],
                scored=metrics["scored"])),
        (Phrase("Accuracy"), f"{after['accuracy']:.1%}", accuracy)]
    if probe:
        low, high = probe["mrr_difference"]["ci95"]
        cards.insert(0, (Phrase("Probe, mrr"), f"{probe['after']['mrr']:.3f}",
                         Phrase("{before:.3f} before; 95% interval of the difference {low:+.3f} to {high:+.3f}",
                                before=probe["before"]["mrr"], low=low, high=high)))
    return cards


def _epochs(metrics: dict[str, Any]) -> Table:
    best = metrics["best_epoch"]
    first = Row(Phrase("before"), [Cell("–", ""), Cell(f"{metrics['before']['loss']:.4f}", "")])
    rows = [Row(str(n), [Cell(f"{epoch['training_loss']:.4f}", ""), Cell(f"{epoch['held_out_loss']:.4f}", "")],
                Phrase("saved") if n == best else "", ours=n == best) for n, epoch in enumerate(metrics["epochs"], 1)]
    return Table([Phrase("training loss"), Phrase("held-out loss")], [first, *rows])


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
        low, high = probe["mrr_difference"]["ci95"]
        note = Phrase("{low:+.4f} to {high:+.4f}", low=low, high=high) if name == "mrr" else ""
        rows.append(Row(name, [*cells, Cell(f"{difference:+.4f}", note, kind)]))
    return Table([Phrase("before"), Phrase("after"), Phrase("difference")], rows, "rows")


def _curves(content: PretrainingReport) -> list[Curve]:
    held_out = [(0.0, content.metrics["before"]["loss"]),
                *((float(n), epoch["held_out_loss"]) for n, epoch in enumerate(content.metrics["epochs"], 1))]
    return [Curve(Phrase("training loss by step"), _thinned(content.losses))] * bool(content.losses) + [
        Curve(Phrase("held-out loss by epoch"), held_out)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most _MOST_POINTS points, each the mean of its neighbours."""
    size = -(-len(points) // _MOST_POINTS)
    parts = [points[n:n + size] for n in range(0, len(points), size)]
    return [(sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part)) for part in parts]
