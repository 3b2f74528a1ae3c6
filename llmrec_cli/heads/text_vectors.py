"""Item texts as vectors, and texts of queries compared with them.

Shapes: N items, T texts, D dimensions.
"""

import numpy as np
import torch

from llmrec_cli.encoders.text_encoder import TextEncoder, load_encoder
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.peft import Frozen


class TextVectors:
    """Centred and normalised vectors of item texts from a frozen encoder.

    Centring removes what all texts of a catalogue have in common and, with the norm, gained most of what text brings
    (docs/experiments.md). An empty text has zeros: two items of which nothing is said are not alike. The
    encoder is loaded when a text has to be encoded, so a saved model scores without it.
    """

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.mean_D: np.ndarray = np.zeros(0, np.float32)
        self.items_ND: np.ndarray = np.zeros((0, 0), np.float32)
        self._encoder: TextEncoder | None = None

    def fit(self, texts: np.ndarray, memo: dict[str, np.ndarray]) -> None:
        """Encode the item texts (N,). `memo` keeps raw vectors between the fits of one run."""
        key = f"{self.settings}"
        if key not in memo:
            memo[key] = self.encoder.encode(list(texts))
        said = _said(texts)
        self.mean_D = memo[key][said].mean(axis=0) if said.any() else np.zeros(memo[key].shape[1], np.float32)
        self.items_ND = self._finish(memo[key], said)

    def add(self, texts: np.ndarray) -> np.ndarray:
        """Append items by their texts (T,) and return their vectors (T, D)."""
        vectors_TD = self.vectors(texts)
        self.items_ND = np.concatenate([self.items_ND, vectors_TD])
        return vectors_TD

    def vectors(self, texts: np.ndarray) -> np.ndarray:
        """Return the vectors of texts (T, D)."""
        return self._finish(self.encoder.encode(list(texts)), _said(texts))

    def similarities(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of each text with each item (T, N), -1 to 1."""
        return torch.from_numpy(self.vectors(texts)) @ torch.from_numpy(self.items_ND).T

    @property
    def encoder(self) -> TextEncoder:
        """The encoder, loaded at first use."""
        if self._encoder is None:
            self._encoder = load_encoder(self.settings, Frozen(), self.device)
        return self._encoder

    def _finish(self, raw_TD: np.ndarray, said_T: np.ndarray) -> np.ndarray:
        centred_TD = np.where(said_T[:, None], raw_TD - self.mean_D, 0)
        norms_T1 = np.linalg.norm(centred_TD, axis=1, keepdims=True)
        return (centred_TD / np.maximum(norms_T1, 1e-9)).astype(np.float32)


def _said(texts: np.ndarray) -> np.ndarray:
    """Return bool (T,): whether a text says anything."""
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))
