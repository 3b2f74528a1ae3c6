"""Static vectors: the mean of a transformer's token embeddings, without its layers.

Shapes: T texts, V tokens of the vocabulary, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.tensors import FLOAT, TensorReader
from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.batching import tokenize
from llmrec_cli.encoders.export import copy_encoder, identities, inside
from llmrec_cli.encoders.hugging_face import check_tokenizer, load_model, load_tokenizer
from llmrec_cli.encoders.locate import locate
from llmrec_cli.encoders.sources import IMPORTED_BYTES
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.encoder import EncoderSettings, HuggingFaceSettings, MiniLMSettings, StaticSettings

_STATIC_BYTES = 95 * 2**20
"""Bytes of an opened static encoder: the table of token vectors and the tokenizer (benchmarks/memory.py)."""


class StaticEncoder(Encoder[StaticSettings]):
    """The weighted mean of a text's token embeddings; zeros for a text without tokens.

    A token's weight is its inverse document frequency among the items, log((1 + texts) / (1 + texts with it)) + 1, or 1
    without weighting. Arora et al. 2017 use a / (a + frequency) to the same end. Special tokens are left out, since
    every text has them.
    """

    def __init__(self, settings: StaticSettings) -> None:
        super().__init__(settings)
        source = locate(HuggingFaceSettings(path=settings.path) if settings.path else MiniLMSettings())
        model = load_model(source.files)
        self.tokenizer = load_tokenizer(source.files)
        check_tokenizer(source.folder, self.tokenizer, model.config, 1)
        self.base_identity = source.identity
        self.embeddings_VD: np.ndarray = model.get_input_embeddings().weight.detach().numpy().copy()
        if not np.isfinite(self.embeddings_VD).all():
            raise ArtifactError(f"{source.folder}: the token embeddings are not finite; copy the whole model folder "
                                f"again")
        self.weights_V: np.ndarray = np.ones(len(self.embeddings_VD), np.float32)

    @classmethod
    def estimate_memory(cls, settings: StaticSettings, texts: Sequence[str]) -> int:
        """Return the bytes of an opened static encoder."""
        return _STATIC_BYTES

    @classmethod
    def imports_memory(cls, settings: StaticSettings) -> int:
        """Return the bytes of the modules of transformers and torch."""
        return IMPORTED_BYTES

    @classmethod
    def bundle(cls, settings: StaticSettings, folder: Path | None) -> tuple[EncoderSettings, dict[str, str]]:
        """Copy the folder of the transformer; MiniLM stays where it is."""
        if not settings.path:
            return settings, identities(MiniLMSettings())
        place, identity = copy_encoder(HuggingFaceSettings(path=settings.path), folder)
        return replace(settings, path=place), {place: identity}

    @classmethod
    def resolved(cls, settings: StaticSettings, folder: Path) -> EncoderSettings:
        """Return the settings with the path of the copy in the model folder."""
        return replace(settings, path=inside(folder, settings.path)) if settings.path else settings

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.embeddings_VD.shape[1]

    @property
    def identity(self) -> str:
        """SHA-256 over the embeddings' model, the weights and the maximum number of tokens."""
        return identity_of(f"static {self.base_identity} {self.settings.max_length}", self.state())

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the inverse document frequency of each token."""
        if self.settings.weighting == "idf":
            counts_TV = self._counts(texts)
            frequency_V = np.bincount(counts_TV.indices, minlength=len(self.weights_V))
            self.weights_V = (np.log((1 + len(texts)) / (1 + frequency_V)) + 1).astype(np.float32)

    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D)."""
        counts_TV = self._counts(texts)
        row = np.repeat(np.arange(len(texts)), np.diff(counts_TV.indptr))
        weights = counts_TV.data * self.weights_V[counts_TV.indices]
        totals_T = np.bincount(row, weights, minlength=len(texts))
        weights = (weights / totals_T[row]).astype(np.float32)
        shares_TV = sp.csr_array((weights, counts_TV.indices, counts_TV.indptr), shape=counts_TV.shape)
        return np.asarray(shares_TV @ self.embeddings_VD, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the learned token weights; empty without idf weighting."""
        return {"weights": self.weights_V} if self.settings.weighting == "idf" else {}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore `state`."""
        if self.settings.weighting == "idf":
            if state["weights"].shape != self.weights_V.shape:
                raise ArtifactError(f"encoder=static: weights of {len(state['weights'])} tokens do not fit embeddings "
                                    f"of {len(self.weights_V)}; use the model that the weights were learned with")
            self.weights_V = state["weights"]

    @classmethod
    def read(cls, settings: StaticSettings, tensors: TensorReader) -> dict[str, np.ndarray]:
        """Return the arrays of `state` for `load`, each checked, without opening the embeddings."""
        return {"weights": tensors.take("weights", FLOAT, (None,), low=0)} if settings.weighting == "idf" else {}

    def _counts(self, texts: Sequence[str]) -> sp.csr_array:
        """Return the token counts of each text, CSR float32 (T, V)."""
        tokens = tokenize(self.tokenizer, texts, self.settings.max_length, special=False)
        indptr = np.cumsum([0, *map(len, tokens)])
        indices = np.concatenate([*tokens, np.zeros(0, np.int64)])
        counts = sp.csr_array((np.ones(len(indices), np.float32), indices, indptr),
                              shape=(len(texts), len(self.embeddings_VD)))
        counts.sum_duplicates()
        return counts
