"""Signed feature hashing of n-grams (Weinberger et al. 2009): vectors without a vocabulary and without learning."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.words import split_words
from llmrec_cli.settings.encoder import Hashing


class HashingEncoder(Encoder[Hashing]):
    """The n-grams of a text added up at the places that a hash gives them, each with a hashed sign; of length 1."""

    learns = False

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.settings.embedding_size

    @property
    def identity(self) -> str:
        """SHA-256 over the settings that decide on a vector."""
        settings = self.settings
        return identity_of(f"hashing {settings.embedding_size} {settings.unit} {settings.longest}", {})

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        vectors_TD = np.zeros((len(texts), self.embedding_size), np.float32)
        for row, text in enumerate(texts):
            for gram in self._grams(str(text)):
                code = zlib.crc32(gram.encode())
                vectors_TD[row, (code >> 1) % self.embedding_size] += 1 if code & 1 else -1
        return vectors_TD / np.maximum(np.linalg.norm(vectors_TD, axis=1, keepdims=True), 1e-9)

    def _grams(self, text: str) -> Iterator[str]:
        units = split_words(text) if self.settings.unit == "word" else text.lower()
        for length in range(1, self.settings.longest + 1):
            for start in range(len(units) - length + 1):
                yield " ".join(units[start:start + length])
