"""The one training loop. It is given a model, a loss, batches and perhaps a validation, and never names a head."""

import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from llmrec_cli.errors import DivergedError
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.optim import AdamW
from llmrec_cli.training.checkpoint import (
    Best,
    Progress,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    trained_parameters,
)
from llmrec_cli.training.optim import Rates, build_optimizer, learning_rate_share, set_learning_rate
from llmrec_cli.training.progress import display

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Length:
    """How long training lasts.

    Attributes
    ----------
    num_epochs : epochs to run, fewer when validation stops it
    steps_per_epoch : batches of every epoch
    schedule_epochs : epochs after which the learning rate would be 0; a refit of 3 epochs out of 20 keeps 20 here
    """

    num_epochs: int
    steps_per_epoch: int
    schedule_epochs: int


@dataclass(frozen=True)
class Surroundings:
    """Where training takes place and whom it tells.

    Attributes
    ----------
    device : where the model is
    seed : of batches and dropout
    log : called with an event and its values
    checkpoints : folder for checkpoints; None to write none
    resume_from : folder whose newest checkpoint is gone on from; None to start anew
    tensorboard : folder for TensorBoard events; None to write none
    title : what the progress is headed with
    same : what else must be the same when training is gone on with, by the key to name when it is not
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
class Trained:
    """What came of it.

    Attributes
    ----------
    best_epoch : epochs trained for the weights that the model has now
    best_value : their validation value, None without validation
    losses, values : mean training loss and validation value of each epoch
    """

    best_epoch: int
    best_value: float | None
    losses: list[float]
    values: list[float]


def train(model: nn.Module, batches: Callable[[int, np.random.Generator], Iterable[Batch]],
          loss: Callable[[Batch], torch.Tensor], rates: Rates, settings: AdamW, length: Length,
          surroundings: Surroundings, validate: Callable[[], float] | None = None,
          after_step: Callable[[int], None] | None = None) -> Trained:
    """Train `model` in place and leave it in eval mode, with validation at the weights of its best epoch.

    `rates` are modules inside `model` with their peak learning rate, together all that is trained. `batches(epoch,
    generator)` gives the `steps_per_epoch` batches of an epoch; they may depend on nothing but its arguments and should
    be light (row numbers), since a resumed run draws those behind it again and drops them. `loss(batch)` is a scalar;
    torch's random stream in it is seeded and restored. `validate()` is called after each epoch in eval mode, higher is
    better; training stops after `settings.patience` epochs without a new best. `after_step` is called with the number of
    steps taken, behind each step of the optimiser and while its gradients are still there; what it changes beside
    parameters must be in persistent buffers, which are part of checkpoints. Raises DivergedError before a NaN or infinite
    loss or gradient reaches a weight.
    """
    optimizer = build_optimizer(rates, settings)
    loop = _Loop(model, optimizer, settings, length, surroundings, after_step)
    with _own_randomness(surroundings), _tensorboard(surroundings.tensorboard) as board:
        if surroundings.resume_from is not None:
            loop.progress, loop.best = load_checkpoint(surroundings.resume_from, model, optimizer, loop.plan)
            surroundings.log("resume", step=loop.progress.step, epoch=loop.progress.epoch)
        elif surroundings.checkpoints is not None:
            remove_checkpoints(surroundings.checkpoints)
        loop.board = board
        loop.run(batches, loss, validate)
    progress = loop.progress
    best_value = progress.values[progress.best_epoch - 1] if progress.values else None
    return Trained(progress.best_epoch if validate else progress.epoch, best_value, progress.losses, progress.values)


class _Loop:
    """The state of one call of `train`."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.AdamW, settings: AdamW, length: Length,
                 surroundings: Surroundings, after_step: Callable[[int], None] | None) -> None:
        self.after_step = after_step
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.length = length
        self.surroundings = surroundings
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        known = {id(p) for p in trained_parameters(model).values()}
        assert {id(p) for p in self.parameters} == known, "rates and model have different trained parameters"
        self.progress = Progress()
        self.best: Best = {}
        self.board: Any = None
        # The interval of checkpoints changes nothing about the result.
        self.plan = {f"optim.{key}": value for key, value in to_plain(settings).items() if key != "checkpoint_every"}
        self.plan |= {"seed": surroundings.seed, **to_plain(length), **surroundings.same}

    def run(self, batches: Callable[[int, np.random.Generator], Iterable[Any]], loss: Callable[[Any], torch.Tensor],
            validate: Callable[[], float] | None) -> None:
        """Run the epochs that are left."""
        progress, total = self.progress, self.length.num_epochs * self.length.steps_per_epoch
        with display(self.surroundings.title, self.length.num_epochs, total, progress.step) as shown:
            while progress.epoch < self.length.num_epochs and not self._exhausted():
                self.model.train()
                generator = np.random.default_rng([self.surroundings.seed, progress.epoch])
                for batch in islice(batches(progress.epoch, generator), progress.position, None):
                    shown.step(progress.epoch, self._step(batch, loss))
                assert progress.position == self.length.steps_per_epoch, "batches() broke its promise"
                self.model.eval()
                value = None if validate is None else self._validate(validate)
                progress.losses.append(progress.epoch_loss / progress.position)
                shown.epoch(progress.epoch, progress.losses[-1], value)
                progress.epoch, progress.position, progress.epoch_loss = progress.epoch + 1, 0, 0.0
        self.model.eval()
        with torch.no_grad():
            for name, parameter in trained_parameters(self.model).items() if self.best else ():
                parameter.copy_(self.best[name])

    def _step(self, batch: Any, loss: Callable[[Any], torch.Tensor]) -> float:
        """Take one step of the optimiser and return the loss before it."""
        progress, settings = self.progress, self.settings
        total = self.length.schedule_epochs * self.length.steps_per_epoch
        rate = set_learning_rate(self.optimizer, learning_rate_share(progress.step, total, settings.warmup_share))
        self.optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.max_gradient_norm)
        loss_value, gradient_norm = torch.stack([value.detach().float(), norm.float()]).tolist()
        for what, number in (("loss", loss_value), ("gradient's norm", gradient_norm)):
            if not math.isfinite(number):
                raise DivergedError(f"{self.surroundings.title}: the {what} is {number} at step {progress.step + 1}; "
                                    f"lower optim.learning_rate={settings.learning_rate} (and "
                                    f"optim.encoder_learning_rate) or raise optim.warmup_share. Nothing was published")
        self.optimizer.step()
        progress.step, progress.position = progress.step + 1, progress.position + 1
        progress.epoch_loss += loss_value
        if self.after_step is not None:
            self.after_step(progress.step)
        self._tell("step", {"step": progress.step}, loss=loss_value, learning_rate=rate)
        if self.surroundings.checkpoints is not None and progress.step % settings.checkpoint_every == 0:
            save_checkpoint(self.surroundings.checkpoints, self.model, self.optimizer, self.best, progress, self.plan)
        return loss_value

    def _validate(self, validate: Callable[[], float]) -> float:
        """Return the validation value after an epoch, and keep the weights if it is the best so far."""
        progress = self.progress
        value = validate()
        if not math.isfinite(value):
            raise DivergedError(f"{self.surroundings.title}: the validation value is {value} after epoch "
                                f"{progress.epoch + 1}; lower optim.learning_rate={self.settings.learning_rate}. "
                                f"Nothing was published")
        if not progress.values or value > progress.values[progress.best_epoch - 1]:
            progress.best_epoch = progress.epoch + 1
            self.best = {name: p.detach().clone() for name, p in trained_parameters(self.model).items()}
        progress.values.append(value)
        self._tell("validation", {"epoch": progress.epoch + 1}, value=value)
        return value

    def _exhausted(self) -> bool:
        """Return whether the last `patience` validations brought nothing."""
        return len(self.progress.values) - self.progress.best_epoch >= self.settings.patience

    def _tell(self, event: str, when: dict[str, int], **values: float) -> None:
        self.surroundings.log(event, **when, **values)
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{event}/{name}", value, self.progress.step)


@contextmanager
def _own_randomness(surroundings: Surroundings) -> Any:
    """Seed torch's streams for this training alone."""
    devices = [surroundings.device] if surroundings.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(surroundings.seed)
        yield


@contextmanager
def _tensorboard(folder: Path | None) -> Any:
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        yield writer
