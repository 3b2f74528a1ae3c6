"""Statistics of the texts of items, users and groups: empty, repeated, long, and their scripts."""

import math
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.expr.types import Table

from llmrec_cli.ingest.audit.folder import SHOWN, Folder, share, shorten
from llmrec_cli.ingest.audit.shape import Tally
from llmrec_cli.ingest.engine import batches, collect
from llmrec_cli.ingest.output.writing import TABLES

NAMES = ("none", "Latin", "Han", "Hiragana/Katakana", "Hangul", "Cyrillic", "Arabic", "Hebrew", "Devanagari", "Thai",
         "Greek", "other")
_NONE, _LATIN, _HAN, _KANA = range(4)
_OTHER = len(NAMES) - 1
_MIXED_FROM = 0.1
"""Share of a text's letters outside its main script from which on the text counts as mixed."""
_UNKNOWN = 255
_BLOCKS = {
    "Latin": ((0x41, 0x24F), (0x250, 0x2AF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFF21, 0xFF5A)),
    "Han": ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
            (0x20000, 0x323AF)),
    "Hiragana/Katakana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF)),
    "Hebrew": ((0x590, 0x5FF), (0xFB1D, 0xFB4F)), "Devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "Thai": ((0xE00, 0xE7F),), "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF))}


class Scripts:
    """Counts texts by the script of most of their letters.

    Attributes
    ----------
    counts : number of texts by script, in the order of NAMES (num_scripts,); `none` is for texts without letters
    mixed : number of texts in which other scripts have _MIXED_FROM of the letters; Han with kana is Japanese, not mixed
    """

    def __init__(self) -> None:
        self.counts = np.zeros(len(NAMES), np.int64)
        self.mixed = 0
        # Filled as characters occur: looking up every character of Unicode would take longer than the texts.
        self._script_of = np.full(0x110000, _UNKNOWN, np.uint8)

    def add(self, texts: pa.Array) -> None:
        """Count an Arrow array of strings."""
        ascii_ = pc.string_is_ascii(texts)
        plain = texts.filter(ascii_)
        latin = int(pc.sum(pc.match_substring_regex(plain, "[A-Za-z]")).as_py() or 0)
        self.counts[_LATIN] += latin
        self.counts[_NONE] += len(plain) - latin
        rest = texts.filter(pc.invert(ascii_)).to_pylist()
        if rest:
            self._add(rest)

    def _add(self, texts: list[str]) -> None:
        letters = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
        new = np.unique(letters[self._script_of[letters] == _UNKNOWN])
        self._script_of[new] = [_script(chr(c)) for c in new]
        text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        shape = (len(texts), len(NAMES))
        counts = np.bincount(text_of * len(NAMES) + self._script_of[letters], minlength=shape[0] * shape[1])
        in_script = counts.reshape(shape)
        in_script[:, _NONE] = 0
        most = in_script.argmax(1)  # 0, which is `none`, where there is no letter at all
        self.counts += np.bincount(most, minlength=len(NAMES))
        japanese = (in_script[:, _HAN] > 0) & (in_script[:, _KANA] > 0)
        in_script[japanese, _KANA] += in_script[japanese, _HAN]
        in_script[japanese, _HAN] = 0
        others = in_script.sum(1) - in_script.max(1)
        self.mixed += int((others >= np.maximum(1, _MIXED_FROM * in_script.sum(1))).sum())


def _script(character: str) -> int:
    if not unicodedata.category(character).startswith("L"):
        return _NONE
    code = ord(character)
    for name, blocks in _BLOCKS.items():
        if any(low <= code <= high for low, high in blocks):
            return NAMES.index(name)
    return _OTHER


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
            "mixed": scripts.mixed, "mixed_share": share(scripts.mixed, looked_at)}
