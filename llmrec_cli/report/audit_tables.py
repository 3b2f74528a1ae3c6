"""Tables of the audit's page as rows of formatted cells."""

from collections.abc import Mapping
from typing import Any

from llmrec_cli.report.cells import Cell, Row, Table

_SPLITS_AND_ALL = ("train", "valid", "test", "all")
_FILTERED = {"below_min_value": "value below dataset.min_value",
             "below_core": "user or item with fewer than dataset.min_*_interactions",
             "event_without_weight": "event whose weight is 0",
             "not_positive": "value of 0 or below; dataset.min_value=0 keeps those of 0",
             "dropped_user": "user in dataset.drop_users", "dropped_item": "item in dataset.drop_items",
             "after_newest": "after dataset.newest", "before_oldest": "before dataset.oldest",
             "dislike_of_unknown": "dislike whose user or item is in no interaction",
             "in_earlier_split": "held out, and in an earlier split too; split.leaks"}


def rows_table(audit: Mapping[str, Any]) -> Table:
    """Return where the rows went: how many, which share, and why."""
    rows = audit["rows"]
    lines = [("read", rows["read"], ""), ("prepared before", rows["earlier"], "sound rows that were there"),
             ("rejected", rows["rejected"], "not readable or not sound; in rejects.parquet"),
             ("merged", rows["duplicates"], "several of one user with one item; dataset.duplicates")]
    lines += [("filtered", number, _FILTERED.get(reason, reason))
              for reason, number in rows["filtered_by_reason"].items()]
    lines += [("negatives", rows["negatives"], "dislikes; in negatives.parquet"),
              ("kept", rows["kept"], "in interactions.parquet"), ("  train", rows["train"], ""),
              ("  valid", rows["valid"], "for choosing"), ("  test", rows["test"], "to be read once"),
              ("unaccounted", rows["unaccounted"], "in none of these places, which is a bug")]
    always = ("read", "kept", "  train", "  valid", "  test")
    return Table(["rows", "of those read", "why"],
                 [Row(name.replace("  ", " – "), [Cell(f"{number:,}", ""), Cell(_percent(number, rows["read"]), ""),
                                                  Cell(why, "")])
                  for name, number, why in lines if number or name in always])


def ties_table(audit: Mapping[str, Any]) -> Table:
    """Return the table of interactions that share their time with another of their user or group."""
    return Table(["tied interactions", "with a tied held-out interaction", "equal times are ordered by"],
                 [Row(whose, [Cell(f"{told['interactions']:,}", f"{told['share']:.1%}"),
                              Cell(f"{told[f'held_out_{whose}']:,} {whose}", f"{told['held_out_share']:.1%}"),
                              Cell(", ".join(told["rule"][1:]), "")]) for whose, told in audit["ties"].items()])


def splits_table(audit: Mapping[str, Any]) -> Table:
    """Return a row per split: how many, how sparse, how cold, from when to when."""
    found = []
    for split in _SPLITS_AND_ALL:
        told = audit["splits"][split]
        times = Cell("–", "") if told["first"] is None else Cell(_time(told["first"]), f"to {_time(told['last'])}")
        found.append(Row(split, [
            Cell(f"{told['interactions']:,}", ""), Cell(f"{told['users']:,}", ""), Cell(f"{told['items']:,}", ""),
            Cell(f"{told['density']:.3%}", ""), *(_cold(told, kind, split) for kind in ("users", "items")),
            Cell(f"{told['users_with_one_interaction']:,}", ""), times]))
    return Table(["interactions", "users", "items", "density", "cold users", "cold items", "users with one",
                  "from"], found)


def _cold(told: Mapping[str, Any], kind: str, split: str) -> Cell:
    if split == "train":
        return Cell("–", "")
    return Cell(f"{told[f'cold_{kind}']:,}",
                f"{told[f'cold_{kind}_share']:.1%} of interactions" if told[f"cold_{kind}"] else "")


def distributions_table(audit: Mapping[str, Any]) -> Table:
    """Return how many interactions users and items have, in each split."""
    rows = []
    for kind in ("user", "item"):
        for split in _SPLITS_AND_ALL:
            told = audit["splits"][split][f"per_{kind}"]
            if told["num"]:
                rows.append(Row(f"per {kind}, {split}", [Cell(f"{told[key]:,}", "") for key in
                                                         ("min", "q1", "median", "q3", "max")]
                                + [Cell(f"{told['mean']:,.1f}", "")]))
    return Table(["least", "lowest quarter up to", "median", "highest quarter from", "most", "mean"], rows)


def texts_table(audit: Mapping[str, Any]) -> Table:
    """Return what the texts of items and users are like, and those of groups where there are any."""
    told = list(audit["texts"].values())
    rows = [Row("all", [Cell(f"{texts['num']:,}", "") for texts in told]),
            Row("without text", [Cell(f"{texts['empty']:,}", f"{texts['empty_share']:.1%}") for texts in told]),
            Row("title is the id", [Cell(f"{texts['title_is_id']:,}", "") for texts in told])]
    for name, cell in (("same text as another", _duplicated), ("length, characters", _length), ("longest", _longest),
                       ("mostly in the script", _scripts), ("scripts mixed", _mixed)):
        rows.append(Row(name, [cell(texts) if texts["duplicated"] else Cell("–", "") for texts in told]))
    return Table([f"{kind}s" for kind in audit["texts"]], rows)


def _duplicated(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['duplicated']['num']:,}", f"{texts['duplicated']['share']:.1%} of those with a text")


def _length(texts: Mapping[str, Any]) -> Cell:
    lengths = texts["lengths"]
    return Cell(f"{lengths['median']:,}", f"median; half of them {lengths['q1']:,} to {lengths['q3']:,}")


def _longest(texts: Mapping[str, Any]) -> Cell:
    id_ = next(value for key, value in texts["longest"].items() if key.endswith("_id"))
    return Cell(f"{texts['longest']['length']:,}", f"id {id_[:40]}")


def _scripts(texts: Mapping[str, Any]) -> Cell:
    scripts = texts["scripts"]
    told = [f"{name} {_percent(number, scripts['looked_at'])}" for name, number in scripts["dominant"].items()]
    sampled = f"; of {scripts['looked_at']:,} texts" if scripts["every"] > 1 else ""
    return Cell(told[0], ", ".join(told[1:4]) + ("…" if told[4:] else "") + sampled)


def _mixed(texts: Mapping[str, Any]) -> Cell:
    return Cell(f"{texts['scripts']['mixed']:,}", f"{texts['scripts']['mixed_share']:.1%}")


def top_table(audit: Mapping[str, Any]) -> Table:
    """Return the most popular items of training."""
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
