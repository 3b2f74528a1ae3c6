"""Vectors from the words of texts: TF-IDF, and latent semantic analysis of it.

Shapes: T texts, V words, D dimensions.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.tensor_reader import FLOAT, TensorReader
from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.words import Words
from llmrec_cli.errors import DataError
from llmrec_cli.settings.encoder import Lsa, TfIdf

BYTES_OF_A_CHARACTER = 12
"""Words of a text as numbers, as counts and as weights (benchmarks/memory.py)."""
MOST_WORDS = 50_000
"""Words that a catalogue's texts have in common, at most; fewer where texts are short."""


class TfIdfEncoder(Encoder[TfIdf]):
    """TF-IDF of the words that most texts have, each vector of length 1; zeros for a text without any of them."""

    def __init__(self, settings: TfIdf) -> None:
        super().__init__(settings)
        self.words = Words()

    @classmethod
    def memory(cls, settings: TfIdf, texts: Sequence[str]) -> int:
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
        """Learn which words there are and how rare each is."""
        self.words.fit((_cut(text, self.settings) for text in texts), self.settings.embedding_size)
        _refuse_no_words(self.words, self.settings)

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        return _unit_matrix(self.words, texts, self.settings).toarray()

    def state(self) -> dict[str, np.ndarray]:
        """Return the words and their IDF."""
        return self.words.state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self._take(TensorReader(state))

    @classmethod
    def read(cls, settings: TfIdf, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return what `state` returned, each tensor checked."""
        return cls(settings)._take(tensors)

    def _take(self, tensors: TensorReader) -> dict[str, np.ndarray]:
        return self.words.read(tensors)


class LsaEncoder(Encoder[Lsa]):
    """The leading singular vectors of the texts' TF-IDF (Deerwester et al. 1990), by scikit-learn's TruncatedSVD.

    A vector is a text's words projected onto them, so that texts without a word in common may be alike; zeros for a
    text without any known word.
    """

    def __init__(self, settings: Lsa) -> None:
        super().__init__(settings)
        self.words = Words()
        self.components_VD: np.ndarray = np.zeros((0, 0), np.float32)

    @classmethod
    def memory(cls, settings: Lsa, texts: Sequence[str]) -> int:
        """Return the bytes of the words of all texts and of their decomposition."""
        characters = sum(map(len, texts))
        words = min(MOST_WORDS, characters // 16)
        # The randomised SVD holds words x dimensions and texts x dimensions several times, in float64 once.
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
        """Learn the words and the singular vectors: the same ones for the same texts."""
        # Only here: it takes a second to load.
        from sklearn.decomposition import TruncatedSVD

        self.words.fit(_cut(text, self.settings) for text in texts)
        _refuse_no_words(self.words, self.settings)
        matrix_TV = _unit_matrix(self.words, texts, self.settings)
        size = min(self.settings.embedding_size, *matrix_TV.shape)
        found = TruncatedSVD(size, random_state=0).fit(matrix_TV)
        self.components_VD = np.ascontiguousarray(found.components_.T, np.float32)

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        return np.asarray(_unit_matrix(self.words, texts, self.settings) @ self.components_VD, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the words, their IDF and the singular vectors."""
        return self.words.state() | {"components": self.components_VD}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self._take(TensorReader(state))

    @classmethod
    def read(cls, settings: Lsa, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return what `state` returned, each tensor checked."""
        return cls(settings)._take(tensors)

    def _take(self, tensors: TensorReader) -> dict[str, np.ndarray]:
        state = self.words.read(tensors)
        self.components_VD = tensors.take("components", FLOAT, (len(self.words.idf_V), None))
        return state | {"components": self.components_VD}


def _unit_matrix(words: Words, texts: Sequence[str], settings: TfIdf | Lsa) -> sp.csr_array:
    """Return the weighted words of texts, each row of length 1, CSR float32 (T, V)."""
    matrix_TV = words.matrix(_cut(text, settings) for text in texts)
    row = np.repeat(np.arange(len(texts)), np.diff(matrix_TV.indptr))
    norms_T = np.sqrt(np.bincount(row, matrix_TV.data.astype(np.float64)**2, minlength=len(texts)))
    values = (matrix_TV.data / norms_T[row]).astype(np.float32)
    return sp.csr_array((values, matrix_TV.indices, matrix_TV.indptr), shape=matrix_TV.shape)


def _cut(text: str, settings: TfIdf | Lsa) -> str:
    return str(text)[:settings.max_characters]


def _refuse_no_words(words: Words, settings: TfIdf | Lsa) -> None:
    if not words.index:
        raise DataError(f"encoder={settings.kind}: no word occurs in the texts of two items, so there is nothing to "
                        f"learn; prepare with longer texts (dataset.item_text=...), or choose encoder=minilm")
