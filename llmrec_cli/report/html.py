"""The report: one HTML file that needs no network and no script."""

from typing import Any

from markupsafe import Markup

from llmrec_cli.language.phrases import ENGLISH, Phrase
from llmrec_cli.pace import still_working
from llmrec_cli.report import plots
from llmrec_cli.report.candidates import query_count
from llmrec_cli.report.content import EvaluationReport
from llmrec_cli.report.headline import audience_of, headline
from llmrec_cli.report.leaderboard import (
    NUM_SHADES,
    all_metrics,
    exposure_tables,
    heat_map,
    leaderboard,
    slice_metric,
)
from llmrec_cli.report.pages import glossary, metrics_table, page, slices_table, table_metrics
from llmrec_cli.report.sections import cold_users_table, knowledge_sentence, knowledge_table, robustness_table


@still_working("drawing the report")
def render(content: EvaluationReport, language: str = ENGLISH) -> str:
    """Return the report as HTML; everything that comes from data is escaped by the template."""
    metrics, top = content.metrics, headline(content)
    several = "models" in metrics
    values: dict[str, Any] = {
        "content": content, "headline": top, "eyebrow": _eyebrow(content, top.data),
        "queries": query_count(metrics["protocol"]), "owner_title": Phrase(audience_of(metrics)[:-1].title()),
        "card_rows": [(card.label, card.value, card.note) for card in top.cards],
        "fact_groups": list(content.facts.items()),
        "metrics_rows": metrics_table(content), "slices": slices_table(content),
        "glossary": glossary(metric.column(content.cutoff) for metric in table_metrics(content)),
        "exposure": exposure_tables(content),
        "leaderboard": leaderboard(content) if several else None,
        "heat": heat_map(content) if several else None,
        "slice_metric": slice_metric(content) if several else "", "num_shades": NUM_SHADES,
        **_optional_tables(metrics, content.cutoff),
        # Markup only from matplotlib, never from the data.
        "plots": {name: Markup(svg) for name, svg in _plots(content, language).items()}}
    return page("report.html.j2", values, language)


def _plots(content: EvaluationReport, language: str) -> dict[str, str]:
    """Return the plots by name as SVG; empty for a plot without data."""
    metrics = content.metrics
    cutoffs = sorted({int(name.partition("@")[2]) for name in metrics["metrics"] if "@" in name})
    return {"metrics": plots.metrics_with_intervals(metrics, content.cutoff, content.model, language),
            "popularity": plots.popularity(content.counts_N, content.exposure, language),
            "lengths": plots.metrics_by_length(metrics, cutoffs, content.model, language) if cutoffs[1:] else "",
            "trade_offs": (plots.trade_offs(metrics, all_metrics(content), content.cutoff, language)
                           if "models" in metrics else ""),
            "training": plots.training(content.curves, language) if content.curves else ""}


def _optional_tables(metrics: dict[str, Any], cutoff: int) -> dict[str, Any]:
    """Return the tables of optional parts of an evaluation by name; None for a part that was not measured."""
    tables = {"robustness": robustness_table, "knowledge": knowledge_table, "cold_users": cold_users_table}
    return {name: table(metrics[name], cutoff) if name in metrics else None for name, table in tables.items()} | {
        "knowledge_sentence": knowledge_sentence(metrics["knowledge"]) if "knowledge" in metrics else ""}


def _eyebrow(content: EvaluationReport, data: str) -> Phrase:
    """Return the line above the title: the models, or the one model, and the data."""
    models, num_baselines = content.metrics.get("models"), len(content.metrics["baselines"])
    if models is None:
        return Phrase("Evaluation of {model} on {data}", model=content.model, data=data)
    if num_baselines == 0:
        return Phrase("Comparison of {models} models on {data}", models=len(models), data=data)
    if num_baselines == 1:
        return Phrase("Comparison of {models} models and 1 baseline on {data}", models=len(models), data=data)
    return Phrase("Comparison of {models} models and {baselines} baselines on {data}", models=len(models),
                  baselines=num_baselines, data=data)
