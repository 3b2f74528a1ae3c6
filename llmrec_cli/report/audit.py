"""The page of an audit: one HTML file that needs no network and no script, and the audit itself beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrec_cli.report import audit_charts as charts
from llmrec_cli.report.audit_tables import distributions_table, examples, rows_table, splits_table, texts_table, ties_table, top_table
from llmrec_cli.report.pages import page
from llmrec_cli.run_dir import write_bytes, write_json

PAGE, DATA = "audit.html", "audit.json"
_SPLITS = ("train", "valid", "test")


def write_audit(folder: Path, audit: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write audit.json and audit.html into `folder`. `about` has name, fingerprint and split, as the manifest has."""
    write_json(folder / DATA, audit)
    write_bytes(folder / PAGE, render(audit, about).encode("utf-8", "replace"))


def render(audit: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return the page; everything that comes from data is escaped by the template."""
    kept = audit["splits"]["all"]
    cards = [("Interactions", f"{audit['rows']['kept']:,}", f"of {audit['rows']['read']:,} rows read"),
             ("Users", f"{kept['users']:,}", _each(kept["per_user"])),
             ("Items", f"{kept['items']:,}", _each(kept["per_item"])),
             ("Density", f"{kept['density']:.3%}", "of all pairs of a user and an item are there")]
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
    """Return the split and its settings as one would write them."""
    # What is as it would be without being said is not: split=given has a seed that decides nothing.
    idle = {"kind", "cutoff", *(("valid", "seed") if split["kind"] == "given" and not split.get("valid") else ())}
    told = [f"{key}={value}" for key, value in split.items()
            if key not in idle and value not in (None, "") and (key, value) != ("leaks", "auto")]
    return f"split={split['kind']}" + (f" ({', '.join(told)})" if told else "")


def _span(kept: Mapping[str, Any]) -> str:
    return "" if kept["first"] is None else f"{_day(kept['first'])} to {_day(kept['last'])}"


def _day(moment: str | int) -> str:
    return moment[:10] if isinstance(moment, str) else f"{moment:,}"


def _charts(audit: Mapping[str, Any]) -> dict[str, list[charts.Chart]]:
    """Return the charts by the section they are in."""
    values, found = audit["values"], []
    if audit["time"]:
        time = audit["time"]
        edges = [_moment(edge) for edge in time["edges"]]
        num = len(edges) - 1
        places = sorted({round(num * n / 3) for n in range(4)})
        what = "place in the order" if time["unit"] == "order" else "time (UTC)"
        found.append(charts.bars("Interactions over time", what, f"interactions in each of {num} spans", edges[:-1],
                                 _by_split(time), [(n, _day(time["edges"][n])) for n in places]))
    names = [f"{value:.6g}" for value in values["values"]] if values["edges"] is None else \
        [f"{edge:.4g}" for edge in values["edges"][:-1]]
    found.append(charts.bars("Values", "value" if values["edges"] is None else "value, from", "interactions", names,
                             _by_split(values)))
    diagonal = [[0.0, 0.0], [1.0, 1.0]]
    tail = charts.curve("The long tail", "share of the trained items, most popular first",
                        "share of training interactions",
                        {"these items": audit["popularity"]["curve"], "all equally popular": diagonal})
    each = [charts.bars(f"Interactions per {kind}", "interactions", f"{kind}s", [_range(b) for b in histogram],
                        {f"{kind}s": [b["num"] for b in histogram]})
            for kind in ("user", "item") for histogram in [audit["histograms"][f"per_{kind}"]]]
    return {"when": found, "popularity": [tail, *each]}


def _moment(edge: str | int) -> str:
    return edge[:16].replace("T", " ") if isinstance(edge, str) else f"{edge:,}"


def _by_split(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {split: counts[split] for split in _SPLITS if any(counts[split])}


def _range(bin_: Mapping[str, int]) -> str:
    low, high = charts.short(bin_["from"]), charts.short(bin_["to"])
    return low if bin_["from"] == bin_["to"] else f"{low}–{high}"


