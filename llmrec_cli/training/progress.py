"""Progress of training: a bar or lines on stderr, and curves for TensorBoard."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from llmrec_cli.atomic_files import writing


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
    """A line per epoch on stderr."""

    def __init__(self, title: str, num_epochs: int) -> None:
        self.title = title
        self.num_epochs = num_epochs
        self.steps = 0
        self.started = time.monotonic()

    def step(self, epoch: int, loss: float) -> None:
        """Count a step."""
        self.steps += 1

    def epoch(self, epoch: int, loss: float, value: float | None) -> None:
        """Print the mean loss and validation value of a finished epoch (from 0)."""
        rate = self.steps / max(time.monotonic() - self.started, 1e-9)
        validation = "" if value is None else f", validation {value:.4f}"
        print(f"{self.title}: epoch {epoch + 1}/{self.num_epochs}, loss {loss:.4f}{validation}, {rate:.1f} steps/s",
              file=sys.stderr)


class Bar(Display):
    """A progress bar on the terminal."""

    def __init__(self, title: str, num_epochs: int, total_steps: int, done_steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(title, num_epochs)
        self.bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=Console(stderr=True))
        self.task = self.bar.add_task(title, total=total_steps, completed=done_steps, rate="")
        self.value = ""

    def step(self, epoch: int, loss: float) -> None:
        super().step(epoch, loss)
        rate = self.steps / max(time.monotonic() - self.started, 1e-9)
        self.bar.update(self.task, advance=1, rate=f"{rate:.1f} steps/s", description=(
            f"{self.title}: epoch {epoch + 1}/{self.num_epochs}, loss {loss:.3f}{self.value}"))

    def epoch(self, epoch: int, loss: float, value: float | None) -> None:
        self.value = "" if value is None else f", validation {value:.4f}"


@contextmanager
def open_display(title: str, num_epochs: int, total_steps: int, done_steps: int) -> Iterator[Display]:
    """Yield a progress bar if stderr is a terminal, else a line per epoch."""
    if not sys.stderr.isatty():
        yield Display(title, num_epochs)
        return
    bar = Bar(title, num_epochs, total_steps, done_steps)
    with bar.bar:
        yield bar
