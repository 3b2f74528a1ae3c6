"""Inputs and result of `train`: schedule, context, outcome."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Length:
    """Length of training.

    Attributes
    ----------
    num_epochs : epochs to run, fewer if validation stops training early
    steps_per_epoch : batches of every epoch, each a step unless settings.accumulate is more than 1
    schedule_epochs : epochs after which the learning rate reaches 0; a refit of 3 epochs out of 20 keeps 20 here
    """

    num_epochs: int
    steps_per_epoch: int
    schedule_epochs: int

    def steps(self, accumulate: int) -> int:
        """Return the optimiser steps of an epoch, each on `accumulate` batches, the last perhaps on fewer."""
        return -(-self.steps_per_epoch // accumulate)


@dataclass(frozen=True)
class TrainContext:
    """Device, seed, folders and log of training.

    Attributes
    ----------
    device : device of the model
    seed : seed of batches and dropout
    log : called with an event and its values
    checkpoints : folder for checkpoints; None to write none
    resume_from : folder whose newest checkpoint is resumed; None to start anew
    tensorboard : folder for TensorBoard events; None to write none
    title : heading of progress lines and messages
    same : further values that a resumed run must share, by the key that the error message names
    """

    device: torch.device
    seed: int
    log: Callable[..., None] = field(default=lambda event, **values: None)
    checkpoints: Path | None = None
    resume_from: Path | None = None
    tensorboard: Path | None = None
    title: str = "training"
    same: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """Result of training.

    Attributes
    ----------
    best_epoch : number of epochs behind the model's final weights
    best_value : validation value of these weights, None without validation
    losses, values : mean training loss and validation value of each epoch
    """

    best_epoch: int
    best_value: float | None
    losses: list[float]
    values: list[float]
