"""Texts as weighted words.

Shapes: V words.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.tensor_reader import BYTE, FLOAT, TensorReader


class Words:
    """TF-IDF of words (Sparck Jones 1972), with 1 + log of the count; scripts without spaces by pairs of characters.

    Only words of at least two texts are kept: one that a single text has tells nothing of another.

    Attributes
    ----------
    index : the column of each word
    idf_V : float32 (V,), log((1 + num_texts) / (1 + texts with the word)) + 1
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.idf_V: np.ndarray = np.zeros(0, np.float32)

    def fit(self, texts: Iterable[str], most: int | None = None) -> None:
        """Learn which words at least two texts have, and how rare each is; of these the `most` that most texts have."""
        num_texts, frequency = 0, dict[str, int]()
        for text in texts:
            num_texts += 1
            for word in set(split_words(text)):
                frequency[word] = frequency.get(word, 0) + 1
        kept = sorted(word for word, number in frequency.items() if number >= 2)
        if most is not None:
            kept = sorted(sorted(kept, key=lambda word: -frequency[word])[:most])
        self.index = {word: n for n, word in enumerate(kept)}
        counts = np.array([frequency[word] for word in kept], np.float32)
        self.idf_V = (np.log((1 + num_texts) / (1 + counts)) + 1).astype(np.float32)

    def matrix(self, texts: Iterable[str]) -> sp.csr_array:
        """Return the weighted words of texts, CSR (num_texts, V)."""
        indptr, indices = [0], list[int]()
        for text in texts:
            indices += [place for word in split_words(text) if (place := self.index.get(word)) is not None]
            indptr.append(len(indices))
        counts = sp.csr_array((np.ones(len(indices), np.float32), np.array(indices, np.int64), indptr),
                              shape=(len(indptr) - 1, len(self.idf_V)))
        counts.sum_duplicates()
        counts.data = (1 + np.log(counts.data)) * self.idf_V[counts.indices]
        return counts

    def state(self) -> dict[str, np.ndarray]:
        """Return the words, joined by line feeds in UTF-8, and their IDF."""
        joined = "\n".join(self.index).encode("utf-8", "surrogatepass")
        return {"words.names": np.frombuffer(joined, np.uint8), "words.idf": self.idf_V} if self.index else {}

    def read(self, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Take what `state` returned, and return it."""
        if "words.names" not in tensors and "words.idf" not in tensors:
            return {}
        joined = tensors.take("words.names", BYTE, (None,))
        try:
            names = joined.tobytes().decode("utf-8", "surrogatepass").split("\n")
        except UnicodeDecodeError as error:
            raise tensors.error("words.names", f"is not text in UTF-8 ({error})") from error
        self.index = {word: n for n, word in enumerate(names)}
        if len(self.index) != len(names):
            raise tensors.error("words.names", "names a word twice")
        self.idf_V = tensors.take("words.idf", FLOAT, (len(names),), low=0)
        return {"words.names": joined, "words.idf": self.idf_V}


# Han, kana, Hangul, Thai, Lao and Khmer are written without spaces, or with too few.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
# Accents and vowel signs belong to the letter before them, though they are no letters.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(f"[{_UNSPACED}]+|(?:[^\\W_{_UNSPACED}]|[{_MARKS}])+")
_RUN = re.compile(f"[{_UNSPACED}]")


def split_words(text: str) -> list[str]:
    """Return the words of a text; of scripts without spaces each pair of neighbouring characters.

    Upper and lower case, full and half width, composed and decomposed letters are the same (NFKC).
    """
    words: list[str] = []
    for run in _WORD.findall(unicodedata.normalize("NFKC", str(text)).lower()):
        unspaced = _RUN.match(run) and len(run) > 1
        words += [run[n:n + 2] for n in range(len(run) - 1)] if unspaced else [run]
    return words
