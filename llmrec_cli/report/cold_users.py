"""What users without a history are recommended, as a table of the page and as one of the terminal."""

from typing import Any

from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.report.cells import Row, Table
from llmrec_cli.report.tables import described, difference_cell
from llmrec_cli.report.terminal import columns


def cold_users_table(found: dict[str, Any], k: int) -> Table:
    """Return a row per number of interactions history_label and recommender: ndcg and recall, and gains over the baselines."""
    names, rows = metric_columns("summary", k), []
    baselines = _baselines(found)
    for number, one in found["history_label"].items():
        for who, metrics in one["metrics"].items():
            gains = [difference_cell(one["comparisons"].get(who, {}).get(other, {}).get(names[0]), 1)
                     for other in baselines]
            rows.append(Row(f"{history_label(number)}: {who}", [*(described(metrics, name) for name in names), *gains],
                            ours=who in one["comparisons"]))
    return Table([*names, *(f"gain over {other}" for other in baselines)], rows)


def cold_users_lines(found: dict[str, Any], k: int) -> str:
    """Return the same for a terminal, ndcg alone."""
    name, baselines, rows = f"ndcg@{k}", _baselines(found), []
    for number, one in found["history_label"].items():
        for who, metrics in one["metrics"].items():
            gains = []
            for other in baselines:
                gain = one["comparisons"].get(who, {}).get(other, {}).get(name)
                gains.append("" if gain is None else f"{gain['difference']:+.4f} ({gain['ci95'][0]:+.4f} to "
                                                     f"{gain['ci95'][1]:+.4f})")
            rows.append([f"{history_label(number)}: {who}", f"{metrics[name]['mean']:.4f}", *gains])
    return columns([f"{found['num_users']:,} users without a history", name, *(f"gain over {b}" for b in baselines)],
                   rows)


def history_label(number: str) -> str:
    """Return what is history_label of a user."""
    return "profile only" if number == "0" else f"{number} interaction" if number == "1" else f"{number} interactions"


def _baselines(found: dict[str, Any]) -> list[str]:
    first = next(iter(found["history_label"].values()))
    return list(next(iter(first["comparisons"].values())))
