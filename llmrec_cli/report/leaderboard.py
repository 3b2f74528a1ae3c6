"""Tables of several recommenders: leaderboard, heat map of slices, and exposure per attribute."""

from typing import Any

from llmrec_cli.language.phrases import Joined, Phrase
from llmrec_cli.metrics.table import columns, metric_of
from llmrec_cli.report.content import EvaluationReport
from llmrec_cli.report.pages import Cell, Row, Table, mean_cell, slice_name

NUM_SHADES = 9
"""Shades of the heat map, from the worst in a row to the best."""
_MAX_VALUES = 25


def leaderboard(content: EvaluationReport) -> Table:
    """Return a row per recommender, best first: its letters, then the means with their intervals."""
    metrics, k = content.metrics, content.cutoff
    metrics_of = all_metrics(content)
    models = [values for name, values in metrics_of.items() if name not in metrics["baselines"]]
    names = [name for name in dict.fromkeys([metrics["leaderboard"]["metric"], *columns("leaderboard", k)])
             if all(name in values for values in models)]
    rows = []
    for place, entry in enumerate(metrics["leaderboard"]["rows"], 1):
        name = entry["name"]
        about = [Phrase("baseline")] if entry["baseline"] and not name.endswith("baseline") else []
        seeds = metrics.get("models", {}).get(name, {}).get("seeds", 1)
        about += [Phrase("{num} seeds, sd {sd:.4f}", num=seeds, sd=entry["sd"])] if seeds > 1 else []
        cells = [Cell(entry["letters"], "", "letters"), *(mean_cell(metrics_of[name], metric) for metric in names)]
        rows.append(Row(f"{place}. {name}", cells, Joined(about), ours=name == content.model))
    return Table([Phrase("letters"), *names], rows, "columns")


def heat_map(content: EvaluationReport) -> Table:
    """Return a row per slice with the metric of each model, shaded within the row."""
    models, metric = content.metrics["models"], slice_metric(content)
    sizes, audience = content.metrics["protocol"]["slice_queries"], content.metrics["protocol"].get("audience", "users")
    rows = []
    for which in content.metrics["slices"]:
        means = [one["slices"][which].get(metric, {}).get("mean") for one in models.values()]
        defined = [mean for mean in means if mean is not None]
        if defined:
            rows.append(Row(slice_name(which), [_heat(mean, min(defined), max(defined)) for mean in means],
                            Phrase("{num:,} {audience}", num=sizes[which], audience=Phrase(audience))))
    return Table(list(models), rows)


def slice_metric(content: EvaluationReport) -> str:
    """Return the metric of the heat map: the leaderboard's if it is measured in slices, otherwise ndcg."""
    metric = str(content.metrics["leaderboard"]["metric"])
    return metric if metric_of(metric).sliced else f"ndcg@{content.cutoff}"


def exposure_tables(content: EvaluationReport) -> dict[str, Table]:
    """Return a table per attribute: a row per value, most frequent first, with its shares and their ratios."""
    tables = {}
    for column, values in content.metrics.get("exposure", {}).items():
        order = sorted(values, key=lambda value: -values[value]["catalogue"])[:_MAX_VALUES]
        rows = []
        for value in order:
            share = values[value]
            cells = [Cell(f"{share[name]:.1%}", "") for name in ("exposure", "catalogue", "training", "held_out")]
            times = [Cell(f"{share['exposure'] / share[of]:.2f}" if share[of] else "–", "")
                     for of in ("catalogue", "training")]
            rows.append(Row(value, [*cells, *times]))
        tables[column] = Table([Phrase("of the lists"), Phrase("of the catalogue"), Phrase("of training"),
                                Phrase("of held-out items"), Phrase("lists / catalogue"), Phrase("lists / training")],
                               rows)
    return tables


def all_metrics(content: EvaluationReport) -> dict[str, Any]:
    """Return the metrics of the models and the baselines, the report's own model first."""
    metrics = content.metrics
    others = {name: one["metrics"] for name, one in metrics.get("models", {}).items()}
    return {content.model: metrics["metrics"], **others, **metrics["baselines"]}


def _heat(mean: float | None, low: float, high: float) -> Cell:
    if mean is None:
        return Cell("–", "")
    step = round((NUM_SHADES - 1) * (mean - low) / (high - low)) if high > low else 0
    return Cell(f"{mean:.3f}", "", f"heat heat-{step}")
