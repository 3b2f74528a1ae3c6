"""Several encoders side by side.

Shapes: T texts, D dimensions of a part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.vector_cache import encode_cached


class ConcatEncoder:
    """The vectors of several encoders: each centred by its mean over the items, of length 1, times its weight.

    So the cosine of two texts is the mean of the parts' cosines, weighted by the squares of the weights. A part that
    says nothing of a text is zeros there: lsa's of a text without known words, and every part's of an empty text.
    """

    is_costly = False  # What is costly in it are its parts, and those use the cache themselves.

    def __init__(self, parts: Mapping[str, tuple[Encoder, float]], cache: Path | None) -> None:
        self.parts = dict(parts)
        self.cache = cache
        self.means: dict[str, np.ndarray] = {}
        self._fitted: dict[str, int] | None = None
        self._fitted_raw: dict[str, np.ndarray] = {}

    @property
    def embedding_size(self) -> int:
        """The sum of the parts' sizes."""
        return sum(encoder.embedding_size for encoder, _ in self.parts.values())

    @property
    def identity(self) -> str:
        """SHA-256 over the parts' identities, weights and means."""
        facts = "".join(f"{name} {encoder.identity} {weight} " for name, (encoder, weight) in self.parts.items())
        return identity_of(f"concat {facts}", self.means)

    def fit(self, texts: Sequence[str]) -> None:
        """Fit the parts and learn their means. Their vectors are kept: the same texts are encoded next."""
        distinct = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        rows = np.fromiter((distinct[str(text)] for text in texts if str(text).strip()), np.int64)
        for name, (encoder, _) in self.parts.items():
            encoder.fit(texts)
            raw = self._fitted_raw[name] = encode_cached(encoder, list(distinct), self.cache)
            empty = np.zeros(encoder.embedding_size, np.float32)
            self.means[name] = raw[rows].mean(axis=0) if len(rows) else empty
        self._fitted = distinct

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        row = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        rows_T = np.fromiter((row[str(text)] for text in texts), np.int64, len(texts))
        said_T1 = np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))[:, None]
        blocks = []
        for name, (encoder, weight) in self.parts.items():
            raw = self._fitted_raw[name] if row == self._fitted else encode_cached(encoder, list(row), self.cache)
            raw_TD = raw[rows_T]
            centred_TD = np.where(said_T1 & raw_TD.any(axis=1, keepdims=True), raw_TD - self.means[name], 0)
            norms_T1 = np.linalg.norm(centred_TD, axis=1, keepdims=True)
            blocks.append(weight * centred_TD / np.maximum(norms_T1, 1e-9))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the parts' means and states, under their names."""
        states = {f"{name}.state.{key}": value for name, (encoder, _) in self.parts.items()
                  for key, value in encoder.state().items()}
        return {f"{name}.mean": mean for name, mean in self.means.items()} | states

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self._fitted = None
        for name, (encoder, _) in self.parts.items():
            self.means[name] = state[f"{name}.mean"]
            prefix = f"{name}.state."
            encoder.load({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
