"""Progress of training: a bar or lines on stderr, and curves for TensorBoard."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from llmrec_cli.atomic_files import writing
from llmrec_cli.errors import in_bytes, in_time
from llmrec_cli.pace import LINE_SECONDS, WORTH_A_LINE, silently

_MEASURED_STEPS = 10


def resident_memory() -> int:
    """Return the bytes of main memory that this process uses."""
    return int(psutil.Process().memory_info().rss)


class Curves:
    """Writes events for TensorBoard to a file in `folder`; does nothing if `folder` is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.stream: Any = None
        self.writer: Any = None

    def __enter__(self) -> "Curves":
        if self.folder is not None:
            from tensorboard.summary.writer.record_writer import RecordWriter

            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                # Unbuffered, so that added events survive a kill.
                name = f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
                self.stream = open(self.folder / name, "ab", buffering=0)
            self.writer = RecordWriter(self.stream)
            self._write(file_version="brain.Event:2")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.folder is not None:
            self.stream.close()

    def add(self, event: str, values: dict[str, float], step: int) -> None:
        """Add the values of an event at a step."""
        if self.folder is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            named = [Summary.Value(tag=f"{event}/{name}", simple_value=value) for name, value in values.items()]
            self._write(step=step, summary=Summary(value=named))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self.folder is not None
        with writing(self.folder):
            self.writer.write(Event(wall_time=time.time(), **content).SerializeToString())


class Display:
    """Progress of training as lines on stderr: an estimate of time and memory, one every 30 s, one per epoch.

    The estimate comes after 10 measured steps, or after the first epoch if it is shorter. Training of a few seconds
    prints only its epochs.
    """

    def __init__(self, title: str, num_epochs: int, total_steps: int, done_steps: int,
                 memory: Callable[[], int] = resident_memory, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.num_epochs, self.total_steps, self.steps = title, num_epochs, total_steps, done_steps
        self.memory, self.clock = memory, clock
        self.started = self.last = self.last_line = clock()
        self.num_taken = self.num_measured = self.epochs_left = 0
        self.measured_seconds = 0.0
        self.between_epochs: list[float] = []
        self.is_announced = False

    def step(self, epoch: int, loss: float) -> None:
        """Count a step of an epoch (from 0)."""
        now = self.clock()
        # The first step is slow: libraries load, and memory is allocated.
        if self.num_taken > 0:
            self.num_measured += 1
            self.measured_seconds += now - self.last
        self.num_taken, self.steps, self.last = self.num_taken + 1, self.steps + 1, now
        self.epochs_left = self.num_epochs - epoch
        if self.num_measured >= _MEASURED_STEPS:
            self.announce()
        if now - self.last_line > LINE_SECONDS:
            self.last_line = now
            self.show_step(epoch, loss)

    def epoch(self, epoch: int, loss: float, value: float | None) -> None:
        """Print the mean loss and validation value of a finished epoch (from 0)."""
        now = self.clock()
        self.between_epochs.append(now - self.last)
        self.last, self.epochs_left = now, self.num_epochs - epoch - 1
        self.announce()
        self.show_epoch(epoch, loss, value)

    @property
    def seconds_left(self) -> float:
        """Predicted seconds until the last epoch ends; early stopping may end training before."""
        per_step = self.measured_seconds / max(1, self.num_measured)
        between = sum(self.between_epochs) / max(1, len(self.between_epochs))
        return per_step * (self.total_steps - self.steps) + between * self.epochs_left

    @property
    def rate(self) -> str:
        """Steps per second so far, validation included."""
        return f"{self.num_taken / max(self.clock() - self.started, 1e-9):.1f} steps/s"

    def announce(self) -> None:
        """Print the estimate, once, if training takes more than a few seconds."""
        if self.is_announced:
            return
        self.is_announced = True
        left = self.seconds_left
        if left > WORTH_A_LINE:
            validation = "" if self.between_epochs else ", and the time of validation"
            self.print(f"{self.title}: at most {self.num_epochs} epochs, {self.total_steps:,} steps, take about "
                       f"{in_time(left)} more{validation}; {in_bytes(self.memory())} of memory in use")

    def show_step(self, epoch: int, loss: float) -> None:
        """Print a line on training in the middle of an epoch (from 0)."""
        self.print(f"{self.title}: epoch {epoch + 1}/{self.num_epochs}, step {self.steps:,}/{self.total_steps:,}, loss "
                   f"{loss:.4f}, about {in_time(self.seconds_left)} left")

    def show_epoch(self, epoch: int, loss: float, value: float | None) -> None:
        """Print a line on a finished epoch (from 0)."""
        validation = "" if value is None else f", validation {value:.4f}"
        left = self.seconds_left
        more = f", about {in_time(left)} left" if left > WORTH_A_LINE else ""
        self.print(f"{self.title}: epoch {epoch + 1}/{self.num_epochs}, loss {loss:.4f}{validation}, {self.rate}{more}")

    def print(self, line: str) -> None:
        """Print a line to stderr."""
        print(line, file=sys.stderr)


class Bar(Display):
    """A progress bar on the terminal; on a narrow one the figures stay and the bar gives way."""

    def __init__(self, title: str, num_epochs: int, total_steps: int, done_steps: int,
                 memory: Callable[[], int] = resident_memory, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(title, num_epochs, total_steps, done_steps, memory)
        # Without wrapping, the text takes the width it needs and the bar what is left.
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        self.bar = Progress(text, BarColumn(bar_width=None, table_column=Column(ratio=1)), expand=True,
                            console=console or Console(stderr=True))
        self.task = self.bar.add_task(title, total=total_steps, completed=done_steps)
        self.value = ""

    def step(self, epoch: int, loss: float) -> None:
        """Count a step and move the bar. The time left comes first, as a narrow terminal cuts the end."""
        super().step(epoch, loss)
        left = f", {in_time(self.seconds_left)} left" if self.num_measured else ""
        self.bar.update(self.task, completed=self.steps, description=(
            f"{self.title}: epoch {epoch + 1}/{self.num_epochs}{left}, step {self.steps:,}/{self.total_steps:,}, "
            f"loss {loss:.3f}{self.value}, {self.rate}"))

    def show_step(self, epoch: int, loss: float) -> None:
        """Do nothing: the bar shows it."""

    def show_epoch(self, epoch: int, loss: float, value: float | None) -> None:
        """Show the validation value in the bar from now on."""
        self.value = "" if value is None else f", validation {value:.4f}"

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_display(title: str, num_epochs: int, total_steps: int, done_steps: int,
                 memory: Callable[[], int]) -> Iterator[Display]:
    """Yield a progress bar if stderr is a terminal, else lines. `memory` returns the bytes in use."""
    with silently():
        if not sys.stderr.isatty():
            yield Display(title, num_epochs, total_steps, done_steps, memory)
            return
        bar = Bar(title, num_epochs, total_steps, done_steps, memory)
        with bar.bar:
            yield bar
