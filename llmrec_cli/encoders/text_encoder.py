"""Texts in, vectors out: a Hugging Face transformer with pooling, in two parts.

`lower` is everything below the lowest trained layer, `upper` the trained rest with pooling. While `lower` is frozen its
output can be computed once and kept (`text_bank.TextBank`), which is what makes fine-tuning on a CPU bearable. Vectors
are not normalised: for all-MiniLM-L6-v2 they are sentence-transformers' before its `Normalize`.

Shapes: R texts of a batch, T tokens of the longest of them, D = `embedding_size`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmrec_cli.encoders.adapt import adapt
from llmrec_cli.encoders.hugging_face import check_tokenizer, load_model, load_tokenizer
from llmrec_cli.encoders.locate import locate
from llmrec_cli.encoders.packed import PackedTokens, buckets
from llmrec_cli.encoders.pooling import POOLINGS
from llmrec_cli.encoders.saving import save_encoder
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.encoder import EncoderSettings, TransformerSettings
from llmrec_cli.settings.peft import Frozen, NoPeft, PeftSettings

CHARACTERS_PER_TOKEN = 100
TOKENIZED_AT_ONCE = 4096
KEPT_BUCKETS = 8


class TextEncoder(nn.Module):
    """A transformer, its tokenizer and its pooling.

    Attributes
    ----------
    embedding_size : length of a vector
    base_identity : SHA-256 that changes with the base weights; what was trained since is not in it
    is_costly : true: its vectors are worth keeping across runs
    lower_is_frozen : whether `lower` gives the same for ever, so that it may be kept
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TransformerSettings, peft: PeftSettings,
                 pooling: str = "mean", identity: str = "", seed: int = 0) -> None:
        super().__init__()
        self.embedding_size: int = model.config.hidden_size
        self.base_identity = identity
        self.is_costly = True
        self.lower_is_frozen = not isinstance(peft, NoPeft)
        self.settings = settings
        self.pooling = pooling
        self.tokenizer = tokenizer
        adapted = adapt(model, peft, seed)
        self.cut, self.model, self.budget = adapted.cut, adapted.model, adapted.budget
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def padding_id(self) -> int:
        """The token that fills the rest of a row; masked, so any will do where the tokenizer has none."""
        padding = self.tokenizer.pad_token_id
        return 0 if padding is None else int(padding)

    @property
    def identity(self) -> str:
        """SHA-256 over all that decides on a text's vector: base weights, what was trained since, pooling, tokens."""
        whole = hashlib.sha256(f"{self.base_identity} {self.pooling} {self.settings.max_length}".encode())
        for name, array in sorted(self.trained_state().items()):
            whole.update(f"\n{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
        return whole.hexdigest()

    def train(self, mode: bool = True) -> "TextEncoder":
        """Switch dropout on or off in what is trained; frozen layers never have any, since their output is kept."""
        super().train(mode)
        if self.lower_is_frozen:
            for module in self.cut.below():
                module.eval()
        return self

    def tokenize(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return int64 token ids of each text with its special tokens, at most `settings.max_length`.

        Of a very long text only 100 characters per token kept are read, so that its length costs no memory. An empty
        text is its special tokens alone, and so has a vector like any other. `[MASK]` and the like written in a text
        are letters, not commands.
        """
        longest = CHARACTERS_PER_TOKEN * self.settings.max_length
        tokens: list[np.ndarray] = []
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            cut = [str(text)[:longest] for text in texts[start:start + TOKENIZED_AT_ONCE]]
            ids = self.tokenizer(cut, truncation=True, max_length=self.settings.max_length, add_special_tokens=True,
                                 return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            tokens += [np.array(i or [self.padding_id], np.int64) for i in ids]
        return tokens

    def tokenize_pairs(self, first: Sequence[str], second: Sequence[str]) -> list[np.ndarray]:
        """Return int64 token ids of pairs of texts as the tokenizer joins them, at most `settings.max_length` each.

        The longer of the two is cut first. Which of the texts a token is of is told by the separator between them
        alone: segment ids (token types) are not carried, so that BERT sees both as its first segment.
        """
        longest = CHARACTERS_PER_TOKEN * self.settings.max_length
        tokens: list[np.ndarray] = []
        for start in range(0, len(first), TOKENIZED_AT_ONCE):
            cut = [[str(text)[:longest] for text in texts[start:start + TOKENIZED_AT_ONCE]]
                   for texts in (first, second)]
            ids = self.tokenizer(*cut, truncation="longest_first", max_length=self.settings.max_length,
                                 add_special_tokens=True, return_attention_mask=False,
                                 return_token_type_ids=False)["input_ids"]
            tokens += [np.array(i or [self.padding_id], np.int64) for i in ids]
        return tokens

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 vectors (num_texts, D), without gradients; each distinct text is encoded once."""
        distinct = {str(text): n for n, text in enumerate(dict.fromkeys(texts))}
        vectors = np.empty((len(distinct), self.embedding_size), np.float32)
        if distinct:
            packed = PackedTokens(self.tokenize(list(distinct)), self.padding_id, self.device)
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
        More than KEPT_BUCKETS of them keep nothing for the backward pass and are run again there, so that one step can
        see a whole catalogue: gradient caching (Gao et al. 2021), with autograd's own means.
        """
        if mask_RT.numel() <= self.settings.batch_tokens:
            return self._upper(hidden_RTD, mask_RT)
        lengths = mask_RT.sum(1).cpu().numpy()
        parts = list(buckets(lengths, self.settings.batch_tokens))
        # What a few buckets keep for the backward pass fits; of many it would not, so they are run again there.
        again = torch.is_grad_enabled() and len(parts) > KEPT_BUCKETS
        vectors = []
        for rows in parts:
            part_R, longest = torch.from_numpy(rows).to(mask_RT.device), int(lengths[rows[0]])
            hidden, mask = hidden_RTD[part_R, :longest], mask_RT[part_R, :longest]
            vectors.append(checkpoint(self._upper, hidden, mask, use_reentrant=False) if again
                           else self._upper(hidden, mask))
        back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(mask_RT.device)
        return torch.cat(vectors)[back]

    def _upper(self, hidden_RTD: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
        return POOLINGS[self.pooling](self.cut.upper(hidden_RTD, mask_RT), mask_RT)

    def trained_state(self) -> dict[str, np.ndarray]:
        """Return what is trained, by name: adapters, top layers, or everything; nothing when frozen."""
        return {name: parameter.detach().cpu().numpy().copy()
                for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def load_trained_state(self, state: dict[str, np.ndarray]) -> None:
        """Take what `trained_state` returned; raise ArtifactError naming the keys that do not fit."""
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        other_shapes = sorted(f"{n} {state[n].shape} for {tuple(own[n].shape)}" for n in own.keys() & state.keys()
                              if state[n].shape != tuple(own[n].shape))
        if missing or unknown or other_shapes:
            raise ArtifactError(f"the trained weights do not fit the encoder; missing: {missing or 'none'}; unknown: "
                                f"{unknown or 'none'}; of another shape: {other_shapes or 'none'}; load them with the "
                                f"encoder and the peft settings they were trained with")
        for name, parameter in own.items():
            parameter.copy_(torch.from_numpy(state[name]))

    def fit(self, texts: Sequence[str]) -> None:
        """Learn nothing: a pretrained encoder knows what it knows, and is trained by the loop."""

    def state(self) -> dict[str, np.ndarray]:
        """Return `trained_state`."""
        return self.trained_state()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take what `state` returned."""
        self.load_trained_state(state)

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that AutoModel and sentence-transformers load to the same vectors; adapters are merged."""
        save_encoder(folder, self.model, self.tokenizer, self.pooling, self.settings.max_length)


def load_encoder(settings: EncoderSettings, peft: PeftSettings | None, device: torch.device,
                 folder: Path | None = None, seed: int = 0) -> TextEncoder:
    """Return the encoder that `settings` names, prepared for training as `peft` says (None: frozen), on `device`.

    `folder`, when given, is where the encoder's files were copied to; `seed` starts new adapters. Raises ConfigError
    for what cannot be loaded or trained, ArtifactError for files that cannot be used.
    """
    if not isinstance(settings, TransformerSettings):
        raise ConfigError(f"encoder={settings.kind}: has no transformer whose layers could be run apart or trained; "
                          f"choose encoder=minilm, hf or pretrained")
    source = locate(settings, folder)
    model, tokenizer = load_model(source.folder), load_tokenizer(source.folder)
    check_tokenizer(source.folder, tokenizer, model.config, settings.max_length)
    return TextEncoder(model, tokenizer, settings, peft or Frozen(), source.pooling, source.identity, seed).to(device)
