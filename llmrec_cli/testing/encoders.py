"""Conformance checks of text encoders."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.base import Encoder, encoder_class, open_encoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.testing.shop import CPU
from llmrec_cli.testing.suite import Check

_TEXTS = ("the robot and the moon", "a love letter from Paris", "a sheriff rides the desert", "clowns laugh and run",
          "the moon and a robot", "a letter from the desert", "love and the moon", "a sheriff and a robot laugh",
          "太空 机器人 爱情", "café at night, 1994")
_ODD = ("", "the", "👩‍🚀 مرحبا שלום", _TEXTS[0], "the desert " * 300)


@dataclass(frozen=True)
class EncoderCase:
    """An example of an encoder, fitted once on _TEXTS."""

    settings: EncoderSettings

    @cached_property
    def encoder(self) -> Encoder[Any]:
        """The fitted encoder."""
        return self.fit(_TEXTS)

    def open(self) -> Encoder[Any]:
        """Open an encoder, before `fit` or `load`."""
        return open_encoder(self.settings, CPU)

    def fit(self, texts: Sequence[str]) -> Encoder[Any]:
        """Open an encoder and fit it on these texts."""
        encoder = self.open()
        encoder.fit(texts)
        return encoder

    @property
    def begins_at_random(self) -> bool:
        """True if the encoder has random weights, which only pretraining can use."""
        return self.settings.begins_at_random


def an_encoder_that_must_be_pretrained_is_refused(case: EncoderCase) -> None:
    """An encoder with random weights is refused; all others open."""
    refusal = ""
    try:
        case.open()
    except ConfigError as error:
        refusal = str(error)
    assert bool(refusal) == case.begins_at_random, refusal or "opens with random weights"
    assert not refusal or "pretrain" in refusal, f"does not say what to do: {refusal}"


def vectors_are_finite_float32_of_the_stated_size(case: EncoderCase) -> None:
    """`encode` gives (num_texts, embedding_size), also for an empty text, a long text and no text."""
    if case.begins_at_random:
        return
    vectors = case.encoder.encode([*_TEXTS, *_ODD])
    assert vectors.shape == (len(_TEXTS) + len(_ODD), case.encoder.embedding_size), f"{vectors.shape}"
    assert vectors.dtype == np.float32, f"{vectors.dtype}"
    assert np.isfinite(vectors).all(), "some are NaN or infinite"
    assert case.encoder.encode([]).shape == (0, case.encoder.embedding_size), "no texts"


def a_text_has_one_vector_whatever_comes_with_it(case: EncoderCase) -> None:
    """Equal texts have equal vectors, in any block and any order."""
    if case.begins_at_random:
        return
    together = case.encoder.encode([*_TEXTS, *_ODD])
    np.testing.assert_allclose(together[len(_TEXTS) + 3], together[0], atol=1e-5)
    for start in (0, 3, len(_TEXTS)):
        alone = case.encoder.encode([*_TEXTS, *_ODD][start:start + 2])
        np.testing.assert_allclose(alone, together[start:start + 2], atol=1e-4)
    np.testing.assert_allclose(case.encoder.encode(_TEXTS[::-1])[::-1], together[:len(_TEXTS)], atol=1e-4)


def different_texts_have_different_vectors(case: EncoderCase) -> None:
    """Different texts get different vectors."""
    if case.begins_at_random:
        return
    vectors = case.encoder.encode(_TEXTS[:4])
    equal = [(a, b) for a in range(4) for b in range(a) if np.array_equal(vectors[a], vectors[b])]
    assert not equal, f"{equal}"


def a_loaded_encoder_gives_the_same_vectors_and_identity(case: EncoderCase) -> None:
    """`state`, `read` and `load` restore everything that was learned."""
    if case.begins_at_random:
        return
    state = case.encoder.state()
    tensors = TensorReader(dict(state))
    again = case.open()
    again.load(encoder_class(case.settings).read(case.settings, tensors))
    tensors.refuse_others()
    texts = [*_TEXTS, *_ODD]
    assert np.array_equal(again.encode(texts), case.encoder.encode(texts)), "vectors differ after loading"
    assert again.identity == case.encoder.identity, "the identity differs after loading"
    assert again.embedding_size == case.encoder.embedding_size, "the size differs after loading"


def the_identity_changes_with_the_vectors_and_only_then(case: EncoderCase) -> None:
    """Vectors are cached by `identity`: if vectors change and the identity does not, the cache returns stale vectors.
    """
    if case.begins_at_random:
        return
    same, other = case.fit(_TEXTS), case.fit(_TEXTS[:6])
    assert same.identity == case.encoder.identity, "the identity differs after the same fit"
    is_same = np.array_equal(other.encode(_TEXTS), case.encoder.encode(_TEXTS))
    assert is_same or other.identity != case.encoder.identity, "one identity for two sets of vectors"
    assert is_same or type(case.encoder).learns, "learns=False, but another fit gives other vectors"


def another_process_gives_the_same_vectors_and_identity(case: EncoderCase) -> None:
    """Vectors are cached and models shared, so nothing may depend on the process, as Python's `hash` of a text does."""
    if case.begins_at_random:
        return
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "77"}
    cls = type(case.settings)
    typed = json.dumps([cls.__module__, cls.__qualname__, to_plain(case.settings)])
    done = subprocess.run([sys.executable, "-c", _ELSEWHERE, typed], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, f"another process cannot open it: {done.stderr[-300:]}"
    vectors, identity = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(vectors, np.float32), case.encoder.encode(_TEXTS))
    assert identity == case.encoder.identity, "another identity in another process"


_ELSEWHERE = """
import json, sys
from importlib import import_module
from llmrec_cli.settings.base import Builder
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.testing.encoders import EncoderCase, _TEXTS
module, name, plain = json.loads(sys.argv[1])
encoder = EncoderCase(Builder(CONFIG_GROUPS).settings(getattr(import_module(module), name), plain)).encoder
print(json.dumps([encoder.encode(_TEXTS).tolist(), encoder.identity]))
"""

ENCODER_CHECKS: tuple[Check[EncoderCase], ...] = (
    an_encoder_that_must_be_pretrained_is_refused, vectors_are_finite_float32_of_the_stated_size,
    a_text_has_one_vector_whatever_comes_with_it, different_texts_have_different_vectors,
    a_loaded_encoder_gives_the_same_vectors_and_identity, the_identity_changes_with_the_vectors_and_only_then,
    another_process_gives_the_same_vectors_and_identity)
