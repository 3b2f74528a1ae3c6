"""Several recommenders side by side: the leaderboard, the heat map of slices, exposure of groups."""

from typing import Any

from llmrec_cli.metrics.table import columns
from llmrec_cli.report.content import Content
from llmrec_cli.report.pages import Cell, Row, Table, described, slice_name

_NUM_STEPS = 9
"""Shades of the heat map, from the worst in a row to the best."""
_MOST_GROUPS = 25


def leaderboard(content: Content) -> Table:
    """Return a row per recommender, the best first: its group, then the means with their intervals."""
    metrics, k = content.metrics, content.cutoff
    everyone = everyone_of(content)
    models = [values for name, values in everyone.items() if name not in metrics["baselines"]]
    names = [name for name in columns("leaderboard", k) if all(name in values for values in models)]
    rows = []
    for place, entry in enumerate(metrics["leaderboard"]["rows"], 1):
        name = entry["name"]
        about = ["baseline"] if entry["baseline"] and not name.endswith("baseline") else []
        seeds = metrics.get("models", {}).get(name, {}).get("seeds", 1)
        about += [f"{seeds} seeds, sd {entry['sd']:.4f}"] if seeds > 1 else []
        cells = [Cell(entry["letters"], "", "letters"), *(described(everyone[name], metric) for metric in names)]
        rows.append(Row(f"{place}. {name}", cells, ", ".join(about), ours=name == content.model))
    return Table(["group", *names], rows)


def heat_map(content: Content) -> Table:
    """Return a row per slice with what each model reaches in it, shaded within the row."""
    models, k = content.metrics["models"], content.cutoff
    sizes, metric = content.metrics["protocol"]["slice_queries"], f"ndcg@{k}"
    rows = []
    for which in content.metrics["slices"]:
        means = [one["slices"][which].get(metric, {}).get("mean") for one in models.values()]
        known = [mean for mean in means if mean is not None]
        if known:
            rows.append(Row(slice_name(which), [_heat(mean, min(known), max(known)) for mean in means],
                            f"{sizes[which]:,} users"))
    return Table(list(models), rows)


def exposure_tables(content: Content) -> dict[str, Table]:
    """Return for each attribute a row per value, the most frequent first: its shares, and the lists' per catalogue."""
    tables = {}
    for column, values in content.metrics.get("exposure", {}).items():
        order = sorted(values, key=lambda value: -values[value]["catalogue"])[:_MOST_GROUPS]
        rows = []
        for value in order:
            share = values[value]
            cells = [Cell(f"{share[name]:.1%}", "") for name in ("exposure", "catalogue", "training", "held_out")]
            times = [Cell(f"{share['exposure'] / share[of]:.2f}" if share[of] else "–", "")
                     for of in ("catalogue", "training")]
            rows.append(Row(value, [*cells, *times]))
        tables[column] = Table(["of the lists", "of the catalogue", "of training", "of what was liked",
                                "lists / catalogue", "lists / training"], rows)
    return tables


def everyone_of(content: Content) -> dict[str, Any]:
    """Return the metrics of the models and the baselines, the report's own model first."""
    metrics = content.metrics
    others = {name: one["metrics"] for name, one in metrics.get("models", {}).items()}
    return {content.model: metrics["metrics"], **others, **metrics["baselines"]}


def _heat(mean: float | None, low: float, high: float) -> Cell:
    if mean is None:
        return Cell("–", "")
    step = round((_NUM_STEPS - 1) * (mean - low) / (high - low)) if high > low else 0
    return Cell(f"{mean:.3f}", "", f"heat heat-{step}")
