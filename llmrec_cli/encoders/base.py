"""What every encoder is: texts in, vectors out.

Shapes: D = the encoder's embedding_size.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """Makes vectors of texts, alone or learned from the texts of the items in training.

    After `fit` or `load` an encoder is fixed. Transformers are trained by other means (`text_encoder.TextEncoder`).
    """

    @property
    def embedding_size(self) -> int:
        """Length of a vector; known once the encoder is fitted or loaded."""

    @property
    def identity(self) -> str:
        """A SHA-256 that changes whenever the vectors of a text would; known once the encoder is fitted or loaded."""

    @property
    def is_costly(self) -> bool:
        """Whether encoding a text costs so much more than reading its vector that vectors are kept across runs."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the items in training; an encoder that was pretrained learns nothing."""

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D): of items, or of what users say in words with `entity` query.

        The two differ where a transformer is given prompts. A text's vector is the same, up to the last bits of a
        transformer's, whatever texts come with it.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learned, by name; nothing where all is in the encoder's own files."""

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned of an encoder with the same settings."""


def identity_of(facts: str, state: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over a sentence of facts and arrays by name."""
    whole = hashlib.sha256(facts.encode())
    for name, array in sorted(state.items()):
        whole.update(f"\n{name} {array.dtype} {array.shape} ".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()
