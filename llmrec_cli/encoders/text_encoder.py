"""Texts in, vectors out: a Hugging Face transformer with pooling, in two parts.

`lower` is everything below the lowest trained layer, `upper` the trained rest with pooling. While `lower` is frozen its
output can be computed once and kept (`text_bank.TextBank`), which is what makes fine-tuning on a CPU bearable. Vectors
are not normalised: for all-MiniLM-L6-v2 they are sentence-transformers' before its `Normalize`.

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
from llmrec_cli.encoders.batching import PackedTokens, buckets, chunks, padding_id, tokenize, tokenize_pairs
from llmrec_cli.encoders.hugging_face import is_decoder
from llmrec_cli.encoders.locate import Source
from llmrec_cli.encoders.modules import Modules, Training
from llmrec_cli.encoders.peft import adapt
from llmrec_cli.encoders.pooling import Pooler
from llmrec_cli.encoders.saving import save_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.peft import PeftSettings

KEPT_BUCKETS = 24
"""Of one trained layer each; at 2,048 tokens and MiniLM's width about 1.3 GB."""


T = TypeVar("T", bound=TransformerSettings)


class TextEncoder(nn.Module, Encoder[T]):
    """A transformer, its tokenizer, and what makes one vector of a text's last hidden states.

    Attributes
    ----------
    hidden_size : length of a hidden state; that of a vector too, unless a linear map comes last
    prompts : what is put before a text, by its entity: item, query
    source : where it was loaded from; None of one that began at random
    base_identity : SHA-256 that changes with the base weights; what was trained since is not in it
    lower_is_frozen : whether `lower` gives the same for ever, so that it may be kept
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
        modules = (Modules(pooling="") if source is None else source.modules).chosen(settings, is_decoder(model.config))
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
        """The token that fills the rest of a row; masked, so any will do where the tokenizer has none."""
        return padding_id(self.tokenizer)

    @property
    def identity(self) -> str:
        """SHA-256 over all that decides on a text's vector: base weights, what was trained since, pooling, tokens."""
        facts = (f"{self.base_identity} {self.pooler.pooling} {getattr(self.model.config, 'is_causal', True)} "
                 f"{self.settings.max_length} {self.prompts.get('item')}")
        return identity_of(facts, self.trained_state())

    def train(self, mode: bool = True) -> "TextEncoder":
        """Switch dropout on or off in what is trained; frozen layers never have any, since their output is kept."""
        super().train(mode)
        if self.lower_is_frozen:
            for module in self.cut.below():
                module.eval()
        return self

    def tokenize(self, texts: Sequence[str], entity: str = "item") -> list[np.ndarray]:
        """Return int64 token ids of each text, the prompt of its `entity` (item | query) before it (`tokens`)."""
        return tokenize(self.tokenizer, texts, self.settings.max_length, self.prompts.get(entity, ""))

    def tokenize_pairs(self, first: Sequence[str], second: Sequence[str]) -> list[np.ndarray]:
        """Return int64 token ids of pairs of texts as the tokenizer joins them, without segment ids (`tokens`)."""
        return tokenize_pairs(self.tokenizer, first, second, self.settings.max_length)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], entity: str = "item") -> np.ndarray:
        """Return float32 vectors (num_texts, D), without gradients; each distinct text is encoded once.

        `entity` (item | query) says whose prompt is put before the texts.
        """
        distinct = {text: n for n, text in enumerate(dict.fromkeys(map(str, texts)))}
        vectors = np.empty((len(distinct), self.embedding_size), np.float32)
        if distinct:
            packed = PackedTokens(self.tokenize(list(distinct), entity), self.padding_id, self.device)
            mode = self.training
            self.train(False)
            for rows in buckets(packed.ragged.host_lengths, self.settings.batch_tokens):
                ids_RT, mask_RT = packed.batch(torch.from_numpy(rows).to(self.device))
                vectors[rows] = self(ids_RT, mask_RT).float().cpu().numpy()
            self.train(mode)
        return vectors[np.fromiter((distinct[str(text)] for text in texts), np.int64, len(texts))]

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the vectors of a batch (R, D), the parts in a row; mask_RT is true where there is a token."""
        return self.upper(self.lower(ids_RT, mask_RT), mask_RT)

    def lower(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the input of the lowest trained layer (R, T, D); without gradients when frozen."""
        if not self.lower_is_frozen:
            return self.cut.lower(ids_RT, mask_RT)
        with torch.no_grad():
            return self.cut.lower(ids_RT, mask_RT)

    def upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        """Return the vectors (R, D) of what `lower` returned.

        A large batch is run in buckets of texts of similar length, without the padding that only longer texts need:
        film titles in a step of 1,024 are two thirds padding, and buckets that fit into the cache run faster still.
        More than KEPT_BUCKETS of them, times the trained layers, keep nothing for the backward pass and are run again
        there, so that a step can see a whole catalogue: gradient caching (Gao et al. 2021), with autograd's own means.
        """
        if mask_RT.numel() <= self.settings.batch_tokens:
            return self._upper(hidden_RTD, mask_RT)
        lengths = mask_RT.sum(1).cpu().numpy()
        parts = list(buckets(lengths, self.settings.batch_tokens))
        # What a few buckets keep for the backward pass fits; of many it would not, so they are run again there.
        again = torch.is_grad_enabled() and len(parts) * self.cut.depth > KEPT_BUCKETS
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
        """Return what is trained, by name: adapters, top layers, or everything; nothing when frozen."""
        return {name: parameter.detach().cpu().numpy().copy() for name, parameter in self._trained().items()}

    @torch.no_grad()
    def load_trained_state(self, state: dict[str, np.ndarray]) -> None:
        """Take what `trained_state` returned; raise ArtifactError naming the keys that do not fit."""
        own = self._trained()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        other_shapes = sorted(f"{n} {state[n].shape} for {tuple(own[n].shape)}" for n in own.keys() & state.keys()
                              if state[n].shape != tuple(own[n].shape))
        if missing or unknown or other_shapes:
            raise ArtifactError(f"the trained weights do not fit the encoder; missing: {missing or 'none'}; unknown: "
                                f"{unknown or 'none'}; of another shape: {other_shapes or 'none'}; load them with the "
                                f"encoder and the peft settings they were trained with")
        for name, parameter in own.items():
            parameter.copy_(torch.from_numpy(state[name]))

    def _trained(self) -> dict[str, nn.Parameter]:
        named = [*self.model.named_parameters(), *self.pooler.named_parameters(prefix="pooler")]
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def state(self) -> dict[str, np.ndarray]:
        """Return `trained_state`."""
        return self.trained_state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self.load_trained_state(state)

    @property
    def room(self) -> int:
        """Number of tokens of a text that are read beside the prompt and special tokens."""
        taken = len(self.tokenizer(self.prompts.get("item", ""), add_special_tokens=True)["input_ids"])
        return max(1, self.settings.max_length - taken)

    def pieces(self, text: str) -> list[str]:
        """Return a text in pieces of at most `room` tokens, cut between words."""
        return chunks(self.tokenizer, text, self.room)

    def save_pretrained(self, folder: Path, training: Training | None = None) -> None:
        """Write a folder that AutoModel and sentence-transformers load to the same vectors; adapters are merged.

        `training` is told in its model card.
        """
        save_encoder(folder, self.model, self.tokenizer, self.pooler.modules_now(self.prompts),
                     self.settings.max_length, self.source, training or Training())


def _mark_trained(pooler: Pooler, peft: PeftSettings, learned: bool) -> None:
    """Let the query of attention pooling be trained with whatever is, and linear maps with all the rest."""
    pooler.requires_grad_(peft.trains_all)
    if pooler.pooling == "attention":
        pooler.query.requires_grad_(peft.trains_layers)
        if not peft.trains_layers and not learned:
            raise ConfigError(f"encoder.pooling=attention: its query has to be learned, and with peft={peft.kind} "
                              f"nothing is; choose peft=lora, or encoder.pooling=mean")
