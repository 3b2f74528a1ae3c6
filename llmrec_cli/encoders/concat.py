"""Concatenation of several encoders.

Shapes: T texts, D dimensions of a part.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.base import Encoder, encoder_class, identity_of, open_encoder
from llmrec_cli.encoders.export import bundle, resolved
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import Whitening, fit_whitening
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.encoder import ConcatSettings, EncoderSettings, PartSettings


class ConcatEncoder(Encoder[ConcatSettings]):
    """Concatenated vectors of several encoders, each centred, optionally whitened, of length 1, times its weight.

    The cosine of two texts is therefore the mean of the parts' cosines, weighted by the squared weights. A part without
    information about a text has zeros: lsa for a text without known words, and every part for an empty text.
    """

    def __init__(self, settings: ConcatSettings, device: torch.device, cache: Path | None) -> None:
        super().__init__(settings)
        # Costly parts use the cache themselves.
        self.parts = {name: (open_encoder(part.encoder, device), part.encoder, part.weight)
                      for name, part in _used_parts(settings)}
        self.cache = cache
        self.maps: dict[str, Whitening] = {}
        self._fitted: dict[str, int] | None = None
        self._fitted_raw: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, settings: ConcatSettings, device: torch.device, cache: Path | None) -> Encoder[ConcatSettings]:
        """Return the encoder with all its parts opened."""
        return cls(settings, device, cache)

    @classmethod
    def estimate_memory(cls, settings: ConcatSettings, texts: Sequence[str]) -> int:
        """Return the bytes of all parts and of their vectors side by side."""
        parts = [part.encoder for _, part in _used_parts(settings)]
        return (sum(encoder_class(part).estimate_memory(part, texts) for part in parts)
                + 8 * len(texts) * settings.vector_size())

    @classmethod
    def buffer_memory(cls, settings: ConcatSettings) -> int:
        """Return the buffers of all parts, as `estimate_memory` counts them."""
        return sum(encoder_class(part.encoder).buffer_memory(part.encoder) for _, part in _used_parts(settings))

    @classmethod
    def imports_memory(cls, settings: ConcatSettings) -> int:
        """Return the most bytes of modules of any part, since all transformers import the same."""
        parts = [part.encoder for _, part in _used_parts(settings)]
        return max((encoder_class(part).imports_memory(part) for part in parts), default=0)

    @classmethod
    def bundle(cls, settings: ConcatSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Copy the files of all parts."""
        moved = {name: (part, *bundle(part.encoder, folder)) for name, part in settings.parts.items()}
        parts = {name: replace(part, encoder=encoder) for name, (part, encoder, _) in moved.items()}
        return replace(settings, parts=parts), {key: value for *_, hashes in moved.values()
                                                for key, value in hashes.items()}

    @classmethod
    def resolved(cls, settings: ConcatSettings, folder: Path) -> EncoderSettings:
        """Return the settings with the parts' paths in the model folder."""
        return replace(settings, parts={name: replace(part, encoder=resolved(part.encoder, folder))
                                        for name, part in settings.parts.items()})

    @classmethod
    def read(cls, settings: ConcatSettings, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return the arrays of `state`, each checked."""
        state = dict[str, np.ndarray]()
        for name, part in _used_parts(settings):
            whitening = Whitening.read(tensors.inside(f"{name}.map.")).state()
            learned = encoder_class(part.encoder).read(part.encoder, tensors.inside(f"{name}.state."))
            state |= {f"{name}.map.{key}": array for key, array in whitening.items()}
            state |= {f"{name}.state.{key}": array for key, array in learned.items()}
        return state

    @property
    def embedding_size(self) -> int:
        """The sum of the parts' sizes."""
        return sum(each.size for each in self.maps.values())

    @property
    def identity(self) -> str:
        """SHA-256 over the parts' identities, weights and whitening maps."""
        facts = "".join(f"{name} {encoder.identity} {weight} " for name, (encoder, _, weight) in self.parts.items())
        return identity_of(f"concat {facts}", self._maps_state())

    def fit(self, texts: Sequence[str]) -> None:
        """Fit the parts and their centring; their vectors are stored, since the same texts are encoded next."""
        distinct = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        rows_T = np.fromiter((distinct[str(text)] for text in texts), np.int64, len(texts))
        for name, (encoder, settings, _) in self.parts.items():
            encoder.fit(texts)
            raw = self._fitted_raw[name] = encode_cached(encoder, list(distinct), self.cache)
            self.maps[name] = fit_whitening(settings, raw[rows_T], _has_content(texts, raw[rows_T]))
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
            has_content_T1 = _has_content(texts, raw[rows_T])[:, None]
            finished_TK = np.where(has_content_T1, self.maps[name].apply(raw[rows_T]), 0)
            norms_T1 = np.linalg.norm(finished_TK, axis=1, keepdims=True)
            blocks.append(weight * finished_TK / np.maximum(norms_T1, 1e-9))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the parts' whitening maps and states, under the parts' names."""
        states = {f"{name}.state.{key}": value for name, (encoder, *_) in self.parts.items()
                  for key, value in encoder.state().items()}
        return self._maps_state() | states

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore `state`."""
        self._fitted = None
        for name, (encoder, *_) in self.parts.items():
            self.maps[name] = Whitening.read(TensorReader(_strip_prefix(state, f"{name}.map.")))
            encoder.load(_strip_prefix(state, f"{name}.state."))
            if len(self.maps[name].mean_D) != encoder.embedding_size:
                raise ArtifactError(f"encoder=concat: the vectors of part {name} have {encoder.embedding_size} "
                                    f"dimensions, but its map has {len(self.maps[name].mean_D)}; train the model "
                                    f"again")

    @property
    def room(self) -> int | None:
        """The smallest token limit of the parts."""
        return min((room for encoder, *_ in self.parts.values() if (room := encoder.room) is not None), default=None)

    def pieces(self, text: str) -> list[str]:
        """Return the pieces for the part with the smallest limit."""
        room = self.room
        limited = [encoder for encoder, *_ in self.parts.values() if encoder.room is not None and encoder.room == room]
        return limited[0].pieces(text) if limited else super().pieces(text)

    def _maps_state(self) -> dict[str, np.ndarray]:
        return {f"{name}.map.{key}": value for name, each in self.maps.items() for key, value in each.state().items()}


def _used_parts(settings: ConcatSettings) -> list[tuple[str, PartSettings]]:
    """Return the parts with a positive weight, sorted by name."""
    return [(name, part) for name, part in sorted(settings.parts.items()) if part.weight > 0]


def _strip_prefix(state: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _has_content(texts: Sequence[str], raw_TD: np.ndarray) -> np.ndarray:
    """Return bool (T,): True for texts that are not empty and have a non-zero vector."""
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts)) & raw_TD.any(axis=1)
