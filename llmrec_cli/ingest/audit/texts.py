"""Statistics of the texts of items, users and groups: empty, repeated, long, and their scripts."""

import math
from typing import Any

import numpy as np
from ibis.expr.types import Table

from llmrec_cli.data.scripts import NAMES, Scripts
from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share, shorten
from llmrec_cli.ingest.audit.shape import Tally
from llmrec_cli.ingest.engine import batches, collect
from llmrec_cli.ingest.output.writing import TABLES

MOST_TEXTS, _MOST_CHARACTERS = 100_000, 200
"""Most texts whose script is determined, and the characters of each that count."""
_BATCH = 1 << 14


def describe_texts(folder: Folder, kind: str) -> dict[str, Any]:
    """Return num, empty, title_is_id, lengths, longest, duplicated and scripts of the texts of a kind.

    Lengths are in characters and of non-empty texts. If all texts are empty, longest, duplicated and scripts are null.
    """
    table = folder.table(TABLES[kind])
    lengths = collect(table.group_by(length=table.text.length()).agg(
        num=table.count(), title_is_id=table.count(where=table.title == table[f"{kind}_id"]))).to_pylist()
    num = sum(row["num"] for row in lengths)
    empty = sum(row["num"] for row in lengths if row["length"] == 0)
    tally = Tally((row["length"], row["num"]) for row in lengths if row["length"])
    summary = {"num": num, "empty": empty, "empty_share": share(empty, num),
            "title_is_id": sum(row["title_is_id"] for row in lengths), "lengths": tally.summary()}
    if num == empty:
        return {**summary, "longest": None, "duplicated": None, "scripts": None}
    longest = int(tally.counts[-1])
    id_ = collect(table.filter(table.text.length() == longest).agg(id=table[f"{kind}_id"].min()))["id"][0].as_py()
    return {**summary, "longest": {f"{kind}_id": id_, "length": longest},
            "duplicated": _duplicated(table, kind, num - empty), "scripts": _scripts(table, kind, num - empty)}


def _duplicated(table: Table, kind: str, num: int) -> dict[str, Any]:
    """Return how many entities share their text with another, and the most common shared texts."""
    written = table.filter(table.text != "")
    same = written.group_by("text").agg(num=written.count(), first=written[f"{kind}_id"].min(),
                                        last=written[f"{kind}_id"].max())
    same = same.filter(same.num > 1)
    whole = collect(same.agg(texts=same.count(), num=same.num.sum(), most=same.num.max())).to_pylist()[0]
    most_common = collect(same.order_by(same.num.desc(), "text").limit(SHOWN)).to_pylist() if whole["texts"] else []
    num_same = int(whole["num"] or 0)
    return {"num": num_same, "share": share(num_same, num), "texts": whole["texts"], "most": int(whole["most"] or 0),
            "examples": [{"text": shorten(row["text"]), "num": row["num"], f"{kind}_ids": [row["first"], row["last"]]}
                         for row in most_common]}


def _scripts(table: Table, kind: str, num: int) -> dict[str, Any]:
    """Return how many texts are mostly in each script; beyond MOST_TEXTS texts only every n-th user or item counts."""
    every = math.ceil(num / MOST_TEXTS)
    sample = table.filter(table.text != "", table[kind] % every == 0)
    scripts = Scripts()
    for batch in batches(sample.select(text=sample.text.left(_MOST_CHARACTERS)), _BATCH):
        scripts.add(batch.column(0))
    looked_at = int(scripts.counts.sum())
    return {"looked_at": looked_at, "every": every, "characters": _MOST_CHARACTERS,
            "dominant": {NAMES[n]: int(scripts.counts[n]) for n in np.argsort(-scripts.counts, kind="stable")
                         if scripts.counts[n]},
            "letters": scripts.letter_shares, "mixed": scripts.mixed, "mixed_share": share(scripts.mixed, looked_at)}
