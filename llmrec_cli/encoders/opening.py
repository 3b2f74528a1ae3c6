"""From an encoder's settings to an encoder that makes vectors."""

from importlib import import_module
from pathlib import Path

import torch

from llmrec_cli.encoders.base import Encoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import ENCODERS, Concat, EncoderSettings, TransformerSettings


def open_encoder(settings: EncoderSettings, device: torch.device, cache: Path | None = None) -> Encoder:
    """Return the encoder that `settings` names, frozen; `fit` or `load` comes next.

    A folder `cache` is where the parts of encoder=concat keep their vectors across runs; all others leave that to
    `vector_cache.encode_cached`. What is trained is loaded by `text_encoder.load_encoder` instead.
    """
    if isinstance(settings, Concat):
        from llmrec_cli.encoders.concat import ConcatEncoder

        return ConcatEncoder({name: (open_encoder(part.encoder, device), part.encoder, part.weight)
                              for name, part in sorted(settings.parts.items()) if part.weight > 0}, cache)
    if isinstance(settings, TransformerSettings):
        from llmrec_cli.encoders.text_encoder import load_encoder

        return load_encoder(settings, None, device)
    module, _, name = settings.implementation.rpartition(".")
    if not module:
        raise ConfigError(f"encoder={settings.kind}: has settings and no implementation; name one in "
                          f"{type(settings).__name__}.implementation, or choose one of {', '.join(ENCODERS)}")
    encoder: Encoder = getattr(import_module(module), name)(settings)
    return encoder
