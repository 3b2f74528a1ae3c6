"""A decoder with its head for the next token.

Shapes: R texts of a batch, T tokens of the longest of them, M scored tokens, V tokens of the vocabulary, D dimensions.
"""

from typing import Any

import torch
from torch import nn

from llmrec_cli.encoders.hugging_face import check_tokenizer, load_config, load_language_model, load_tokenizer
from llmrec_cli.encoders.locate import Source, locate
from llmrec_cli.encoders.sources import transformer_class
from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import TransformerSettings
from llmrec_cli.settings.peft import NoPeft

DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Those whose logits are a linear map of the last hidden states, with nothing done to them afterwards."""


class CausalLanguageModel(nn.Module):
    """A transformers `...ForCausalLM`, whose head runs on the scored tokens alone.

    Attributes
    ----------
    encoder : the same weights as a text encoder, to tokenise with and to save
    head_is_new : whether the head began with random weights
    """

    def __init__(self, model: Any, tokenizer: Any, settings: TransformerSettings, source: Source | None,
                 head_is_new: bool) -> None:
        super().__init__()
        self.model = model
        self.encoder = TextEncoder(model.base_model, tokenizer, settings, NoPeft(), source)
        self.head_is_new = head_is_new

    def forward(self, ids_RT: torch.Tensor, mask_RT: torch.Tensor, before_RT: torch.Tensor) -> torch.Tensor:
        """Return the logits (M, V) of the tokens behind those that `before_RT` marks, row by row."""
        hidden_RTD = self.model.base_model(input_ids=ids_RT, attention_mask=mask_RT.long()).last_hidden_state
        return self.model.get_output_embeddings()(hidden_RTD[before_RT])


def load_causal_model(settings: TransformerSettings, texts: list[str], seed: int, device: torch.device) -> CausalLanguageModel:
    """Return the decoder that `settings` names with its head, or with encoder=scratch a small GPT-2 for `texts`.

    Raises ConfigError for encoders that see both sides of a token.
    """
    if settings.bidirectional:
        raise ConfigError("encoder.bidirectional=true: lets a token see the next one, which objective=clm would have "
                          "it predict; leave one of them out")
    new = transformer_class(settings).new_language_model(settings, texts, seed, causal=True)
    if new is not None:
        model, tokenizer = new
        return CausalLanguageModel(model, tokenizer, settings, None, head_is_new=True).to(device)
    source = locate(settings)
    config = load_config(source.files)
    kind = config.model_type
    if kind not in DECODERS:
        raise ConfigError(f"objective=clm: '{kind}' in {source.folder} sees both sides of a token, so that the next is "
                          f"nothing to predict; choose objective=mlm, a decoder ({', '.join(DECODERS)}), or "
                          f"encoder=scratch")
    if not getattr(config, "is_causal", True):
        raise ConfigError(f"objective=clm: the decoder in {source.folder} was saved with encoder.bidirectional=true "
                          f"and sees the next token; choose objective=contrastive, or the decoder that it came from")
    tokenizer = load_tokenizer(source.files)
    model, head_is_new = load_language_model(source.files, seed, "AutoModelForCausalLM")
    check_tokenizer(source.folder, tokenizer, model.config, settings.max_length)
    return CausalLanguageModel(model, tokenizer, settings, source, head_is_new).to(device)
