"""From an encoder's settings to an encoder that makes vectors."""

from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.data.tensor_reader import TensorReader
from llmrec_cli.encoders.base import Encoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import ENCODERS, Concat, EncoderSettings, Lsa, Static, TfIdf, TransformerSettings


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


def read_learned(settings: EncoderSettings, tensors: TensorReader) -> dict[str, np.ndarray]:
    """Return what a frozen encoder learned, as its `load` takes it; checked without opening the encoder.

    A transformer learned nothing. What another kind of encoder learned is checked by its own `load`.
    """
    if isinstance(settings, Concat):
        state = dict[str, np.ndarray]()
        for name, part in sorted(settings.parts.items()):
            if part.weight > 0:
                from llmrec_cli.encoders.whitening import Whitening

                whitening = Whitening.read(tensors.inside(f"{name}.map.")).state()
                learned = read_learned(part.encoder, tensors.inside(f"{name}.state."))
                state |= {f"{name}.map.{key}": array for key, array in whitening.items()}
                state |= {f"{name}.state.{key}": array for key, array in learned.items()}
        return state
    if isinstance(settings, TransformerSettings):
        return {}
    if isinstance(settings, Static):
        from llmrec_cli.encoders.static import StaticEncoder

        return StaticEncoder.read(settings, tensors)
    if isinstance(settings, Lsa | TfIdf):
        from llmrec_cli.encoders.lexical import LsaEncoder, TfIdfEncoder

        return LsaEncoder(settings).read(tensors) if isinstance(settings, Lsa) else TfIdfEncoder(settings).read(tensors)
    return tensors.take_all()
