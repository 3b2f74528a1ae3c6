"""Audit page: one HTML file that needs no network and no script, with the same numbers in audit.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import write_bytes, write_json
from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.data.reject_reasons import reason_phrase
from llmrec_cli.language.phrases import ENGLISH, Joined, Phrase, fixed_phrase
from llmrec_cli.report import audit_charts as charts
from llmrec_cli.report.pages import Cell, Row, Table, page

_SPLITS_AND_ALL = ("train", "valid", "test", "all")


def rows_table(audit: Mapping[str, Any]) -> Table:
    """Return the row accounting: number, share and reason per outcome."""
    rows = audit["rows"]
    always = [(Phrase("read"), rows["read"], ""), (Phrase("kept"), rows["kept"], Phrase("in interactions.parquet")),
              (Phrase(" – train"), rows["train"], ""), (Phrase(" – valid"), rows["valid"],
                                                        Phrase("for model selection")),
              (Phrase(" – test"), rows["test"], Phrase("for the final evaluation"))]
    left_out = [(Phrase("prepared before"), rows["earlier"], Phrase("valid rows of earlier runs")),
                (Phrase("rejected"), rows["rejected"], Phrase("unreadable or invalid; in rejects.parquet")),
                (Phrase("merged"), rows["duplicates"],
                 Phrase("repeated pairs of user and item; dataset.duplicates")),
                *((Phrase("filtered"), number, fixed_phrase(FILTER_REASONS.get(reason, reason)))
                  for reason, number in rows["filtered_by_reason"].items()),
                (Phrase("negatives"), rows["negatives"], Phrase("dislikes; in negatives.parquet"))]
    lost = [(Phrase("unaccounted"), rows["unaccounted"], Phrase("in none of the rows above; this is a bug"))]
    lines = [always[0], *(line for line in left_out if line[1]), *always[1:], *(line for line in lost if line[1])]
    return Table([Phrase("rows"), Phrase("share of rows read"), Phrase("note")],
                 [Row(name, [Cell(f"{number:,}", ""), Cell(_percent(number, rows["read"]), ""), Cell(why, "")])
                  for name, number, why in lines])


def ties_table(audit: Mapping[str, Any]) -> Table:
    """Return the table of interactions with the same time as another one of their user or group."""
    return Table([Phrase("tied interactions"), Phrase("users or groups with a tied held-out interaction"),
                  Phrase("order of tied interactions")],
                 [Row(Phrase(audience), [Cell(f"{counts['interactions']:,}", f"{counts['share']:.1%}"),
                                         Cell(Phrase("{num:,} {audience}", num=counts[f"held_out_{audience}"],
                                                     audience=Phrase(audience)), f"{counts['held_out_share']:.1%}"),
                                         Cell(Joined(map(fixed_phrase, counts["rule"][1:])), "")])
                  for audience, counts in audit["ties"].items()])


def splits_table(audit: Mapping[str, Any]) -> Table:
    """Return a row per split: size, density, cold users and items, and time span."""
    rows = []
    for split in _SPLITS_AND_ALL:
        counts = audit["splits"][split]
        times = Cell("–", "") if counts["first"] is None else Cell(_time(counts["first"]),
                                                                   Phrase("to {last}", last=_time(counts["last"])))
        rows.append(Row(Phrase(split), [
            Cell(f"{counts['interactions']:,}", ""), Cell(f"{counts['users']:,}", ""), Cell(f"{counts['items']:,}", ""),
            Cell(f"{counts['density']:.3%}", ""), *(_cold(counts, kind, split) for kind in ("users", "items")),
            Cell(f"{counts['users_with_one_interaction']:,}", ""), times]))
    return Table([Phrase("interactions"), Phrase("users"), Phrase("items"), Phrase("density"), Phrase("cold users"),
                  Phrase("cold items"), Phrase("users with one interaction"), Phrase("from")], rows)


def _cold(counts: Mapping[str, Any], kind: str, split: str) -> Cell:
    if split == "train":
        return Cell("–", "")
    return Cell(f"{counts[f'cold_{kind}']:,}",
                Phrase("{share:.1%} of interactions", share=counts[f"cold_{kind}_share"]) if counts[f"cold_{kind}"]
                else "")


def distributions_table(audit: Mapping[str, Any]) -> Table:
    """Return the distribution of interactions per user and per item, in each split."""
    rows = []
    for kind, label in (("user", Phrase("per user")), ("item", Phrase("per item"))):
        for split in _SPLITS_AND_ALL:
            summary = audit["splits"][split][f"per_{kind}"]
            if summary["num"]:
                rows.append(Row(Joined([label, Phrase(split)]), [Cell(f"{summary[key]:,}", "") for key in
                                                         ("min", "q1", "median", "q3", "max")]
                                + [Cell(f"{summary['mean']:,.1f}", "")]))
    return Table([Phrase("minimum"), Phrase("lower quartile"), Phrase("median"), Phrase("upper quartile"),
                  Phrase("maximum"), Phrase("mean")], rows)


def texts_table(audit: Mapping[str, Any]) -> Table:
    """Return statistics of the texts of items, users and, if there are any, groups."""
    entries = list(audit["texts"].values())
    rows = [Row(Phrase("all"), [Cell(f"{texts['num']:,}", "") for texts in entries]),
            Row(Phrase("without text"),
                [Cell(f"{texts['empty']:,}", f"{texts['empty_share']:.1%}") for texts in entries]),
            Row(Phrase("without title (id instead)"), [Cell(f"{texts['title_is_id']:,}", "") for texts in entries])]
    for name, cell in ((Phrase("duplicate text"), _duplicated), (Phrase("length, characters"), _length),
                       (Phrase("longest"), _longest), (Phrase("main script"), _scripts),
                       (Phrase("several scripts"), _mixed)):
        rows.append(Row(name, [cell(texts) if texts["duplicated"] else Cell("–", "") for texts in entries]))
    return Table([Phrase(f"{kind}s") for kind in audit["texts"]], rows)


def _duplicated(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['duplicated']['num']:,}", Phrase("{share:.1%} of those with a text",
                                                              share=texts["duplicated"]["share"]))


def _length(texts: Mapping[str, Any]) -> Cell:
    lengths = texts["lengths"]
    return Cell(f"{lengths['median']:,}", Phrase("median; quartiles {q1:,} and {q3:,}", q1=lengths["q1"],
                                                 q3=lengths["q3"]))


def _longest(texts: Mapping[str, Any]) -> Cell:
    id_ = next(value for key, value in texts["longest"].items() if key.endswith("_id"))
    return Cell(f"{texts['longest']['length']:,}", Phrase("id {id}", id=id_[:40]))


def _scripts(texts: Mapping[str, Any]) -> Cell:
    scripts = texts["scripts"]
    shares = [Phrase("{script} {share}", script=fixed_phrase(name), share=_percent(number, scripts["looked_at"]))
              for name, number in scripts["dominant"].items()]
    others = Joined([*shares[1:4], *(["…"] if shares[4:] else [])])
    return Cell(shares[0], Phrase("{others}; of {num:,} texts", others=others, num=scripts["looked_at"])
                if scripts["every"] > 1 else others)


def _mixed(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['scripts']['mixed']:,}", f"{texts['scripts']['mixed_share']:.1%}")


def top_table(audit: Mapping[str, Any]) -> Table:
    """Return the items with the most training interactions."""
    return Table([Phrase("id"), Phrase("interactions"), Phrase("share")],
                 [Row(item["title"], [Cell(item["item_id"][:40], ""), Cell(f"{item['interactions']:,}", ""),
                                      Cell(f"{item['share']:.1%}", "")]) for item in
                  audit["popularity"]["most_popular"]])


def examples(check: Mapping[str, Any]) -> list[str]:
    """Return the examples of a leakage check as one line each."""
    return [", ".join(f"{key} {value}" for key, value in example.items()) for example in check["examples"]]


def _time(moment: str | int) -> str:
    return moment[:16].replace("T", " ") if isinstance(moment, str) else f"{moment:,}"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


_PAGE, _DATA = "audit.html", "audit.json"
_SPLITS = ("train", "valid", "test")


def write_audit(folder: Path, audit: Mapping[str, Any], about: Mapping[str, Any],
                language: str = ENGLISH) -> None:
    """Write audit.json and audit.html into `folder`. `about` has name, fingerprint and split, as the manifest has."""
    write_json(folder / _DATA, audit)
    write_bytes(folder / _PAGE, render(audit, about, language).encode("utf-8", "replace"))


def render(audit: Mapping[str, Any], about: Mapping[str, Any], language: str = ENGLISH) -> str:
    """Return the page; everything that comes from data is escaped by the template."""
    kept = audit["splits"]["all"]
    cards = [(Phrase("Interactions"), f"{audit['rows']['kept']:,}",
              Phrase("of {num:,} rows read", num=audit["rows"]["read"])),
             (Phrase("Users"), f"{kept['users']:,}", _each(kept["per_user"])),
             (Phrase("Items"), f"{kept['items']:,}", _each(kept["per_item"])),
             (Phrase("Density"), f"{kept['density']:.3%}",
              Phrase("of all pairs of user and item have an interaction"))]
    values = {"audit": audit, "about": about, "split": _split(about["split"]), "card_rows": cards, "span": _span(kept),
              "rows": rows_table(audit), "ties": ties_table(audit), "splits": splits_table(audit),
              "distributions": distributions_table(audit), "texts": texts_table(audit),
              "top": top_table(audit), "examples": examples, "reason_phrase": reason_phrase,
              "top_shares": _top_shares(audit), "charts": _charts(audit),
              "size": {"width": charts.WIDTH, "height": charts.HEIGHT, "left": charts.LEFT, "right": charts.RIGHT,
                       "top": charts.TOP, "bottom": charts.BOTTOM}}
    return page("audit.html.j2", values, language)


def _each(summary: Mapping[str, Any]) -> str:
    return Phrase("with {median:,} interactions each (median), {most:,} at most", median=summary["median"],
                  most=summary["max"])


def _top_shares(audit: Mapping[str, Any]) -> Phrase:
    """Return a sentence on the shares of the most popular items."""
    top = audit["popularity"]["top"]
    return Phrase("The most popular {percents} of the training items have {shares} of the training interactions; the "
                  "Gini coefficient is {gini:.2f}.", percents=Joined(f"{percent}%" for percent in top),
                  shares=Joined(f"{share:.0%}" for share in top.values()), gini=audit["popularity"]["gini"])


def _split(split: Mapping[str, Any]) -> str:
    """Return the split and its settings in command-line form."""
    # Defaults are left out; with split=given and no carved validation the seed has no effect.
    hidden = {"kind", "cutoff", *(("valid", "seed") if split["kind"] == "given" and not split.get("valid") else ())}
    parts = [f"{key}={value}" for key, value in split.items()
             if key not in hidden and value not in (None, "") and (key, value) != ("leaks", "auto")]
    return f"split={split['kind']}" + (f" ({', '.join(parts)})" if parts else "")


def _span(kept: Mapping[str, Any]) -> str:
    return "" if kept["first"] is None else Phrase("{low} to {high}", low=_day(kept["first"]),
                                                    high=_day(kept["last"]))


def _day(moment: str | int) -> str:
    return moment[:10] if isinstance(moment, str) else f"{moment:,}"


def _charts(audit: Mapping[str, Any]) -> dict[str, list[charts.Chart]]:
    """Return the charts by section of the page."""
    values, when = audit["values"], []
    if audit["time"]:
        time = audit["time"]
        edges = [_moment(edge) for edge in time["edges"]]
        num = len(edges) - 1
        places = sorted({round(num * n / 3) for n in range(4)})
        label = Phrase("position in the order") if time["unit"] == "order" else Phrase("time (UTC)")
        when.append(charts.bars(Phrase("Interactions over time"), label,
                                Phrase("interactions in each of {num} spans", num=num), edges[:-1],
                                _by_split(time), [(n, _day(time["edges"][n])) for n in places]))
    names = [f"{value:.6g}" for value in values["values"]] if values["edges"] is None else \
        [f"{edge:.4g}" for edge in values["edges"][:-1]]
    when.append(charts.bars(Phrase("Values"), Phrase("value") if values["edges"] is None else Phrase("value, from"),
                            Phrase("interactions"), names, _by_split(values)))
    diagonal = [[0.0, 0.0], [1.0, 1.0]]
    tail = charts.curve(Phrase("The long tail"), Phrase("share of the training items, most popular first"),
                        Phrase("share of training interactions"),
                        {Phrase("these items"): audit["popularity"]["curve"], Phrase("all equally popular"): diagonal})
    each = [charts.bars(title, Phrase("interactions"), kinds, [_range(b) for b in histogram],
                        {kinds: [b["num"] for b in histogram]})
            for title, kinds, histogram in (
                (Phrase("Interactions per user"), Phrase("users"), audit["histograms"]["per_user"]),
                (Phrase("Interactions per item"), Phrase("items"), audit["histograms"]["per_item"]))]
    return {"when": when, "popularity": [tail, *each]}


def _moment(edge: str | int) -> str:
    return edge[:16].replace("T", " ") if isinstance(edge, str) else f"{edge:,}"


def _by_split(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {Phrase(split): counts[split] for split in _SPLITS if any(counts[split])}


def _range(bin_: Mapping[str, int]) -> str:
    low, high = charts.short(bin_["from"]), charts.short(bin_["to"])
    return low if bin_["from"] == bin_["to"] else f"{low}–{high}"
