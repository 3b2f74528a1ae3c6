"""Optional tables of the report and the terminal: cold-start users, knowledge graph, perturbed texts."""

from typing import Any

from llmrec_cli.language.phrases import Joined, Phrase
from llmrec_cli.metrics.table import columns as metric_columns
from llmrec_cli.report.pages import Cell, Row, Table, difference_cell, gain_over, mean_cell
from llmrec_cli.report.terminal import columns, printable


def cold_users_table(content: dict[str, Any], k: int) -> Table:
    """Return a row per history length and recommender: ndcg, recall, and gains over the baselines."""
    names, rows = metric_columns("summary", k), []
    baselines = _baselines(content)
    for number, one in content["by_num_given"].items():
        for recommender, metrics in one["metrics"].items():
            gains = [difference_cell(one["comparisons"].get(recommender, {}).get(other, {}).get(names[0]), 1)
                     for other in baselines]
            label = Phrase("{given}: {model}", given=history_label(number), model=recommender)
            rows.append(Row(label, [*(mean_cell(metrics, name) for name in names), *gains],
                            ours=recommender in one["comparisons"]))
    return Table([*names, *(gain_over(other) for other in baselines)], rows, "columns")


def cold_users_lines(content: dict[str, Any], k: int) -> str:
    """Return the same table for a terminal, with ndcg only."""
    name, baselines, rows = f"ndcg@{k}", _baselines(content), []
    for number, one in content["by_num_given"].items():
        for recommender, metrics in one["metrics"].items():
            gains = []
            for other in baselines:
                gain = one["comparisons"].get(recommender, {}).get(other, {}).get(name)
                gains.append("" if gain is None else f"{gain['difference']:+.4f} ({gain['ci95'][0]:+.4f} to "
                                                     f"{gain['ci95'][1]:+.4f})")
            rows.append([f"{history_label(number)}: {recommender}", f"{metrics[name]['mean']:.4f}", *gains])
    return columns([f"{content['num_users']:,} cold-start users, given", name, *(f"gain over {b}" for b in baselines)],
                   rows)


def history_label(number: str) -> str:
    """Return the label of a history by its number of interactions."""
    return (Phrase("profile only") if number == "0" else Phrase("1 interaction") if number == "1" else
            Phrase("{num} interactions", num=number))


def _baselines(content: dict[str, Any]) -> list[str]:
    first = next(iter(content["by_num_given"].values()))
    return list(next(iter(first["comparisons"].values())))


_VARIANTS = {"none": (Phrase("Without the graph"), "gain", Phrase("the same head without knowledge")),
             "swapped": (Phrase("Swapped knowledge"), "over_swapped",
                         Phrase("each linked item has the triples of another item of similar popularity")),
             "counts": (Phrase("Triple counts"), "over_counts", Phrase("only the number of triples of an item"))}


def knowledge_table(content: dict[str, Any], k: int) -> Table:
    """Return a row per model, control and relation with the loss compared with all knowledge."""
    name, rows = f"ndcg@{k}", []
    coverage_of = {one["relation"]: one for one in content["coverage"]["relations"]}
    for model, one in content["models"].items():
        rows.append(Row(model, [mean_cell(one["metrics"]["all"], name), Cell("", ""), Cell("", "")],
                        Phrase("all knowledge; fitted on training, measured on validation"), ours=True))
        rows += [Row(label, [mean_cell(one["metrics"][kind], name), difference_cell(one[key].get(name), 1),
                             Cell("", "")], note) for kind, (label, key, note) in _VARIANTS.items()]
        for relation, loss in one["relations"].items():
            others = coverage_of[relation]["twins"]
            triples = coverage_of[relation]["triples"]
            size = Cell(f"{coverage_of[relation]['items']:,}",
                        Phrase("{num:,} triples each", num=triples) if others else
                        Phrase("{num:,} triples", num=triples))
            rows.append(Row(Phrase("Without {relation}", relation=relation),
                            [Cell("", ""), difference_cell(loss.get(name), 1), size],
                            Phrase("and relations between the same entities: {relations}", relations=Joined(others))
                            if others else ""))
    return Table([Phrase("{metric} on validation", metric=name), Phrase("lost"), Phrase("items")], rows)


def knowledge_sentence(content: dict[str, Any]) -> str:
    """Return a sentence on the coverage of the catalogue by the graph."""
    about = content["coverage"]
    return Phrase("{linked:,} of {items:,} items ({linked_share:.1%}) are linked to the graph; "
                  "{interactions_share:.1%} of the training interactions are with linked items. A linked item is in "
                  "{triples_per_linked_item:.0f} of the {triples:,} triples on average.",
                  **{name: about[name] for name in ("linked", "items", "linked_share", "interactions_share",
                                                    "triples_per_linked_item", "triples")})


def knowledge_lines(content: dict[str, Any], k: int) -> str:
    """Return the coverage and the same table for a terminal."""
    name, rows = f"ndcg@{k}", []
    coverage_of = {one["relation"]: one for one in content["coverage"]["relations"]}
    for model, one in content["models"].items():
        rows.append([model, f"{one['metrics']['all'][name]['mean']:.4f}", "", ""])
        rows += [[f"  {label.lower()}", f"{one['metrics'][kind][name]['mean']:.4f}", *_lost(one[key][name])]
                 for kind, (label, key, _) in _VARIANTS.items()]
        rows += [["  without " + printable(" and ".join([relation, *coverage_of[relation]["twins"]])), "",
                  *_lost(loss[name])]
                 for relation, loss in one["relations"].items()]
    table = columns(["knowledge, on validation", name, "lost", "95% interval"], rows)
    unaffected = f"models without knowledge: {', '.join(content['unaffected'])}" if content["unaffected"] else ""
    return "\n".join(part for part in (knowledge_sentence(content), table, unaffected) if part)


def _lost(difference: dict[str, Any]) -> list[str]:
    low, high = difference["ci95"]
    return [f"{difference['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]


_KINDS = {"typos": Phrase("Typos"), "synonyms": Phrase("Synonyms"), "truncated": Phrase("Truncated")}


def robustness_table(content: dict[str, Any], k: int) -> Table:
    """Return a row per model and perturbation: ndcg, recall, and the difference in ndcg."""
    names, rows = metric_columns("summary", k), []
    for model, one in content["models"].items():
        rows.append(Row(model, [*(mean_cell(one["clean"], name) for name in names), Cell("", "")],
                        Phrase("original texts; texts read: {texts}", texts=one["texts"]), ours=True))
        rows += [Row(label, [*(mean_cell(one[kind]["metrics"], name) for name in names),
                             difference_cell(one[kind]["difference"].get(names[0]), 1)],
                     text_change(content["texts"][kind]))
                 for kind, label in _KINDS.items()]
    return Table([*names, Phrase("difference")], rows, "columns")


def robustness_lines(content: dict[str, Any], k: int) -> str:
    """Return the same table for a terminal."""
    name, rows = f"ndcg@{k}", []
    for model, one in content["models"].items():
        rows.append([model, f"{one['clean'][name]['mean']:.4f}", "", ""])
        for kind in _KINDS:
            loss = one[kind]["difference"][name]
            rows.append([f"  {kind}", f"{one[kind]['metrics'][name]['mean']:.4f}", f"{loss['difference']:+.4f}",
                         f"{loss['ci95'][0]:+.4f} to {loss['ci95'][1]:+.4f}"])
    table = columns(["perturbed item texts", name, "difference", "95% interval"], rows) if rows else ""
    unaffected = ", ".join(content["unaffected"])
    unaffected = f"not perturbed, no item text read at recommendation time: {unaffected}" if unaffected else ""
    return "\n".join(part for part in (table, unaffected) if part)


def text_change(about: dict[str, float]) -> str:
    """Return the strength of a perturbation and the share of texts that it changes."""
    return Phrase("strength {strength:g}, {changed:.0%} of the texts changed", strength=about["strength"],
                  changed=about["changed"])
