"""Which scripts texts are written in, by Unicode's blocks."""

import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NAMES = ("none", "Latin", "Han", "Hiragana/Katakana", "Hangul", "Cyrillic", "Arabic", "Hebrew", "Devanagari", "Thai",
         "Greek", "other")
NONE, LATIN, HAN, KANA = range(4)
OTHER = len(NAMES) - 1
MIXED_FROM = 0.1
"""Share of a text's letters in another script than most, from which on its scripts are called mixed."""
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
    """Counts texts by the script that most of their letters are in.

    Attributes
    ----------
    counts : texts by place in NAMES (num_scripts,); `none` has no letter
    mixed : texts in which another script has MIXED_FROM of the letters; Han with kana is not mixed but Japanese
    """

    def __init__(self) -> None:
        self.counts = np.zeros(len(NAMES), np.int64)
        self.mixed = 0
        # Filled as characters are seen: asking Unicode about every one there is would take longer than the texts.
        self._script_of = np.full(0x110000, _UNKNOWN, np.uint8)

    def add(self, texts: pa.Array) -> None:
        """Count an Arrow array of strings."""
        ascii_ = pc.string_is_ascii(texts)
        plain = texts.filter(ascii_)
        latin = int(pc.sum(pc.match_substring_regex(plain, "[A-Za-z]")).as_py() or 0)
        self.counts[LATIN] += latin
        self.counts[NONE] += len(plain) - latin
        rest = texts.filter(pc.invert(ascii_)).to_pylist()
        if rest:
            self._add(rest)

    def _add(self, texts: list[str]) -> None:
        letters = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
        new = np.unique(letters[self._script_of[letters] == _UNKNOWN])
        self._script_of[new] = [_script(chr(c)) for c in new]
        text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        shape = (len(texts), len(NAMES))
        found = np.bincount(text_of * len(NAMES) + self._script_of[letters], minlength=shape[0] * shape[1])
        in_script = found.reshape(shape)
        in_script[:, NONE] = 0
        most = in_script.argmax(1)  # 0, which is `none`, where there is no letter at all
        self.counts += np.bincount(most, minlength=len(NAMES))
        japanese = (in_script[:, HAN] > 0) & (in_script[:, KANA] > 0)
        in_script[japanese, KANA] += in_script[japanese, HAN]
        in_script[japanese, HAN] = 0
        others = in_script.sum(1) - in_script.max(1)
        self.mixed += int((others >= np.maximum(1, MIXED_FROM * in_script.sum(1))).sum())


def _script(character: str) -> int:
    if not unicodedata.category(character).startswith("L"):
        return NONE
    code = ord(character)
    for name, blocks in _BLOCKS.items():
        if any(low <= code <= high for low, high in blocks):
            return NAMES.index(name)
    return OTHER
