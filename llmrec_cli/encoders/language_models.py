"""Transformers with a language-model head: next tokens of a decoder, masked tokens of an encoder.

Shapes: R texts of a batch, T tokens of the longest of them, M scored (masked) tokens, V tokens of the vocabulary, D
dimensions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from llmrec_cli.encoders.hugging_face import check_tokenizer, load_config, load_language_model, load_tokenizer
from llmrec_cli.encoders.locate import Source, locate
from llmrec_cli.encoders.sources import transformer_class
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.peft import NoPeftSettings

_DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Decoders whose logits are a linear map of the last hidden states without further steps."""


class LanguageModel(nn.Module):
    """A transformers model with a language-model head.

    Attributes
    ----------
    encoder : text encoder with the same weights, for tokenising and saving
    head_is_new : True if the head started with random weights
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TransformerSettings, source: Source | None,
                 head_is_new: bool) -> None:
        super().__init__()
        self.model = model
        self.encoder = TextEncoder(model.base_model, tokenizer, settings, NoPeftSettings(), source)
        self.head_is_new = head_is_new


class CausalLanguageModel(LanguageModel):
    """A transformers `...ForCausalLM` whose head runs on the scored tokens only."""

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor, before_RT: torch.Tensor) -> torch.Tensor:
        """Return the logits (M, V) of the tokens after the positions marked in `before_RT`, row by row."""
        hidden_RTD = self.model.base_model(input_ids=ids_RT, attention_mask=mask_RT.long()).last_hidden_state
        return self.model.get_output_embeddings()(hidden_RTD[before_RT])


def load_causal_model(settings: TransformerSettings, texts: list[str], seed: int,
                      device: torch.device) -> CausalLanguageModel:
    """Return the decoder that `settings` names with its head; with encoder=scratch, a small GPT-2 for `texts`.

    Raises ConfigError for bidirectional encoders.
    """
    if settings.bidirectional:
        raise ConfigError("encoder.bidirectional=true: lets a token see the next one, which objective=clm predicts; "
                          "leave one of them out")
    new = transformer_class(settings).new_language_model(settings, texts, seed, causal=True)
    if new is not None:
        model, tokenizer = new
        return CausalLanguageModel(model, tokenizer, settings, None, head_is_new=True).to(device)
    source = locate(settings)
    config = load_config(source.files)
    kind = config.model_type
    if kind not in _DECODERS:
        raise ConfigError(f"objective=clm: '{kind}' in {source.folder} sees both sides of a token, so it cannot "
                          f"predict the next one; choose objective=mlm, a decoder ({', '.join(_DECODERS)}), or "
                          f"encoder=scratch")
    if not getattr(config, "is_causal", True):
        raise ConfigError(f"objective=clm: the decoder in {source.folder} was saved with encoder.bidirectional=true "
                          f"and sees the next token; choose objective=contrastive, or the original decoder")
    tokenizer = load_tokenizer(source.files)
    model, head_is_new = load_language_model(source.files, seed, "AutoModelForCausalLM")
    check_tokenizer(source.folder, tokenizer, model.config, settings.max_length)
    return CausalLanguageModel(model, tokenizer, settings, source, head_is_new).to(device)


Head = Callable[[Any, torch.Tensor], torch.Tensor]


def _distilbert(model: Any, hidden_MD: torch.Tensor) -> torch.Tensor:
    return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(hidden_MD))))


def _bert(model: Any, hidden_MD: torch.Tensor) -> torch.Tensor:
    return model.cls(hidden_MD)


def _roberta(model: Any, hidden_MD: torch.Tensor) -> torch.Tensor:
    return model.lm_head(hidden_MD)


_TOKEN_HEADS: dict[str, Head] = {"bert": _bert, "roberta": _roberta, "xlm-roberta": _roberta, "camembert": _roberta,
                                 "distilbert": _distilbert}


class MaskedLanguageModel(LanguageModel):
    """A transformers `...ForMaskedLM` whose head runs on the masked tokens only.

    The logits of all tokens of a MiniLM batch of 64 texts would take half a gigabyte; 15% of them are used.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TransformerSettings, source: Source | None,
                 head_is_new: bool) -> None:
        super().__init__(model, tokenizer, settings, source, head_is_new)
        self.head = _TOKEN_HEADS[model.config.model_type]

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor, target_RT: torch.Tensor) -> torch.Tensor:
        """Return the logits (M, V) at the tokens marked in `target_RT`, row by row."""
        hidden_RTD = self.model.base_model(input_ids=ids_RT, attention_mask=mask_RT.long()).last_hidden_state
        return self.head(self.model, hidden_RTD[target_RT])


def load_masked_model(settings: TransformerSettings, texts: list[str], seed: int,
                      device: torch.device) -> MaskedLanguageModel:
    """Return the encoder that `settings` names with its head; with encoder=scratch, a new encoder for `texts`.

    Raises ConfigError for encoders without masked tokens.
    """
    new = transformer_class(settings).new_language_model(settings, texts, seed, causal=False)
    if new is not None:
        model, tokenizer = new
        return MaskedLanguageModel(model, tokenizer, settings, None, head_is_new=True).to(device)
    source = locate(settings)
    tokenizer = load_tokenizer(source.files)
    kind = load_config(source.files).model_type
    if kind not in _TOKEN_HEADS or tokenizer.mask_token_id is None:
        raise ConfigError(f"objective=mlm: '{kind}' in {source.folder} has no masked tokens to predict; choose one of "
                          f"{', '.join(_TOKEN_HEADS)}, or encoder=scratch")
    model, head_is_new = load_language_model(source.files, seed, "AutoModelForMaskedLM")
    check_tokenizer(source.folder, tokenizer, model.config, settings.max_length)
    return MaskedLanguageModel(model, tokenizer, settings, source, head_is_new).to(device)
