"""Optional sections of the report, on a page and on the terminal: cold-start users, knowledge, perturbed texts."""

from typing import Any

from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.report.pages import Cell, Row, Table, described, difference_cell
from llmrec_cli.report.terminal import columns, printable


def cold_users_table(found: dict[str, Any], k: int) -> Table:
    """Return a row per history length and recommender: ndcg and recall, and gains over the baselines."""
    names, rows = metric_columns("summary", k), []
    baselines = _baselines(found)
    for number, one in found["told"].items():
        for who, metrics in one["metrics"].items():
            gains = [difference_cell(one["comparisons"].get(who, {}).get(other, {}).get(names[0]), 1)
                     for other in baselines]
            rows.append(Row(f"{history_label(number)}: {who}", [*(described(metrics, name) for name in names), *gains],
                            ours=who in one["comparisons"]))
    return Table([*names, *(f"gain over {other}" for other in baselines)], rows)


def cold_users_lines(found: dict[str, Any], k: int) -> str:
    """Return the same for a terminal, ndcg alone."""
    name, baselines, rows = f"ndcg@{k}", _baselines(found), []
    for number, one in found["told"].items():
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
    """Return the label of a history by its number of interactions."""
    return "profile only" if number == "0" else f"{number} interaction" if number == "1" else f"{number} interactions"


def _baselines(found: dict[str, Any]) -> list[str]:
    first = next(iter(found["told"].values()))
    return list(next(iter(first["comparisons"].values())))


_VARIANTS = {"none": ("Without the graph", "gain", "the same head, nothing of the graph"),
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
                             Cell("", "")], note) for kind, (label, key, note) in _VARIANTS.items()]
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
                 for kind, (label, key, _) in _VARIANTS.items()]
        rows += [["  without " + printable(" and ".join([relation, *of[relation]["twins"]])), "", *_lost(lost[name])]
                 for relation, lost in one["relations"].items()]
    table = columns(["knowledge, on validation", name, "lost", "95% interval"], rows)
    said = f"uses no knowledge: {', '.join(found['unaffected'])}" if found["unaffected"] else ""
    return "\n".join(part for part in (knowledge_sentence(found), table, said) if part)


def _lost(difference: dict[str, Any]) -> list[str]:
    low, high = difference["ci95"]
    return [f"{difference['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]


_KINDS = {"typos": "Typos", "synonyms": "Synonyms", "truncated": "Cut short"}


def robustness_table(found: dict[str, Any], k: int) -> Table:
    """Return a row per model and way of disturbing: ndcg and recall, and what is lost of ndcg."""
    names, rows = metric_columns("summary", k), []
    for model, one in found["models"].items():
        rows.append(Row(model, [*(described(one["clean"], name) for name in names), Cell("", "")],
                        f"texts as they are; read: {one['texts']}", ours=True))
        rows += [Row(label, [*(described(one[kind]["metrics"], name) for name in names),
                             difference_cell(one[kind]["difference"].get(names[0]), 1)],
                     text_change(found["texts"][kind]))
                 for kind, label in _KINDS.items()]
    return Table([*names, "difference"], rows)


def robustness_lines(found: dict[str, Any], k: int) -> str:
    """Return the same for a terminal."""
    name, rows = f"ndcg@{k}", []
    for model, one in found["models"].items():
        rows.append([model, f"{one['clean'][name]['mean']:.4f}", "", ""])
        for kind in _KINDS:
            lost = one[kind]["difference"][name]
            rows.append([f"  {kind}", f"{one[kind]['metrics'][name]['mean']:.4f}", f"{lost['difference']:+.4f}",
                         f"{lost['ci95'][0]:+.4f} to {lost['ci95'][1]:+.4f}"])
    table = columns(["item texts disturbed", name, "difference", "95% interval"], rows) if rows else ""
    said = f"reads no item text when asked: {', '.join(found['unaffected'])}" if found["unaffected"] else ""
    return "\n".join(part for part in (table, said) if part)


def text_change(about: dict[str, float]) -> str:
    """Return the strength of a way of disturbing and how many texts it changes."""
    return f"strength {about['strength']:g}, {about['changed']:.0%} of the texts changed"
