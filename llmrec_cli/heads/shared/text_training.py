"""Training a module together with the text encoder of its items."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.scoring.scorer import Score
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.training.loop import Length, TrainContext, train


class Steps(Protocol):
    """The batches of an epoch and the loss of a batch, for `train`."""

    num_batches: int

    def batches(self, epoch: int, generator: np.random.Generator) -> Iterator[Any]:
        """Yield the batches of an epoch."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch."""


def train_with_texts(module: nn.Module, texts: ItemTexts | None, steps: Steps, config: ModelConfig,
                     stop_after: int | None, context: Context, score: Score) -> int:
    """Train `module` and the trained part of `texts` in place; return the best number of epochs."""
    optim, device = config.optim, context.device
    rates = [(module, optim.rate())]
    modules = nn.ModuleDict({"head": module})
    length = Length(stop_after or optim.epochs, steps.num_batches, optim.epochs)
    if texts is not None:
        rates += texts.rates(optim)
        modules["texts"] = texts
        texts.plan(length.schedule_epochs * length.steps(optim.accumulate))
    train_context = TrainContext(device, context.seed, context.log, context.folder,
                                 context.folder if context.resumed else None, context.tensorboard, config.head.kind,
                                 config.flat("optim"))
    result = train(modules, steps.batches, steps.loss, rates, optim, length, train_context,
                   _validation(texts, context, score), after_step=None if texts is None else texts.after_step,
                   shrink=None if texts is None else texts.shrink)
    if texts is not None:
        texts.refresh()
    return result.best_epoch


def _validation(texts: ItemTexts | None, context: Context, score: Score) -> Callable[[], float] | None:
    validation = context.validation
    if validation is None:
        return None

    def validate() -> float:
        if texts is not None:
            texts.refresh()
        return validation(score)

    return validate


def choose_encoded(num_items: int, most: int | None, generator: np.random.Generator) -> np.ndarray:
    """Draw at most `most` of a step's items (None for all) to pass the encoder's trained layers; ascending."""
    if most is None or most >= num_items:
        return np.arange(num_items)
    return np.sort(generator.choice(num_items, most, replace=False))
