"""An encoder all of whose parameters are trained: a pretrained one, or a new one for the texts at hand."""

from collections.abc import Sequence

import torch

from llmrec_cli.encoders.scratch import new_masked_language_model
from llmrec_cli.encoders.text_encoder import TextEncoder, load_encoder
from llmrec_cli.settings.encoder import Scratch, TransformerSettings
from llmrec_cli.settings.peft import NoPeft


def load_trainable(settings: TransformerSettings, texts: Sequence[str], seed: int, device: torch.device) -> TextEncoder:
    """Return the encoder that `settings` names, or with encoder=scratch a new one whose tokenizer knows `texts`."""
    if isinstance(settings, Scratch):
        model, tokenizer = new_masked_language_model(settings, texts, seed)
        return TextEncoder(model.base_model, tokenizer, settings, NoPeft()).to(device)
    return load_encoder(settings, NoPeft(), device, seed=seed)
