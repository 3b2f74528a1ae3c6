"""What disturbed texts cost, as a table of the page and as one of the terminal."""

from typing import Any

from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.report.cells import Cell, Row, Table
from llmrec_cli.report.tables import described, difference_cell
from llmrec_cli.report.terminal import columns

KINDS = {"typos": "Typos", "synonyms": "Synonyms", "truncated": "Cut short"}


def robustness_table(found: dict[str, Any], k: int) -> Table:
    """Return a row per model and way of disturbing: ndcg and recall, and what is lost of ndcg."""
    names, rows = metric_columns("summary", k), []
    for model, one in found["models"].items():
        rows.append(Row(model, [*(described(one["clean"], name) for name in names), Cell("", "")],
                        f"texts as they are; read: {one['texts']}", ours=True))
        rows += [Row(label, [*(described(one[kind]["metrics"], name) for name in names),
                             difference_cell(one[kind]["difference"].get(names[0]), 1)], text_change(found["texts"][kind]))
                 for kind, label in KINDS.items()]
    return Table([*names, "difference"], rows)


def robustness_lines(found: dict[str, Any], k: int) -> str:
    """Return the same for a terminal."""
    name, rows = f"ndcg@{k}", []
    for model, one in found["models"].items():
        rows.append([model, f"{one['clean'][name]['mean']:.4f}", "", ""])
        for kind in KINDS:
            lost = one[kind]["difference"][name]
            rows.append([f"  {kind}", f"{one[kind]['metrics'][name]['mean']:.4f}", f"{lost['difference']:+.4f}",
                         f"{lost['ci95'][0]:+.4f} to {lost['ci95'][1]:+.4f}"])
    table = columns(["item texts disturbed", name, "difference", "95% interval"], rows) if rows else ""
    said = f"reads no item text when asked: {', '.join(found['unaffected'])}" if found["unaffected"] else ""
    return "\n".join(part for part in (table, said) if part)


def text_change(about: dict[str, float]) -> str:
    """Return the strength of a way of disturbing and how many texts it changes."""
    return f"strength {about['strength']:g}, {about['changed']:.0%} of the texts changed"
