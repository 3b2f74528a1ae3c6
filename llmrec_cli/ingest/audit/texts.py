"""What the texts of items, users and groups are like: empty, repeated, long, in which scripts."""

import math
from typing import Any

import numpy as np
from ibis.expr.types import Table

from llmrec_cli.ingest.audit.distribution import Tally
from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share, shorten
from llmrec_cli.ingest.audit.scripts import NAMES, Scripts
from llmrec_cli.ingest.engine import batches, collect
from llmrec_cli.ingest.output.writing import TABLES

MOST_TEXTS, MOST_CHARACTERS = 100_000, 200
"""Texts whose script is looked at, and how much of each."""
_BATCH = 1 << 14


def describe_texts(folder: Folder, kind: str) -> dict[str, Any]:
    """Return num, empty, title_is_id, lengths, longest, duplicated and scripts of the texts of a kind.

    Lengths are in characters, of texts that are not empty. Without any such text the rest is null.
    """
    table = folder.table(TABLES[kind])
    lengths = collect(table.group_by(length=table.text.length()).agg(
        num=table.count(), title_is_id=table.count(where=table.title == table[f"{kind}_id"]))).to_pylist()
    num = sum(row["num"] for row in lengths)
    empty = sum(row["num"] for row in lengths if row["length"] == 0)
    tally = Tally((row["length"], row["num"]) for row in lengths if row["length"])
    told = {"num": num, "empty": empty, "empty_share": share(empty, num),
            "title_is_id": sum(row["title_is_id"] for row in lengths), "lengths": tally.summary()}
    if num == empty:
        return {**told, "longest": None, "duplicated": None, "scripts": None}
    longest = int(tally.counts[-1])
    id_ = collect(table.filter(table.text.length() == longest).agg(id=table[f"{kind}_id"].min()))["id"][0].as_py()
    return {**told, "longest": {f"{kind}_id": id_, "length": longest},
            "duplicated": _duplicated(table, kind, num - empty), "scripts": _scripts(table, kind, num - empty)}


def _duplicated(table: Table, kind: str, num: int) -> dict[str, Any]:
    """Return how many have a text that another has too, and the most common of such texts."""
    written = table.filter(table.text != "")
    same = written.group_by("text").agg(num=written.count(), first=written[f"{kind}_id"].min(),
                                        last=written[f"{kind}_id"].max())
    same = same.filter(same.num > 1)
    whole = collect(same.agg(texts=same.count(), num=same.num.sum(), most=same.num.max())).to_pylist()[0]
    shown = collect(same.order_by(same.num.desc(), "text").limit(SHOWN)).to_pylist() if whole["texts"] else []
    found = int(whole["num"] or 0)
    return {"num": found, "share": share(found, num), "texts": whole["texts"], "most": int(whole["most"] or 0),
            "examples": [{"text": shorten(row["text"]), "num": row["num"], f"{kind}_ids": [row["first"], row["last"]]}
                         for row in shown]}


def _scripts(table: Table, kind: str, num: int) -> dict[str, Any]:
    """Return how many texts are mostly in each script; beyond MOST_TEXTS of every n-th user or item only."""
    every = math.ceil(num / MOST_TEXTS)
    chosen = table.filter(table.text != "", table[kind] % every == 0)
    scripts = Scripts()
    for batch in batches(chosen.select(text=chosen.text.left(MOST_CHARACTERS)), _BATCH):
        scripts.add(batch.column(0))
    looked_at = int(scripts.counts.sum())
    return {"looked_at": looked_at, "every": every, "characters": MOST_CHARACTERS,
            "dominant": {NAMES[n]: int(scripts.counts[n]) for n in np.argsort(-scripts.counts, kind="stable")
                         if scripts.counts[n]},
            "mixed": scripts.mixed, "mixed_share": share(scripts.mixed, looked_at)}
