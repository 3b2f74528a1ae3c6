"""Several encoders side by side.

Shapes: T texts, D dimensions of a part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmrec_cli.data.tensor_reader import TensorReader
from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import Whitening, fit_whitening
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.encoder import EncoderSettings


class ConcatEncoder:
    """The vectors of several encoders: each centred (and whitened where it says so), of length 1, times its weight.

    So the cosine of two texts is the mean of the parts' cosines, weighted by the squares of the weights. A part that
    says nothing of a text is zeros there: lsa's of a text without known words, and every part's of an empty text.
    """

    is_costly = False  # What is costly in it are its parts, and those use the cache themselves.

    def __init__(self, parts: Mapping[str, tuple[Encoder, EncoderSettings, float]], cache: Path | None) -> None:
        self.parts = dict(parts)
        self.cache = cache
        self.maps: dict[str, Whitening] = {}
        self._fitted: dict[str, int] | None = None
        self._fitted_raw: dict[str, np.ndarray] = {}

    @property
    def embedding_size(self) -> int:
        """The sum of the parts' sizes."""
        return sum(each.size for each in self.maps.values())

    @property
    def identity(self) -> str:
        """SHA-256 over the parts' identities, weights and what was learned of their vectors."""
        facts = "".join(f"{name} {encoder.identity} {weight} " for name, (encoder, _, weight) in self.parts.items())
        return identity_of(f"concat {facts}", self._maps_state())

    def fit(self, texts: Sequence[str]) -> None:
        """Fit the parts and learn what centres them. Their vectors are kept: the same texts are encoded next."""
        distinct = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        rows_T = np.fromiter((distinct[str(text)] for text in texts), np.int64, len(texts))
        for name, (encoder, settings, _) in self.parts.items():
            encoder.fit(texts)
            raw = self._fitted_raw[name] = encode_cached(encoder, list(distinct), self.cache)
            self.maps[name] = fit_whitening(settings, raw[rows_T], _said(texts, raw[rows_T]))
        self._fitted = distinct

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        row = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        rows_T = np.fromiter((row[str(text)] for text in texts), np.int64, len(texts))
        blocks = []
        for name, (encoder, _, weight) in self.parts.items():
            if entity == "item":
                raw = self._fitted_raw[name] if row == self._fitted else encode_cached(encoder, list(row), self.cache)
            else:
                raw = encoder.encode(list(row), entity)
            said_T1 = _said(texts, raw[rows_T])[:, None]
            finished_TK = np.where(said_T1, self.maps[name].apply(raw[rows_T]), 0)
            norms_T1 = np.linalg.norm(finished_TK, axis=1, keepdims=True)
            blocks.append(weight * finished_TK / np.maximum(norms_T1, 1e-9))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learned of the parts' vectors and the parts' states, under their names."""
        states = {f"{name}.state.{key}": value for name, (encoder, *_) in self.parts.items()
                  for key, value in encoder.state().items()}
        return self._maps_state() | states

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self._fitted = None
        for name, (encoder, *_) in self.parts.items():
            self.maps[name] = Whitening.read(TensorReader(_below(state, f"{name}.map.")))
            encoder.load(_below(state, f"{name}.state."))
            if len(self.maps[name].mean_D) != encoder.embedding_size:
                raise ArtifactError(f"encoder=concat: the vectors of part {name} have {encoder.embedding_size} "
                                    f"dimensions and its map is for {len(self.maps[name].mean_D)}; train the model "
                                    f"again")

    def _maps_state(self) -> dict[str, np.ndarray]:
        return {f"{name}.map.{key}": value for name, each in self.maps.items() for key, value in each.state().items()}


def _below(state: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _said(texts: Sequence[str], raw_TD: np.ndarray) -> np.ndarray:
    """Return bool (T,): whether a text says anything, to this encoder too."""
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts)) & raw_TD.any(axis=1)
