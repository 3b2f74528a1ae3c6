"""SIGTERM and Ctrl-C in training: the run finishes its step, writes a checkpoint, and stops.

A second signal stops at once. A half-written checkpoint is lost then, since it is still in a temporary folder.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from llmrec_cli import distributed as processes

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME_SECONDS = 2.0
"""Seconds within which a second signal counts as the first: torchrun repeats signals that a terminal sends to all."""


class Stopped(BaseException):
    """A signal arrived where nothing has to be finished first."""


class Interrupts:
    """Defers SIGTERM and SIGINT until the flag `has_arrived` is polled."""

    def __init__(self) -> None:
        self.number = 0
        self.arrived_at = 0.0
        self.is_deferring = True
        self.before: dict[int, Any] = {}

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Defer signals in the block. Signals without a Python handler are left alone."""
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self.before = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in self.before:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    @contextmanager
    def raise_at_once(self) -> Iterator[None]:
        """Raise Stopped when a signal arrives in the block, or at once if one has arrived before."""
        self.is_deferring = False
        try:
            if self.number:
                raise Stopped
            yield
        finally:
            self.is_deferring = True

    def has_arrived(self) -> bool:
        """Return True if a signal has arrived in any process; all processes see it at the same step."""
        self.number = processes.max_over_processes([self.number])[0]
        return self.number > 0

    def exit(self) -> NoReturn:
        """End the run: call the signal's original handler, or exit with the signal's code."""
        if self.number in self.before:
            self.before[self.number](self.number, None)
        # Reached if the signal arrived in another process, or if the handler does nothing.
        raise SystemExit(128 + self.number)

    def _handle(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        again, self.number = self.number > 0, number
        if again and not (processes.count() > 1 and now - self.arrived_at < _SAME_SECONDS):
            self.before[number](number, frame)
        self.arrived_at = now
        if not again and not self.is_deferring:
            raise Stopped
