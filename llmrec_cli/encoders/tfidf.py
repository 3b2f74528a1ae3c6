"""TF-IDF vectors of texts, and their latent semantic analysis.

Shapes: T texts, V words, D dimensions.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.tensors import BYTE, FLOAT, TensorReader
from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.errors import DataError
from llmrec_cli.settings.encoder import LsaSettings, TfIdfSettings


class Words:
    """TF-IDF of words (Sparck Jones 1972), with 1 + log(count); scripts without spaces by pairs of characters.

    Only words in at least two texts are used, since others do not relate texts.

    Attributes
    ----------
    index : the column of each word
    idf_V : float32 (V,), log((1 + num_texts) / (1 + texts with the word)) + 1
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.idf_V: np.ndarray = np.zeros(0, np.float32)

    def fit(self, texts: Iterable[str], most: int | None = None) -> None:
        """Learn the words in at least two texts, at most the `most` most frequent ones, and their IDF."""
        num_texts, frequency = 0, dict[str, int]()
        for text in texts:
            num_texts += 1
            for word in set(split_words(text)):
                frequency[word] = frequency.get(word, 0) + 1
        words = sorted(word for word, number in frequency.items() if number >= 2)
        if most is not None:
            words = sorted(sorted(words, key=lambda word: -frequency[word])[:most])
        self.index = {word: n for n, word in enumerate(words)}
        counts = np.array([frequency[word] for word in words], np.float32)
        self.idf_V = (np.log((1 + num_texts) / (1 + counts)) + 1).astype(np.float32)

    def matrix(self, texts: Iterable[str]) -> sp.csr_array:
        """Return the TF-IDF matrix of texts, CSR (num_texts, V)."""
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
        """Restore `state` from tensors, and return the arrays."""
        if "words.names" not in tensors and "words.idf" not in tensors:
            return {}
        joined = tensors.take("words.names", BYTE, (None,))
        try:
            names = joined.tobytes().decode("utf-8", "surrogatepass").split("\n")
        except UnicodeDecodeError as error:
            raise tensors.error("words.names", f"is not text in UTF-8 ({error})") from error
        self.index = {word: n for n, word in enumerate(names)}
        if len(self.index) != len(names):
            raise tensors.error("words.names", "has a word twice")
        self.idf_V = tensors.take("words.idf", FLOAT, (len(names),), low=0)
        return {"words.names": joined, "words.idf": self.idf_V}


# Han, kana, Hangul, Thai, Lao and Khmer are written with few or no spaces.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
# Accents and vowel signs are no letters but belong to the letter before.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(f"[{_UNSPACED}]+|(?:[^\\W_{_UNSPACED}]|[{_MARKS}])+")
_RUN = re.compile(f"[{_UNSPACED}]")


def split_words(text: str) -> list[str]:
    """Return the words of a text; in scripts without spaces, each pair of neighbouring characters.

    Case, full and half width, and composed and decomposed letters are normalised (NFKC).
    """
    words: list[str] = []
    for run in _WORD.findall(unicodedata.normalize("NFKC", str(text)).lower()):
        unspaced = _RUN.match(run) and len(run) > 1
        words += [run[n:n + 2] for n in range(len(run) - 1)] if unspaced else [run]
    return words


BYTES_OF_A_CHARACTER = 12
"""Bytes per character for a text's words as ids, counts and weights (benchmarks/memory.py)."""
_MOST_WORDS = 50_000
"""Maximum number of words assumed in memory estimates; fewer for short texts."""


class TfIdfEncoder(Encoder[TfIdfSettings]):
    """TF-IDF of the most frequent words, each vector of length 1; zeros for a text without any of them."""

    def __init__(self, settings: TfIdfSettings) -> None:
        super().__init__(settings)
        self.words = Words()

    @classmethod
    def estimate_memory(cls, settings: TfIdfSettings, texts: Sequence[str]) -> int:
        """Return the bytes of the words of all texts."""
        return BYTES_OF_A_CHARACTER * sum(map(len, texts))

    @property
    def embedding_size(self) -> int:
        """D, the number of words."""
        return len(self.words.idf_V)

    @property
    def identity(self) -> str:
        """SHA-256 over the words and their weights."""
        return identity_of(f"tfidf {self.settings.max_characters}", self.state())

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the words and their IDF."""
        self.words.fit((_cut(text, self.settings) for text in texts), self.settings.embedding_size)
        _refuse_no_words(self.words, self.settings)

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        return _unit_matrix(self.words, texts, self.settings).toarray()

    def state(self) -> dict[str, np.ndarray]:
        """Return the words and their IDF."""
        return self.words.state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore `state`."""
        self._take(TensorReader(state))

    @classmethod
    def read(cls, settings: TfIdfSettings, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return the arrays of `state`, each checked."""
        return cls(settings)._take(tensors)

    def _take(self, tensors: TensorReader) -> dict[str, np.ndarray]:
        return self.words.read(tensors)


class LsaEncoder(Encoder[LsaSettings]):
    """Latent semantic analysis: projection on the leading singular vectors of TF-IDF (Deerwester et al. 1990).

    By scikit-learn's TruncatedSVD. Texts without a common word can have similar vectors; a text without known words has
    zeros.
    """

    def __init__(self, settings: LsaSettings) -> None:
        super().__init__(settings)
        self.words = Words()
        self.components_VD: np.ndarray = np.zeros((0, 0), np.float32)

    @classmethod
    def estimate_memory(cls, settings: LsaSettings, texts: Sequence[str]) -> int:
        """Return the bytes of the words of all texts and of their decomposition."""
        characters = sum(map(len, texts))
        words = min(_MOST_WORDS, characters // 16)
        # The randomised SVD holds words x dimensions and texts x dimensions several times, once in float64.
        return BYTES_OF_A_CHARACTER * characters + 16 * (settings.embedding_size + 10) * (words + len(texts))

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.components_VD.shape[1]

    @property
    def identity(self) -> str:
        """SHA-256 over the words, their weights and the singular vectors."""
        return identity_of(f"lsa {self.settings.max_characters}", self.state())

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the words and the singular vectors, deterministic for given texts."""
        # Imported here, since it takes a second to load.
        from sklearn.decomposition import TruncatedSVD

        self.words.fit(_cut(text, self.settings) for text in texts)
        _refuse_no_words(self.words, self.settings)
        matrix_TV = _unit_matrix(self.words, texts, self.settings)
        size = min(self.settings.embedding_size, *matrix_TV.shape)
        svd = TruncatedSVD(size, random_state=0).fit(matrix_TV)
        self.components_VD = np.ascontiguousarray(svd.components_.T, np.float32)

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        return np.asarray(_unit_matrix(self.words, texts, self.settings) @ self.components_VD, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the words, their IDF and the singular vectors."""
        return self.words.state() | {"components": self.components_VD}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore `state`."""
        self._take(TensorReader(state))

    @classmethod
    def read(cls, settings: LsaSettings, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return the arrays of `state`, each checked."""
        return cls(settings)._take(tensors)

    def _take(self, tensors: TensorReader) -> dict[str, np.ndarray]:
        state = self.words.read(tensors)
        self.components_VD = tensors.take("components", FLOAT, (len(self.words.idf_V), None))
        return state | {"components": self.components_VD}


def _unit_matrix(words: Words, texts: Sequence[str], settings: TfIdfSettings | LsaSettings) -> sp.csr_array:
    """Return the TF-IDF matrix of texts with rows of length 1, CSR float32 (T, V)."""
    matrix_TV = words.matrix(_cut(text, settings) for text in texts)
    row = np.repeat(np.arange(len(texts)), np.diff(matrix_TV.indptr))
    norms_T = np.sqrt(np.bincount(row, matrix_TV.data.astype(np.float64)**2, minlength=len(texts)))
    values = (matrix_TV.data / norms_T[row]).astype(np.float32)
    return sp.csr_array((values, matrix_TV.indices, matrix_TV.indptr), shape=matrix_TV.shape)


def _cut(text: str, settings: TfIdfSettings | LsaSettings) -> str:
    return str(text)[:settings.max_characters]


def _refuse_no_words(words: Words, settings: TfIdfSettings | LsaSettings) -> None:
    if not words.index:
        raise DataError(f"encoder={settings.kind}: no word occurs in the texts of two items, so nothing can be "
                        f"learned; prepare with longer texts (dataset.item_text=...), or choose encoder=minilm")
