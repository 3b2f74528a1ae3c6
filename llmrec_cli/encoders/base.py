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
    """Makes vectors of texts, alone or learned from the texts of the items in training.

    After `fit` or `load` an encoder is fixed. Transformers are trained by other means (`text_encoder.TextEncoder`). The
    class methods are about an encoder that is not opened. Here they suit one without files of its own.
    """

    is_costly: ClassVar[bool] = False
    """True if encoding a text costs so much more than reading its vector that vectors are kept across runs."""
    learns: ClassVar[bool] = True
    """True if `fit` may learn something. The vectors of one fit are then not those of another."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @classmethod
    def open(cls, settings: S, device: "torch.device", cache: Path | None) -> "Encoder[S]":
        """Return the encoder, frozen; `cache` is where parts of it may keep vectors across runs."""
        return cls(settings)

    @classmethod
    def estimate_memory(cls, settings: S, texts: Sequence[str]) -> int:
        """Return the bytes that opening, learning and encoding take at their peak, beside the vectors."""
        return 0

    @classmethod
    def bundle(cls, settings: S, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Copy the encoder's files into a model folder, as `portable.bundle` says."""
        return settings, {}

    @classmethod
    def resolved(cls, settings: S, folder: Path) -> EncoderSettings:
        """Return the settings of a saved model with the paths of files in its folder, as `portable.resolved` says."""
        return settings

    @classmethod
    def read(cls, settings: S, tensors: "TensorReader") -> dict[str, np.ndarray]:
        """Return what `state` returned, checked without opening the encoder's files; `load` takes it.

        Here only dtypes are checked, so `load` has to refuse what does not fit.
        """
        return tensors.take_all()

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """Length of a vector; known once the encoder is fitted or loaded."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A SHA-256 that changes whenever the vectors of a text would; known once the encoder is fitted or loaded."""

    @abstractmethod
    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D): of items, or of what users say in words with `entity` query.

        The two differ where a transformer is given prompts. A text's vector is the same, up to the last bits of a
        transformer's, whatever texts come with it.
        """

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the texts of the items in training; an encoder that was pretrained learns nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was learned, by name; nothing where all is in the encoder's own files."""
        return {}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned of an encoder with the same settings."""

    @property
    def room(self) -> int | None:
        """Number of tokens of a text that are read; None for all of it."""
        return None

    def pieces(self, text: str) -> list[str]:
        """Return a long text in pieces that are read whole, in order; none of a text without any token."""
        return [text] if text.strip() else []


def encoder_class(settings: EncoderSettings) -> type[Encoder[Any]]:
    """Return the class of the encoder that `settings` name."""
    found: type[Encoder[Any]] = implementation_of(settings)
    return found


def open_encoder(settings: EncoderSettings, device: "torch.device", cache: Path | None = None) -> Encoder[Any]:
    """Return the encoder that `settings` name, frozen; `fit` or `load` comes next.

    A folder `cache` is where the parts of encoder=concat keep their vectors across runs; all others leave that to
    `vector_cache.encode_cached`. What is trained is loaded by `text_encoder.load_encoder` instead.
    """
    return encoder_class(settings).open(settings, device, cache)


def identity_of(facts: str, state: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over a sentence of facts and arrays by name."""
    whole = hashlib.sha256(facts.encode())
    for name, array in sorted(state.items()):
        whole.update(f"\n{name} {array.dtype} {array.shape} ".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()
