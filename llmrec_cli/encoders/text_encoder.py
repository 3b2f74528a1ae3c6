"""Text encoder: a Hugging Face transformer with pooling, split in two parts.

`lower` is everything below the lowest trained layer, `upper` the trained rest with pooling. While `lower` is frozen its
output can be computed once and cached (`frozen_layer_cache`), which makes fine-tuning on a CPU feasible. Vectors are
not normalised: for all-MiniLM-L6-v2 they are those of sentence-transformers before its `Normalize`.

Shapes: R texts of a batch, T tokens of the longest of them, D = `embedding_size`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmrec_cli.encoders.base import Encoder, identity_of
from llmrec_cli.encoders.batching import (
    PackedTokens,
    buckets,
    chunks,
    padding_id,
    timed_buckets,
    tokenize,
    tokenize_pairs,
)
from llmrec_cli.encoders.hugging_face import is_decoder
from llmrec_cli.encoders.locate import Source
from llmrec_cli.encoders.modules import Modules, Training
from llmrec_cli.encoders.peft import adapt
from llmrec_cli.encoders.pooling import Pooler
from llmrec_cli.encoders.saving import save_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.peft import PeftSettings

STORED_BUCKETS = 24
"""Maximum number of buckets, times trained layers, whose activations are stored; at 2,048 tokens and MiniLM's width
about 1.3 GB."""


T = TypeVar("T", bound=TransformerSettings)


class TextEncoder(nn.Module, Encoder[T]):
    """A transformer with its tokenizer and the pooling of its last hidden states.

    Attributes
    ----------
    hidden_size : length of a hidden state; also of a vector, unless there are linear maps
    prompts : text put before a text of each kind: item, query
    source : the files it was loaded from; None for random initial weights
    base_identity : SHA-256 of the base weights, without later training
    lower_is_frozen : True if the output of `lower` never changes, so that it can be cached
    """

    is_costly = True
    learns = False

    def __init__(self, model: Any, tokenizer: Any, settings: T, peft: PeftSettings,
                 source: Source | None = None, seed: int = 0) -> None:
        super().__init__()
        self.hidden_size: int = model.config.hidden_size
        self.source = source
        self.base_identity = "" if source is None else source.identity
        self.lower_is_frozen = not peft.trains_all
        self.settings = settings
        self.tokenizer = tokenizer
        folder_modules = Modules(pooling="") if source is None else source.modules
        modules = folder_modules.with_settings(settings, is_decoder(model.config))
        self.prompts = dict(modules.prompts)
        self.pooler = Pooler(modules, self.hidden_size)
        adapted = adapt(model, peft, seed)
        self.cut, self.model, self.budget = adapted.cut, adapted.model, adapted.budget
        _mark_trained(self.pooler, peft, learned=modules.query_D is not None)
        self.train(False)

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.pooler.size

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    @property
    def padding_id(self) -> int:
        """The padding token; 0 if the tokenizer has none, since padding is masked."""
        return padding_id(self.tokenizer)

    @property
    def identity(self) -> str:
        """SHA-256 over everything that determines a vector: base weights, trained weights, pooling, tokens, prompt."""
        facts = (f"{self.base_identity} {self.pooler.pooling} {getattr(self.model.config, 'is_causal', True)} "
                 f"{self.settings.max_length} {self.prompts.get('item')}")
        return identity_of(facts, self.trained_state())

    def train(self, mode: bool = True) -> "TextEncoder":
        """Switch dropout on or off in trained layers; frozen layers never have dropout, since their output is cached.
        """
        super().train(mode)
        if self.lower_is_frozen:
            for module in self.cut.below():
                module.eval()
        return self

    def tokenize(self, texts: Sequence[str], entity: str = "item") -> list[np.ndarray]:
        """Return int64 token ids of each text after the prompt of its `entity` (item | query); see `batching`."""
        return tokenize(self.tokenizer, texts, self.settings.max_length, self.prompts.get(entity, ""))

    def tokenize_pairs(self, first: Sequence[str], second: Sequence[str]) -> list[np.ndarray]:
        """Return int64 token ids of pairs of texts as the tokenizer joins them, without segment ids (`batching`)."""
        return tokenize_pairs(self.tokenizer, first, second, self.settings.max_length)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D), without gradients; each distinct text is encoded once.

        `entity` (item | query) selects the prompt.
        """
        distinct = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        vectors = np.empty((len(distinct), self.embedding_size), np.float32)
        if distinct:
            packed = PackedTokens(self.tokenize(list(distinct), entity), self.padding_id, self.device)
            mode = self.training
            self.train(False)
            for rows in timed_buckets(packed.ragged.host_lengths, self.settings.batch_tokens, "encoding"):
                ids_RT, mask_RT = packed.batch(torch.from_numpy(rows).to(self.device))
                vectors[rows] = self(ids_RT, mask_RT).float().cpu().numpy()
            self.train(mode)
        return vectors[np.fromiter((distinct[str(text)] for text in texts), np.int64, len(texts))]

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the vectors of a batch (R, D); mask_RT is True at tokens and False at padding."""
        return self.upper(self.lower(ids_RT, mask_RT), mask_RT)

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the input of the lowest trained layer (R, T, D); without gradients when frozen."""
        if not self.lower_is_frozen:
            return self.cut.lower(ids_RT, mask_RT)
        with torch.no_grad():
            return self.cut.lower(ids_RT, mask_RT)

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the vectors (R, D) from the output of `lower`.

        A large batch runs in buckets of texts of similar length, which need less padding: film titles in a step of
        1,024 are two thirds padding. Buckets that fit into the cache are faster still. If there are more than
        STORED_BUCKETS buckets times trained layers, activations are not stored but recomputed in the backward pass, so
        that a step can cover a whole catalogue: gradient caching (Gao et al. 2021) by autograd's checkpointing.
        """
        if mask_RT.numel() <= self.settings.batch_tokens:
            return self._upper(hidden_RTD, mask_RT)
        lengths = mask_RT.sum(1).cpu().numpy()
        parts = list(buckets(lengths, self.settings.batch_tokens))
        # Activations of a few buckets fit into memory; those of many buckets are recomputed in the backward pass.
        again = torch.is_grad_enabled() and len(parts) * self.cut.depth > STORED_BUCKETS
        vectors = []
        for rows in parts:
            part_R, longest = torch.from_numpy(rows).to(mask_RT.device), int(lengths[rows[0]])
            hidden, mask = hidden_RTD[part_R, :longest], mask_RT[part_R, :longest]
            vectors.append(checkpoint(self._upper, hidden, mask, use_reentrant=False) if again
                           else self._upper(hidden, mask))
        back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(mask_RT.device)
        return torch.cat(vectors)[back]

    def _upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return self.pooler(self.cut.upper(hidden_RTD, mask_RT), mask_RT)

    def trained_state(self) -> dict[str, np.ndarray]:
        """Return the trained parameters by name: adapters, top layers, or all; empty if frozen."""
        return {name: parameter.detach().cpu().numpy().copy() for name, parameter in self._trained_parameters().items()}

    @torch.no_grad()
    def load_trained_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore `trained_state`; raise ArtifactError with the names that do not fit."""
        own = self._trained_parameters()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        other_shapes = sorted(f"{n} {state[n].shape} for {tuple(own[n].shape)}" for n in own.keys() & state.keys()
                              if state[n].shape != tuple(own[n].shape))
        if missing or unknown or other_shapes:
            raise ArtifactError(f"the trained weights do not fit the encoder; missing: {missing or 'none'}; unknown: "
                                f"{unknown or 'none'}; of another shape: {other_shapes or 'none'}; use the encoder and "
                                f"the peft settings that they were trained with")
        for name, parameter in own.items():
            parameter.copy_(torch.from_numpy(state[name]))

    def _trained_parameters(self) -> dict[str, nn.Parameter]:
        named = [*self.model.named_parameters(), *self.pooler.named_parameters(prefix="pooler")]
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def state(self) -> dict[str, np.ndarray]:
        """Return `trained_state`."""
        return self.trained_state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Restore `state`."""
        self.load_trained_state(state)

    @property
    def room(self) -> int:
        """Maximum number of tokens of a text, without prompt and special tokens."""
        overhead = len(self.tokenizer(self.prompts.get("item", ""), add_special_tokens=True)["input_ids"])
        return max(1, self.settings.max_length - overhead)

    def pieces(self, text: str) -> list[str]:
        """Split a text into pieces of at most `room` tokens, between words."""
        return chunks(self.tokenizer, text, self.room)

    def save_pretrained(self, folder: Path, training: Training | None = None) -> None:
        """Write a folder that gives the same vectors with AutoModel and sentence-transformers; adapters are merged.

        The model card describes `training`.
        """
        save_encoder(folder, self.model, self.tokenizer, self.pooler.modules_now(self.prompts),
                     self.settings.max_length, self.source, training or Training())


def _mark_trained(pooler: Pooler, peft: PeftSettings, learned: bool) -> None:
    """Mark the query of attention pooling as trained if any layers are, and linear maps if all parameters are."""
    pooler.requires_grad_(peft.trains_all)
    if pooler.pooling == "attention":
        pooler.query.requires_grad_(peft.trains_layers)
        if not peft.trains_layers and not learned:
            raise ConfigError(f"encoder.pooling=attention: its query has to be learned, but with peft={peft.kind} "
                              f"nothing is trained; choose peft=lora, or encoder.pooling=mean")
