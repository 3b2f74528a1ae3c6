"""The interface of pretraining objectives: examples to train or to measure with, a loss, and a measure.

An objective holds a model and examples, one instance those that are trained on, another those held out; both share
the model. Labels are never part of a text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.training.step import Split

_WINDOW = 16
"""Batches whose texts are sorted by length together: little padding, yet another mix in every epoch."""


@dataclass(frozen=True)
class Measure:
    """Measure of an objective on held-out examples.

    Attributes
    ----------
    loss : mean cross-entropy of an answer, in nats
    accuracy : share of the answers that are right, the likeliest counting as the answer
    num_scored : answers that both are taken over
    chance : accuracy of one who knows nothing of the texts; None where that depends on the tokens
    """

    loss: float
    accuracy: float
    num_scored: int
    chance: float | None = None


class Objective(Protocol):
    """Examples with a loss.

    Attributes
    ----------
    scored : what the measure counts, "masked tokens"
    texts : what the examples are made of, to count and to show a few
    """

    scored: str
    texts: list[str]

    def num_batches(self, batch_size: int) -> int:
        """Return the batches of an epoch."""

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Any]:
        """Yield each example once; what comes depends on the arguments alone, so that a resumed run can repeat it."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch."""

    @property
    def split(self) -> Split | None:
        """Splitter of a batch, None if each example is compared with the others of its batch."""

    def measure(self, seed: int) -> Measure:
        """Return how good the model is now; the same seed asks the same questions."""


@dataclass(frozen=True)
class Task:
    """An objective on a corpus.

    Attributes
    ----------
    model : all that is trained; `encoder` is in it
    encoder : what is saved
    head_is_new : whether the model has a head that begins with random weights, so that its first loss says little
    train, held_out : the examples to train on and to measure with
    """

    model: nn.Module
    encoder: TextEncoder
    head_is_new: bool
    train: Objective
    held_out: Objective


def weighted(parts: list[Any], counts: list[int]) -> list[tuple[Any, float]]:
    """Return the parts that have something to score, each with its share of all that is."""
    return [(part, count / sum(counts)) for part, count in zip(parts, counts, strict=True) if count > 0]


def batches_by_length(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield each row once, in batches of similar length and random order, rows (R,)."""
    order = generator.permutation(len(lengths))
    windows = [order[n:n + _WINDOW * batch_size] for n in range(0, len(order), _WINDOW * batch_size)]
    order = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
    batches = [order[n:n + batch_size] for n in range(0, len(order), batch_size)]
    for place in generator.permutation(len(batches)):
        yield batches[place]
