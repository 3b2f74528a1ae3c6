"""The training loop of all heads; it takes a model, a loss, batches and an optional validation callback."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import nn

from llmrec_cli import distributed as processes
from llmrec_cli.atomic_files import require_room
from llmrec_cli.errors import DivergedError
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.optim import OptimSettings
from llmrec_cli.training.allocator import keep_freed_memory
from llmrec_cli.training.checkpoint import (
    Progress,
    Weights,
    checkpoint_size,
    load_checkpoint,
    random_states,
    remove_checkpoints,
    remove_leftovers,
    save_checkpoint,
    set_random_states,
    trained_parameters,
)
from llmrec_cli.training.context import Length, TrainContext, TrainResult
from llmrec_cli.training.ema import Ema
from llmrec_cli.training.optim import Rates, build_optimizer, learning_rate_share, set_learning_rate
from llmrec_cli.training.progress import Curves, Display, open_display, resident_memory
from llmrec_cli.training.signals import Interrupts, Stopped
from llmrec_cli.training.step import Gradients, Loss, Shrink, Split

Batch = TypeVar("Batch")


def train(model: nn.Module, batches: Callable[[int, np.random.Generator], Iterable[Batch]],
          loss: Loss, rates: Rates, settings: OptimSettings, length: Length,
          context: TrainContext, validate: Callable[[], float] | None = None,
          after_step: Callable[[int], None] | None = None, split: Split | None = None,
          shrink: Shrink | None = None) -> TrainResult:
    """Train `model` in place and leave it in eval mode, with `validate` at the weights of its best epoch.

    `rates` are modules inside `model` with their peak learning rates; together they hold all trained parameters.
    `batches(epoch, generator)` gives the `steps_per_epoch` batches of an epoch. Batches depend on these arguments only
    and should be light (row numbers), since a resumed run draws finished batches again and drops them. `loss(batch)` is
    a scalar; torch's random streams are seeded for it and restored afterwards. `validate()` is called in eval mode
    after each epoch, higher is better; training stops after `settings.patience` epochs without a new best.
    `after_step` is called with the number of steps after each optimiser step, with the gradients still in place. State
    that it changes besides parameters must be in persistent buffers, which are part of checkpoints. If memory runs out,
    `shrink` or `split` makes the step smaller; `split` also divides a step between processes (see `Gradients`).

    A signal ends training after the current step, with a checkpoint. Raises DivergedError before a NaN or infinite loss
    or gradient reaches a weight, ResourceError without enough memory or disk space for checkpoints.
    """
    if not processes.is_first():
        context = replace(context, checkpoints=None, tensorboard=None, log=lambda event, **values: None)
    optimizer = build_optimizer(rates, settings)
    gradients = Gradients([p for group in optimizer.param_groups for p in group["params"]], loss, split, shrink,
                          context.device, context.seed, settings.precision, context.title,
                          context.log)
    loop = _Loop(model, optimizer, gradients, settings, length, context, after_step)
    with _own_randomness(context), loop.curves, loop.interrupts.defer(), keep_freed_memory():
        loop.begin(validates=validate is not None)
        loop.run(batches, validate)
    progress = loop.progress
    best_value = progress.values[progress.best_epoch - 1] if progress.values else None
    best_epoch = progress.best_epoch if validate else progress.epoch
    return TrainResult(best_epoch, best_value, progress.losses, progress.values)


class _Loop:
    """The state of one call of `train`."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, gradients: Gradients,
                 settings: OptimSettings, length: Length, context: TrainContext,
                 after_step: Callable[[int], None] | None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.gradients = gradients
        self.settings = settings
        self.length = length
        self.context = context
        self.after_step = after_step
        self.parameters = trained_parameters(model)
        assert {id(p) for p in gradients.parameters} == {id(p) for p in self.parameters.values()}, \
            "rates and model have different trained parameters"
        self.ema = Ema(self.parameters, settings.ema)
        self.weights = Weights(average=self.ema.average)
        self.interrupts = Interrupts()
        self.progress = Progress()
        self.saved_step = -1
        self.curves = Curves(context.tensorboard)
        # The interval of checkpoints does not change the result.
        self.plan = {f"optim.{key}": value for key, value in to_plain(settings).items() if key != "checkpoint_every"}
        self.plan |= {"seed": context.seed, **to_plain(length), **context.same}
        if processes.count() > 1:
            self.plan["torchrun --nproc_per_node"] = processes.count()

    def begin(self, validates: bool) -> None:
        """Resume from the newest checkpoint, or remove old checkpoints and start anew."""
        folder = self.context.checkpoints
        if folder is not None:
            remove_leftovers(folder)
            num_copies = int(validates) + int(self.settings.ema > 0)
            require_room(folder, 2 * checkpoint_size(self.model, num_copies), "twice a checkpoint")
        if self.context.resume_from is not None:
            self.progress = load_checkpoint(self.context.resume_from, self.model, self.optimizer, self.weights,
                                            self.plan)
            self.gradients.restore(self.progress)
            self.context.log("resume", step=self.progress.step, epoch=self.progress.epoch)
        elif folder is not None:
            remove_checkpoints(folder)

    def run(self, batches: Callable[[int, np.random.Generator], Iterable[Any]],
            validate: Callable[[], float] | None) -> None:
        """Run the remaining epochs."""
        progress, total = self.progress, self.length.num_epochs * self.length.steps(self.settings.accumulate)
        with open_display(self.context.title, self.length.num_epochs, total, progress.step,
                          self._memory_in_use) as display:
            while progress.epoch < self.length.num_epochs and not self._is_exhausted():
                self._epoch(batches, display)
                value = None if validate is None else self._validate(validate)
                progress.losses.append(progress.epoch_loss / progress.position)
                display.epoch(progress.epoch, progress.losses[-1], value)
                progress.epoch, progress.position, progress.epoch_loss = progress.epoch + 1, 0, 0.0
        if self.interrupts.has_arrived():
            self._stop()
        self.model.eval()
        self.ema.put(self.weights.best or self.ema.average)

    def _epoch(self, batches: Callable[[int, np.random.Generator], Iterable[Any]], display: Display) -> None:
        """Take the remaining steps of an epoch."""
        progress = self.progress
        self.model.train()
        generator = np.random.default_rng([self.context.seed, progress.epoch])
        for group in _groups(islice(batches(progress.epoch, generator), progress.position, None),
                             self.settings.accumulate):
            display.step(progress.epoch, self._step(group))
            if self.interrupts.has_arrived():
                self._stop()
        assert progress.position == self.length.steps_per_epoch, "batches() gave fewer batches than steps_per_epoch"
        self.model.eval()

    def _step(self, batches: list[Any]) -> float:
        """Take one step of the optimiser and return the loss before it."""
        progress, settings = self.progress, self.settings
        total = self.length.schedule_epochs * self.length.steps(settings.accumulate)
        rate = set_learning_rate(self.optimizer, learning_rate_share(progress.step, total, settings.warmup_share,
                                                                     settings.schedule))
        value = self.gradients.compute(batches, progress)
        norm = nn.utils.clip_grad_norm_(self.gradients.parameters, settings.max_gradient_norm)
        loss_value, gradient_norm = torch.stack([value, norm.float()]).tolist()
        for what, number in (("loss", loss_value), ("gradient's norm", gradient_norm)):
            if not math.isfinite(number):
                raise DivergedError(f"{self.context.title}: the {what} is {number} at step {progress.step + 1}; "
                                    f"lower optim.learning_rate={self._peak()} (and "
                                    f"optim.encoder_learning_rate) or raise optim.warmup_share. Nothing was published")
        self.optimizer.step()
        progress.step, progress.position = progress.step + 1, progress.position + len(batches)
        progress.epoch_loss += loss_value * len(batches)
        if self.after_step is not None:
            self.after_step(progress.step)
        self.ema.update(progress.step)
        self._log("step", {"step": progress.step}, loss=loss_value, learning_rate=rate)
        if progress.step % settings.checkpoint_every == 0:
            self._save()
        return loss_value

    def _validate(self, validate: Callable[[], float]) -> float:
        """Return the validation value after an epoch, and copy the weights if it is the best so far."""
        states = random_states(self.context.device)
        try:
            with self.ema.in_place():
                with self.interrupts.raise_at_once():
                    value = processes.broadcast_from_first(validate())
                self._judge(value)
        except Stopped:
            # Undo the validation; a resumed run repeats it.
            set_random_states(states, self.context.device)
            self._stop()
        self._log("validation", {"epoch": self.progress.epoch + 1}, value=value)
        return value

    def _judge(self, value: float) -> None:
        """Record a validation value, and copy the weights if it is the best so far."""
        progress = self.progress
        if not math.isfinite(value):
            raise DivergedError(f"{self.context.title}: the validation value is {value} after epoch "
                                f"{progress.epoch + 1}; lower optim.learning_rate={self._peak()}. "
                                f"Nothing was published")
        if not progress.values or value > progress.values[progress.best_epoch - 1]:
            progress.best_epoch = progress.epoch + 1
            self.weights.best = {name: p.detach().clone() for name, p in self.parameters.items()}
        progress.values.append(value)

    def _memory_in_use(self) -> int:
        """Return the bytes that training uses on its device."""
        device = self.context.device
        return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_memory()

    def _peak(self) -> float:
        """Return the configured learning rate, or the highest default of the trained modules."""
        rate = self.settings.learning_rate
        return max(group["peak"] for group in self.optimizer.param_groups) if rate is None else rate

    def _is_exhausted(self) -> bool:
        """Return True if the last `patience` validations brought no new best."""
        return len(self.progress.values) - self.progress.best_epoch >= self.settings.patience

    def _save(self) -> None:
        """Write a checkpoint, unless there is no folder for it or this step has one already."""
        folder = self.context.checkpoints
        if folder is not None and self.saved_step != self.progress.step:
            save_checkpoint(folder, self.model, self.optimizer, self.weights, self.progress, self.plan)
            self.saved_step = self.progress.step

    def _stop(self) -> NoReturn:
        """End the run after a signal."""
        self._save()
        self.context.log("interrupted", step=self.progress.step, signal=self.interrupts.number,
                         epoch=min(self.progress.epoch + 1, self.length.num_epochs), epochs=self.length.num_epochs)
        self.interrupts.exit()

    def _log(self, event: str, when: dict[str, int], **values: float) -> None:
        self.context.log(event, **when, **values)
        self.curves.add(event, values, self.progress.step)


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of `size` batches, the last perhaps of fewer."""
    while group := list(islice(batches, size)):
        yield group


@contextmanager
def _own_randomness(context: TrainContext) -> Iterator[None]:
    """Seed torch's random streams in the block and restore them afterwards."""
    devices = [context.device] if context.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(context.seed)
        yield
