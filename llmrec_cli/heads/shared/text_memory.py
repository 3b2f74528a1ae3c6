"""Memory that the texts of a catalogue take in a fit, stated before the encoder is opened."""

import math
from collections.abc import Iterable
from typing import Any

from llmrec_cli.encoders.base import encoder_class
from llmrec_cli.encoders.peft import peft_class
from llmrec_cli.encoders.sources import TransformerEncoder
from llmrec_cli.encoders.text_encoder import STORED_BUCKETS
from llmrec_cli.settings.adversarial import TEXTS
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.peft import PeftSettings

_BYTES_OF_A_TOKEN = 3
"""Of a text: English words, names and numbers have 2.6 to 3.4 of them, Chinese characters 3."""
_SPECIAL_TOKENS = 2
"""Tokens at the beginning and at the end of a text."""
VECTOR_COPIES = 6
"""Vectors of all texts held at a time: as the encoder said them, for this fit and for the next one, and while they are
centred and normalised."""
_LOWER_NUMBERS = 12
"""Numbers that a layer without gradients takes for a token, in hidden sizes: what goes through it, and what is four
times as wide in it."""
HELD_WHILE_RUN_AGAIN = 11
"""Numbers that each trained layer holds of a token whose bucket is run again in the backward pass, in hidden sizes."""
_ATTACKED = 1.4
"""What a step takes with an adversary of texts, as a share of what it takes without."""


def encoder_memory(config: ModelConfig, texts: Iterable[str], num_encoded: int | None,
                   peft: PeftSettings | None = None) -> int:
    """Return the bytes of `ItemTexts` of texts, and of a training step that encodes `num_encoded` of them.

    None encodes all of them. `peft` replaces that of the config. The estimate is for an empty vector cache; when the
    cache holds all texts, a frozen encoder takes less, since it is opened and encodes nothing.
    """
    encoder, peft, texts = config.encoder, peft or config.peft, [str(text) for text in texts]
    if encoder is None:
        return 0
    opened = (encoder_class(encoder).estimate_memory(encoder, texts)
              + VECTOR_COPIES * 4 * len(texts) * encoder.vector_size())
    if peft is None or not peft.trains_layers or not encoder.has_layers:
        return opened
    lengths = [num_tokens(encoder, text) for text in dict.fromkeys(texts)]
    most = len(lengths) if num_encoded is None else num_encoded
    drawn = [min(length, peft.tokens_drawn or length) for length in lengths]
    step = step_memory(config, peft, min(most, len(lengths)), sum(drawn) / max(1, len(drawn)), max(drawn, default=0))
    return int(opened + _hidden_bytes(config, peft) * sum(lengths) + trained_memory(encoder, peft) + step)


def pairs_memory(config: ModelConfig, num_pairs: int) -> int:
    """Return the bytes of an encoder that reads pairs of texts, `num_pairs` of them in a training step.

    All of a step go through the frozen layers at once, padded to the longest, which mostly is as long as may be.
    """
    encoder: Any = config.encoder
    tokens = num_pairs * encoder.max_length
    frozen = _LOWER_NUMBERS * 4 * _class(encoder).shape(encoder).hidden_size * tokens
    lengths = encoder.max_length, encoder.max_length
    step = step_memory(config, config.peft, num_pairs, *lengths) if config.peft.trains_layers else 0
    opened = encoder_class(encoder).estimate_memory(encoder, [])
    return opened + trained_memory(encoder, config.peft) + max(frozen, step)


def num_tokens(encoder: Any, text: str) -> float:
    """Return about how many tokens of a text a transformer reads, at most its `max_length`."""
    most = encoder.max_length
    # What comes behind the first bytes is cut anyway.
    return min(most,
               len(text[:_BYTES_OF_A_TOKEN * most].encode("utf-8", "replace")) / _BYTES_OF_A_TOKEN + _SPECIAL_TOKENS)


def trained_memory(encoder: EncoderSettings, peft: PeftSettings) -> int:
    """Return the bytes of gradients, two moments and the best of the weights that are trained; adapters are small."""
    shape = _class(encoder).shape(encoder)
    if not peft_class(peft).trains_weights:
        return 0
    # Attention has 4 matrices of hidden x hidden, what follows it 2 of hidden x 4 hidden.
    return 4 * (shape.weights if peft.trains_all else 4 * 12 * shape.hidden_size**2 * _depth(encoder, peft))


def step_memory(config: ModelConfig, peft: PeftSettings, num_texts: int, length: float, longest: float) -> int:
    """Return the bytes that a step holds for its backward pass: of texts of `length` tokens on average.

    They are padded to the `longest` where they fit into a bucket, else cut into buckets with hardly any padding. More
    than STORED_BUCKETS buckets, times the trained layers, are run again in the backward pass, one by one
    (`TextEncoder.upper`).
    """
    encoder: Any = config.encoder
    depth, hidden = _depth(encoder, peft), _class(encoder).shape(encoder).hidden_size
    padded = num_texts * longest
    tokens = padded if padded <= encoder.batch_tokens else max(encoder.batch_tokens, num_texts * length)
    buckets = math.ceil(tokens / encoder.batch_tokens)
    runs_again = buckets * depth > STORED_BUCKETS
    kept, held = (min(tokens, encoder.batch_tokens), tokens) if runs_again else (tokens, 0)
    attacked = config.adversarial is not None and config.adversarial.perturbs == TEXTS
    numbers = peft_class(peft).stored_per_token * (0.6 if config.optim.precision == "bfloat16" else 1)
    # The input of the trained layers, as it is gathered and as it is cut into buckets.
    of_layers = depth * (numbers * kept + HELD_WHILE_RUN_AGAIN * held) * (_ATTACKED if attacked else 1)
    return int(4 * hidden * (of_layers + 2 * padded))


def _hidden_bytes(config: ModelConfig, peft: PeftSettings) -> int:
    """Return the bytes of a token's hidden state that is kept for the trained layers; 0 where they run each time."""
    if peft.trains_all:
        return 0
    shape = _class(config.encoder).shape(config.encoder)
    return (2 if config.optim.precision == "bfloat16" else 4) * shape.hidden_size


def _depth(encoder: EncoderSettings, peft: PeftSettings) -> int:
    """Return the number of layers that run with gradients: those on top that are trained, or all."""
    layers = _class(encoder).shape(encoder).num_layers
    return min(layers, getattr(peft, "num_layers", None) or layers)


def _class(encoder: EncoderSettings) -> type[TransformerEncoder[Any]]:
    found: Any = encoder_class(encoder)
    return found
