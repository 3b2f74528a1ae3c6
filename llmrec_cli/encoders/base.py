"""The interface of encoders: texts in, vectors out.

Shapes: D = the encoder's embedding_size.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.encoder import EncoderSettings

if TYPE_CHECKING:
    import torch

    from llmrec_cli.data.tensors import TensorReader

S = TypeVar("S", bound=EncoderSettings)


class Encoder(ABC, Generic[S]):
    """Maps texts to vectors; may learn from the texts of the training items.

    After `fit` or `load` an encoder is fixed. Transformers are trained by other means (`text_encoder.TextEncoder`). The
    class methods work without opening the encoder; the defaults here are for encoders without files.
    """

    is_costly: ClassVar[bool] = False
    """True if encoding a text is so much slower than reading its vector that vectors are cached across runs."""
    learns: ClassVar[bool] = True
    """True if `fit` may learn something; vectors of different fits then differ."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @classmethod
    def open(cls, settings: S, device: "torch.device", cache: Path | None) -> "Encoder[S]":
        """Return the frozen encoder; its parts may cache vectors in the folder `cache`."""
        return cls(settings)

    @classmethod
    def estimate_memory(cls, settings: S, texts: Sequence[str]) -> int:
        """Return the peak bytes of opening, learning and encoding, without the vectors."""
        return 0

    @classmethod
    def buffer_memory(cls, settings: S) -> int:
        """Return the bytes of `estimate_memory` that are free again after encoding, for the next encoder to use."""
        return 0

    @classmethod
    def imports_memory(cls, settings: S) -> int:
        """Return the bytes of the modules that opening the encoder imports, once per process; not in `estimate_memory`.
        """
        return 0

    @classmethod
    def bundle(cls, settings: S, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Copy the encoder's files into a model folder; see `export.bundle`."""
        return settings, {}

    @classmethod
    def resolved(cls, settings: S, folder: Path) -> EncoderSettings:
        """Return the settings of a saved model with paths inside its folder; see `export.resolved`."""
        return settings

    @classmethod
    def read(cls, settings: S, tensors: "TensorReader") -> dict[str, np.ndarray]:
        """Return the arrays of `state` for `load`, checked without opening the encoder's files.

        Here only dtypes are checked; `load` has to refuse arrays of the wrong shape.
        """
        return tensors.take_all()

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """Length of a vector; known once the encoder is fitted or loaded."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """SHA-256 that changes whenever a text's vector would; known once the encoder is fitted or loaded."""

    @abstractmethod
    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D) of item texts, or of users' text queries with `entity` query.

        The two differ if a transformer has prompts. A text's vector does not depend on the other texts, except for the
        last bits with a transformer.
        """

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the training items; pretrained encoders learn nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the learned arrays by name; empty if everything is in the encoder's own files."""
        return {}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore the `state` of an encoder with the same settings."""

    @property
    def room(self) -> int | None:
        """Maximum number of tokens of a text that are read; None for no limit."""
        return None

    def pieces(self, text: str) -> list[str]:
        """Split a long text into pieces within the token limit, in order; empty for a text without tokens."""
        return [text] if text.strip() else []


def encoder_class(settings: EncoderSettings) -> type[Encoder[Any]]:
    """Return the class of the encoder that `settings` name."""
    encoder: type[Encoder[Any]] = implementation_of(settings)
    return encoder


def open_encoder(settings: EncoderSettings, device: "torch.device", cache: Path | None = None) -> Encoder[Any]:
    """Return the frozen encoder that `settings` name; call `fit` or `load` next.

    The parts of encoder=concat cache their vectors in the folder `cache`; for other encoders
    `vector_cache.encode_cached` does so. Encoders to be trained are loaded by `sources.load_encoder` instead.
    """
    return encoder_class(settings).open(settings, device, cache)


def identity_of(facts: str, state: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of a string of facts and named arrays."""
    whole = hashlib.sha256(facts.encode())
    for name, array in sorted(state.items()):
        whole.update(f"\n{name} {array.dtype} {array.shape} ".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()
