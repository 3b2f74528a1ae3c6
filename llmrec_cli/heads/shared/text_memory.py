"""Memory of the texts of a catalogue in a fit, estimated before the encoder is opened."""

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
"""Bytes per token: 2.6 to 3.4 in English words, names and numbers, 3 per Chinese character."""
_SPECIAL_TOKENS = 2
"""Tokens at the start and the end of a text."""
VECTOR_COPIES = 2
"""Copies of all text vectors in memory at the end of encoding: of the distinct texts, and of each item."""
_LATER_COPIES = 4
"""Further copies: for the next fit, and while the vectors are centred and normalised."""
_LOWER_NUMBERS = 12
"""Values per token of a layer without gradients, in units of the hidden size: its inputs and outputs, and the
feed-forward part of four times the width."""
HELD_WHILE_RUN_AGAIN = 11
"""Values per token that each trained layer keeps for a bucket recomputed in the backward pass, in hidden sizes."""
_ATTACK_FACTOR = 1.4
"""Memory of a step with an adversary of texts, relative to a step without."""


def encoder_memory(config: ModelConfig, texts: Iterable[str], num_encoded: int | None,
                   peft: PeftSettings | None = None, later: int = 0) -> int:
    """Return the bytes of `ItemTexts`, of a training step that encodes `num_encoded` texts (None for all), and `later`.

    `later` are the bytes that the head takes after the texts are encoded, when the buffers of encoding are free again.
    `peft` replaces the config's. The estimate is for an empty vector cache; if the cache has all texts, a frozen
    encoder takes less, since it encodes nothing.
    """
    encoder, peft, texts = config.encoder, peft or config.peft, [str(text) for text in texts]
    if encoder is None:
        return later
    vectors = 4 * len(texts) * encoder.vector_size()
    base = encoder_class(encoder).estimate_memory(encoder, texts) + VECTOR_COPIES * vectors
    later += _LATER_COPIES * vectors
    buffers = encoder_class(encoder).buffer_memory(encoder)
    if peft is None or not peft.trains_layers or not encoder.has_layers:
        return base + max(0, later - buffers)
    lengths = _distinct_lengths(encoder, texts)
    step = _step_of_texts(config, peft, lengths, num_encoded)
    return int(base + _hidden_bytes(config, peft) * sum(lengths) + trained_memory(encoder, peft)
               + max(0, step + later - buffers))


def freed_memory(config: ModelConfig, texts: Iterable[str], num_encoded: int | None) -> int:
    """Return the bytes of `encoder_memory` that are free again after the fit: of encoding or of a training step."""
    encoder, peft = config.encoder, config.peft
    if encoder is None:
        return 0
    buffers = encoder_class(encoder).buffer_memory(encoder)
    if peft is None or not peft.trains_layers or not encoder.has_layers:
        return buffers
    return max(buffers, _step_of_texts(config, peft, _distinct_lengths(encoder, map(str, texts)), num_encoded))


def _distinct_lengths(encoder: EncoderSettings, texts: Iterable[str]) -> list[float]:
    """Return the estimated tokens of each distinct text."""
    return [num_tokens(encoder, text) for text in dict.fromkeys(texts)]


def _step_of_texts(config: ModelConfig, peft: PeftSettings, lengths: list[float], num_encoded: int | None) -> int:
    """Return the bytes of a step that encodes `num_encoded` of the texts with these lengths in tokens, None for all."""
    most = len(lengths) if num_encoded is None else num_encoded
    step_lengths = [min(length, peft.tokens_drawn or length) for length in lengths]
    return step_memory(config, peft, min(most, len(lengths)), sum(step_lengths) / max(1, len(step_lengths)),
                       max(step_lengths, default=0))


def pairs_memory(config: ModelConfig, num_pairs: int) -> int:
    """Return the bytes of an encoder of text pairs, with `num_pairs` in a training step.

    All pairs of a step pass the frozen layers at once, padded to the longest, which usually has the maximal length.
    """
    encoder: Any = config.encoder
    tokens = num_pairs * encoder.max_length
    frozen = _LOWER_NUMBERS * 4 * _class(encoder).shape(encoder).hidden_size * tokens
    lengths = encoder.max_length, encoder.max_length
    step = step_memory(config, config.peft, num_pairs, *lengths) if config.peft.trains_layers else 0
    base = encoder_class(encoder).estimate_memory(encoder, [])
    return base + trained_memory(encoder, config.peft) + max(frozen, step)


def num_tokens(encoder: Any, text: str) -> float:
    """Estimate the number of tokens of a text, at most the encoder's `max_length`."""
    most = encoder.max_length
    # The rest of the text is truncated anyway.
    return min(most,
               len(text[:_BYTES_OF_A_TOKEN * most].encode("utf-8", "replace")) / _BYTES_OF_A_TOKEN + _SPECIAL_TOKENS)


def trained_memory(encoder: EncoderSettings, peft: PeftSettings) -> int:
    """Return the bytes of gradients, two moments and the best checkpoint of trained weights; adapters count as 0."""
    shape = _class(encoder).shape(encoder)
    if not peft_class(peft).trains_weights:
        return 0
    # Attention has 4 matrices of hidden x hidden, the feed-forward part 2 of hidden x 4 hidden.
    return 4 * (shape.weights if peft.trains_all else 4 * 12 * shape.hidden_size**2 * _depth(encoder, peft))


def step_memory(config: ModelConfig, peft: PeftSettings, num_texts: int, length: float, longest: float) -> int:
    """Return the bytes that a step keeps for its backward pass, for texts of `length` tokens on average.

    Texts are padded to the `longest` if they fit into one bucket, else split into buckets with hardly any padding. If
    buckets x trained layers exceed STORED_BUCKETS, buckets are recomputed in the backward pass, one by one
    (`TextEncoder.upper`). Steps have other texts and so arrays of other sizes, between which glibc's heap keeps gaps:
    after some dozen steps these take as much as a bucket, whatever the number of buckets.
    """
    encoder: Any = config.encoder
    depth, hidden_size = _depth(encoder, peft), _class(encoder).shape(encoder).hidden_size
    padded = num_texts * longest
    tokens = padded if padded <= encoder.batch_tokens else num_texts * length
    buckets = math.ceil(tokens / encoder.batch_tokens)
    recomputes = buckets * depth > STORED_BUCKETS
    full_tokens, recomputed_tokens = (min(tokens, encoder.batch_tokens), tokens) if recomputes else (tokens, 0)
    is_attacked = config.adversarial is not None and config.adversarial.perturbs == TEXTS
    numbers = peft_class(peft).stored_per_token * (0.6 if config.optim.precision == "bfloat16" else 1)
    # The input of the trained layers exists twice: gathered, and split into buckets.
    gaps = depth * numbers * min(tokens, encoder.batch_tokens)
    of_layers = (depth * (numbers * full_tokens + HELD_WHILE_RUN_AGAIN * recomputed_tokens)
                 * (_ATTACK_FACTOR if is_attacked else 1))
    return int(4 * hidden_size * (of_layers + gaps + 2 * padded))


def _hidden_bytes(config: ModelConfig, peft: PeftSettings) -> int:
    """Return the bytes of a token's cached hidden state below the trained layers; 0 if all layers are trained."""
    if peft.trains_all:
        return 0
    shape = _class(config.encoder).shape(config.encoder)
    return (2 if config.optim.precision == "bfloat16" else 4) * shape.hidden_size


def _depth(encoder: EncoderSettings, peft: PeftSettings) -> int:
    """Return the number of layers with gradients: the trained top layers, or all."""
    layers = _class(encoder).shape(encoder).num_layers
    return min(layers, getattr(peft, "num_layers", None) or layers)


def _class(encoder: EncoderSettings) -> type[TransformerEncoder[Any]]:
    cls: Any = encoder_class(encoder)
    return cls
