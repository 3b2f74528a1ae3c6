"""The interface of pretraining objectives: examples, a loss, and an evaluation.

An objective holds a model and examples. One instance has the training examples and another the held-out examples; both
share the model. Labels are never part of a text.
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
"""Batches whose texts are sorted by length together: little padding, but new batches in every epoch."""


@dataclass(frozen=True)
class Measure:
    """Evaluation of an objective on held-out examples.

    Attributes
    ----------
    loss : mean cross-entropy of a prediction, in nats
    accuracy : share of the predictions whose most likely class is correct
    num_scored : number of predictions behind both
    chance : accuracy of guessing without the texts; None where it depends on the tokens
    """

    loss: float
    accuracy: float
    num_scored: int
    chance: float | None = None


class Objective(Protocol):
    """Examples with a loss.

    Attributes
    ----------
    scored : name of the scored units, such as "masked tokens"
    texts : texts of the examples, for counts and samples in the report
    """

    scored: str
    texts: list[str]

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""

    def batches(self, batch_size: int, generator: np.random.Generator) -> Iterator[Any]:
        """Yield each example once; the batches depend on the arguments only, so that a resumed run can repeat them."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch."""

    @property
    def split(self) -> Split | None:
        """Splitter of a batch, None if each example is compared with the others of its batch."""

    def measure(self, seed: int) -> Measure:
        """Evaluate the model on all examples; the same seed gives the same masks, blocks and dropout."""


@dataclass(frozen=True)
class Task:
    """An objective on a corpus.

    Attributes
    ----------
    model : the trained model; it contains `encoder`
    encoder : the encoder, which is saved
    head_is_new : True if the model's head starts with random weights, so that its initial loss is not informative
    train, held_out : training and held-out examples
    """

    model: nn.Module
    encoder: TextEncoder
    head_is_new: bool
    train: Objective
    held_out: Objective


def weight_parts(parts: list[Any], counts: list[int]) -> list[tuple[Any, float]]:
    """Return the parts with a count above 0, each with its share of the total count."""
    return [(part, count / sum(counts)) for part, count in zip(parts, counts, strict=True) if count > 0]


def batches_by_length(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield each row once, in batches of similar length and random order, rows (R,)."""
    order = generator.permutation(len(lengths))
    windows = [order[n:n + _WINDOW * batch_size] for n in range(0, len(order), _WINDOW * batch_size)]
    order = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
    batches = [order[n:n + batch_size] for n in range(0, len(order), batch_size)]
    for place in generator.permutation(len(batches)):
        yield batches[place]
