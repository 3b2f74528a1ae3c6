"""From an encoder's settings to an encoder that makes vectors."""

from pathlib import Path

import torch

from llmrec_cli.encoders.base import Encoder
from llmrec_cli.settings.encoder import Concat, EncoderSettings, Lsa, Static, TfIdf


def open_encoder(settings: EncoderSettings, device: torch.device, cache: Path | None = None) -> Encoder:
    """Return the encoder that `settings` names, frozen; `fit` or `load` comes next.

    A folder `cache` is where the parts of encoder=concat keep their vectors across runs; all others leave that to
    `vector_cache.encode_cached`. What is trained is loaded by `text_encoder.load_encoder` instead.
    """
    if isinstance(settings, Concat):
        from llmrec_cli.encoders.concat import ConcatEncoder

        return ConcatEncoder({name: (open_encoder(part.encoder, device), part.encoder, part.weight)
                              for name, part in sorted(settings.parts.items()) if part.weight > 0}, cache)
    if isinstance(settings, Static):
        from llmrec_cli.encoders.static import StaticEncoder

        return StaticEncoder(settings)
    if isinstance(settings, (TfIdf, Lsa)):
        from llmrec_cli.encoders.lexical import LsaEncoder, TfIdfEncoder

        return TfIdfEncoder(settings) if isinstance(settings, TfIdf) else LsaEncoder(settings)
    from llmrec_cli.encoders.text_encoder import load_encoder

    return load_encoder(settings, None, device)
