"""Audit page: one HTML file that needs no network and no script, with the same numbers in audit.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import write_bytes, write_json
from llmrec_cli.data.filter_reasons import FILTER_REASONS
from llmrec_cli.report import audit_charts as charts
from llmrec_cli.report.pages import Cell, Row, Table, page

_SPLITS_AND_ALL = ("train", "valid", "test", "all")


def rows_table(audit: Mapping[str, Any]) -> Table:
    """Return the row accounting: number, share and reason per outcome."""
    rows = audit["rows"]
    lines = [("read", rows["read"], ""), ("prepared before", rows["earlier"], "valid rows of earlier runs"),
             ("rejected", rows["rejected"], "unreadable or invalid; in rejects.parquet"),
             ("merged", rows["duplicates"], "repeated pairs of user and item; dataset.duplicates")]
    lines += [("filtered", number, FILTER_REASONS.get(reason, reason))
              for reason, number in rows["filtered_by_reason"].items()]
    lines += [("negatives", rows["negatives"], "dislikes; in negatives.parquet"),
              ("kept", rows["kept"], "in interactions.parquet"), ("  train", rows["train"], ""),
              ("  valid", rows["valid"], "for model selection"), ("  test", rows["test"], "for the final evaluation"),
              ("unaccounted", rows["unaccounted"], "in none of the rows above; this is a bug")]
    always = ("read", "kept", "  train", "  valid", "  test")
    return Table(["rows", "share of rows read", "note"],
                 [Row(name.replace("  ", " – "), [Cell(f"{number:,}", ""), Cell(_percent(number, rows["read"]), ""),
                                                  Cell(why, "")])
                  for name, number, why in lines if number or name in always])


def ties_table(audit: Mapping[str, Any]) -> Table:
    """Return the table of interactions with the same time as another one of their user or group."""
    return Table(["tied interactions", "users or groups with a tied held-out interaction",
                  "order of tied interactions"],
                 [Row(audience, [Cell(f"{counts['interactions']:,}", f"{counts['share']:.1%}"),
                                 Cell(f"{counts[f'held_out_{audience}']:,} {audience}",
                                      f"{counts['held_out_share']:.1%}"),
                                 Cell(", ".join(counts["rule"][1:]), "")])
                  for audience, counts in audit["ties"].items()])


def splits_table(audit: Mapping[str, Any]) -> Table:
    """Return a row per split: size, density, cold users and items, and time span."""
    rows = []
    for split in _SPLITS_AND_ALL:
        counts = audit["splits"][split]
        times = Cell("–", "") if counts["first"] is None else Cell(_time(counts["first"]),
                                                                   f"to {_time(counts['last'])}")
        rows.append(Row(split, [
            Cell(f"{counts['interactions']:,}", ""), Cell(f"{counts['users']:,}", ""), Cell(f"{counts['items']:,}", ""),
            Cell(f"{counts['density']:.3%}", ""), *(_cold(counts, kind, split) for kind in ("users", "items")),
            Cell(f"{counts['users_with_one_interaction']:,}", ""), times]))
    return Table(["interactions", "users", "items", "density", "cold users", "cold items",
                  "users with one interaction", "from"], rows)


def _cold(counts: Mapping[str, Any], kind: str, split: str) -> Cell:
    if split == "train":
        return Cell("–", "")
    return Cell(f"{counts[f'cold_{kind}']:,}",
                f"{counts[f'cold_{kind}_share']:.1%} of interactions" if counts[f"cold_{kind}"] else "")


def distributions_table(audit: Mapping[str, Any]) -> Table:
    """Return the distribution of interactions per user and per item, in each split."""
    rows = []
    for kind in ("user", "item"):
        for split in _SPLITS_AND_ALL:
            summary = audit["splits"][split][f"per_{kind}"]
            if summary["num"]:
                rows.append(Row(f"per {kind}, {split}", [Cell(f"{summary[key]:,}", "") for key in
                                                         ("min", "q1", "median", "q3", "max")]
                                + [Cell(f"{summary['mean']:,.1f}", "")]))
    return Table(["minimum", "lower quartile", "median", "upper quartile", "maximum", "mean"], rows)


def texts_table(audit: Mapping[str, Any]) -> Table:
    """Return statistics of the texts of items, users and, if there are any, groups."""
    entries = list(audit["texts"].values())
    rows = [Row("all", [Cell(f"{texts['num']:,}", "") for texts in entries]),
            Row("without text", [Cell(f"{texts['empty']:,}", f"{texts['empty_share']:.1%}") for texts in entries]),
            Row("without title (id instead)", [Cell(f"{texts['title_is_id']:,}", "") for texts in entries])]
    for name, cell in (("duplicate text", _duplicated), ("length, characters", _length), ("longest", _longest),
                       ("main script", _scripts), ("several scripts", _mixed)):
        rows.append(Row(name, [cell(texts) if texts["duplicated"] else Cell("–", "") for texts in entries]))
    return Table([f"{kind}s" for kind in audit["texts"]], rows)


def _duplicated(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['duplicated']['num']:,}", f"{texts['duplicated']['share']:.1%} of those with a text")


def _length(texts: Mapping[str, Any]) -> Cell:
    lengths = texts["lengths"]
    return Cell(f"{lengths['median']:,}", f"median; quartiles {lengths['q1']:,} and {lengths['q3']:,}")


def _longest(texts: Mapping[str, Any]) -> Cell:
    id_ = next(value for key, value in texts["longest"].items() if key.endswith("_id"))
    return Cell(f"{texts['longest']['length']:,}", f"id {id_[:40]}")


def _scripts(texts: Mapping[str, Any]) -> Cell:
    scripts = texts["scripts"]
    shares = [f"{name} {_percent(number, scripts['looked_at'])}" for name, number in scripts["dominant"].items()]
    sampled = f"; of {scripts['looked_at']:,} texts" if scripts["every"] > 1 else ""
    return Cell(shares[0], ", ".join(shares[1:4]) + ("…" if shares[4:] else "") + sampled)


def _mixed(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['scripts']['mixed']:,}", f"{texts['scripts']['mixed_share']:.1%}")


def top_table(audit: Mapping[str, Any]) -> Table:
    """Return the items with the most training interactions."""
    return Table(["id", "interactions", "share"],
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


def write_audit(folder: Path, audit: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write audit.json and audit.html into `folder`. `about` has name, fingerprint and split, as the manifest has."""
    write_json(folder / _DATA, audit)
    write_bytes(folder / _PAGE, render(audit, about).encode("utf-8", "replace"))


def render(audit: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from data is escaped by the template."""
    kept = audit["splits"]["all"]
    cards = [("Interactions", f"{audit['rows']['kept']:,}", f"of {audit['rows']['read']:,} rows read"),
             ("Users", f"{kept['users']:,}", _each(kept["per_user"])),
             ("Items", f"{kept['items']:,}", _each(kept["per_item"])),
             ("Density", f"{kept['density']:.3%}", "of all pairs of user and item have an interaction")]
    values = {"audit": audit, "about": about, "split": _split(about["split"]), "cards": cards, "span": _span(kept),
              "rows": rows_table(audit), "ties": ties_table(audit), "splits": splits_table(audit),
              "distributions": distributions_table(audit), "texts": texts_table(audit),
              "top": top_table(audit), "examples": examples, "charts": _charts(audit),
              "size": {"width": charts.WIDTH, "height": charts.HEIGHT, "left": charts.LEFT, "right": charts.RIGHT,
                       "top": charts.TOP, "bottom": charts.BOTTOM}}
    return page("audit.html.j2", values)


def _each(summary: Mapping[str, Any]) -> str:
    return f"with {summary['median']:,} interactions each (median), {summary['max']:,} at most"


def _split(split: Mapping[str, Any]) -> str:
    """Return the split and its settings in command-line form."""
    # Defaults are left out; with split=given and no carved validation the seed has no effect.
    hidden = {"kind", "cutoff", *(("valid", "seed") if split["kind"] == "given" and not split.get("valid") else ())}
    parts = [f"{key}={value}" for key, value in split.items()
             if key not in hidden and value not in (None, "") and (key, value) != ("leaks", "auto")]
    return f"split={split['kind']}" + (f" ({', '.join(parts)})" if parts else "")


def _span(kept: Mapping[str, Any]) -> str:
    return "" if kept["first"] is None else f"{_day(kept['first'])} to {_day(kept['last'])}"


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
        label = "position in the order" if time["unit"] == "order" else "time (UTC)"
        when.append(charts.bars("Interactions over time", label, f"interactions in each of {num} spans", edges[:-1],
                                _by_split(time), [(n, _day(time["edges"][n])) for n in places]))
    names = [f"{value:.6g}" for value in values["values"]] if values["edges"] is None else \
        [f"{edge:.4g}" for edge in values["edges"][:-1]]
    when.append(charts.bars("Values", "value" if values["edges"] is None else "value, from", "interactions", names,
                            _by_split(values)))
    diagonal = [[0.0, 0.0], [1.0, 1.0]]
    tail = charts.curve("The long tail", "share of the training items, most popular first",
                        "share of training interactions",
                        {"these items": audit["popularity"]["curve"], "all equally popular": diagonal})
    each = [charts.bars(f"Interactions per {kind}", "interactions", f"{kind}s", [_range(b) for b in histogram],
                        {f"{kind}s": [b["num"] for b in histogram]})
            for kind in ("user", "item") for histogram in [audit["histograms"][f"per_{kind}"]]]
    return {"when": when, "popularity": [tail, *each]}


def _moment(edge: str | int) -> str:
    return edge[:16].replace("T", " ") if isinstance(edge, str) else f"{edge:,}"


def _by_split(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {split: counts[split] for split in _SPLITS if any(counts[split])}


def _range(bin_: Mapping[str, int]) -> str:
    low, high = charts.short(bin_["from"]), charts.short(bin_["to"])
    return low if bin_["from"] == bin_["to"] else f"{low}–{high}"
