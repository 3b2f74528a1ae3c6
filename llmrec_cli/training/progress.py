"""Showing how training goes: a bar with rate and time left on a terminal, a line per epoch elsewhere; on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Display:
    """A line per epoch on stderr."""

    def __init__(self, title: str, num_epochs: int) -> None:
        self.title = title
        self.num_epochs = num_epochs
        self.steps = 0
        self.started = time.monotonic()

    def step(self, epoch: int, loss: float) -> None:
        """Show that a step was taken."""
        self.steps += 1

    def epoch(self, epoch: int, loss: float, value: float | None) -> None:
        """Show that an epoch (from 0) ended with this mean loss and validation value."""
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
def display(title: str, num_epochs: int, total_steps: int, done_steps: int) -> Iterator[Display]:
    """Yield what shows the progress, fit for where stderr goes."""
    if not sys.stderr.isatty():
        yield Display(title, num_epochs)
        return
    bar = Bar(title, num_epochs, total_steps, done_steps)
    with bar.bar:
        yield bar
