"""The report: one HTML file that needs no network and no script."""

from typing import Any

from markupsafe import Markup

from llmrec_cli.metrics.table import sentence
from llmrec_cli.report import plots
from llmrec_cli.report.content import EvaluationReport
from llmrec_cli.report.headline import headline
from llmrec_cli.report.leaderboard import all_metrics, exposure_tables, heat_map, leaderboard
from llmrec_cli.report.pages import metrics_table, page, slices_table, table_metrics
from llmrec_cli.report.sections import cold_users_table, knowledge_sentence, knowledge_table, robustness_table


def render(content: EvaluationReport) -> str:
    """Return the report as HTML; everything that comes from data is escaped by the template."""
    cutoffs = sorted({int(name.partition("@")[2]) for name in content.metrics["metrics"] if "@" in name})
    several = "models" in content.metrics
    pictures = {"metrics": plots.metrics_with_intervals(content.metrics, content.cutoff, content.model),
                "popularity": plots.popularity(content.counts_N, content.exposure),
                "lengths": plots.metrics_by_length(content.metrics, cutoffs, content.model) if cutoffs[1:] else "",
                "trade_offs": (plots.trade_offs(content.metrics, all_metrics(content), content.cutoff)
                               if several else ""),
                "training": plots.training(content.curves) if content.curves else ""}
    values: dict[str, Any] = {"content": content, "headline": headline(content), "metrics": metrics_table(content),
                              "slices": slices_table(content),
                              "definitions": {metric.column("k"): sentence(metric)
                                              for metric in table_metrics(content)},
                              "exposure": exposure_tables(content),
                              "leaderboard": leaderboard(content) if several else None,
                              "robustness": (robustness_table(content.metrics["robustness"], content.cutoff)
                                             if "robustness" in content.metrics else None),
                              "knowledge": (knowledge_table(content.metrics["knowledge"], content.cutoff)
                                            if "knowledge" in content.metrics else None),
                              "knowledge_sentence": (knowledge_sentence(content.metrics["knowledge"])
                                                     if "knowledge" in content.metrics else ""),
                              "cold_users": (cold_users_table(content.metrics["cold_users"], content.cutoff)
                                             if "cold_users" in content.metrics else None),
                              "heat": heat_map(content) if several else None,
                              # Markup only from matplotlib, never from the data.
                              "plots": {name: Markup(svg) for name, svg in pictures.items()}}
    return page("report.html.j2", values)
