"""What models have of the knowledge graph, as tables of the page and as lines of the terminal."""

from typing import Any

from llmrec_cli.report.cells import Cell, Row, Table
from llmrec_cli.report.tables import described, difference_cell
from llmrec_cli.report.terminal import columns, printable

VARIANTS = {"none": ("Without the graph", "gain", "the same head, nothing of the graph"),
            "swapped": ("Another item's knowledge", "over_swapped",
                        "each linked item has that of another one, as popular"),
            "counts": ("How much is known", "over_counts", "only in how many triples an item is")}


def knowledge_table(found: dict[str, Any], k: int) -> Table:
    """Return a row per model and control, then one per relation: what is lost without it."""
    name, rows = f"ndcg@{k}", []
    of = {one["relation"]: one for one in found["coverage"]["relations"]}
    for model, one in found["models"].items():
        rows.append(Row(model, [described(one["metrics"]["all"], name), Cell("", ""), Cell("", "")],
                        "all knowledge, fitted on training, measured on validation", ours=True))
        rows += [Row(label, [described(one["metrics"][kind], name), difference_cell(one[key].get(name), 1),
                             Cell("", "")], note) for kind, (label, key, note) in VARIANTS.items()]
        for relation, lost in one["relations"].items():
            others = of[relation]["twins"]
            size = Cell(f"{of[relation]['items']:,}",
                        f"{of[relation]['triples']:,} triples" + (" each" if others else ""))
            rows.append(Row(f"Without {relation}", [Cell("", ""), difference_cell(lost.get(name), 1), size],
                            f"and what says the same: {', '.join(others)}" if others else ""))
    return Table([f"{name} on validation", "lost", "items"], rows)


def knowledge_sentence(found: dict[str, Any]) -> str:
    """Return how much of the catalogue the graph tells of."""
    about = found["coverage"]
    return (f"{about['linked']:,} of {about['items']:,} items ({about['linked_share']:.1%}) are linked to the graph, "
            f"and {about['interactions_share']:.1%} of the training interactions are with them; a linked item is in "
            f"{about['triples_per_linked_item']:.0f} triples on average, of {about['triples']:,}.")


def knowledge_lines(found: dict[str, Any], k: int) -> str:
    """Return the same for a terminal."""
    name, rows = f"ndcg@{k}", []
    of = {one["relation"]: one for one in found["coverage"]["relations"]}
    for model, one in found["models"].items():
        rows.append([model, f"{one['metrics']['all'][name]['mean']:.4f}", "", ""])
        rows += [[f"  {label.lower()}", f"{one['metrics'][kind][name]['mean']:.4f}", *_lost(one[key][name])]
                 for kind, (label, key, _) in VARIANTS.items()]
        rows += [["  without " + printable(" and ".join([relation, *of[relation]["twins"]])), "", *_lost(lost[name])]
                 for relation, lost in one["relations"].items()]
    table = columns(["knowledge, on validation", name, "lost", "95% interval"], rows)
    said = f"uses no knowledge: {', '.join(found['unaffected'])}" if found["unaffected"] else ""
    return "\n".join(part for part in (knowledge_sentence(found), table, said) if part)


def _lost(difference: dict[str, Any]) -> list[str]:
    low, high = difference["ci95"]
    return [f"{difference['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]
