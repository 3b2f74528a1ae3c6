"""SIGTERM and Ctrl-C in training: what was asked to stop ends its step, writes a checkpoint, and stops.

A second signal stops at once; whatever is half written then vanishes, since it has no name yet.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from llmrec_cli import distributed as processes

_HEEDED = (signal.SIGTERM, signal.SIGINT)
_SAME_SECONDS = 2.0
"""torchrun passes on what a terminal has sent to all its processes already: two signals so close are one."""


class Stopped(BaseException):
    """A signal came where nothing needs to be ended first."""


class Interrupts:
    """Signals that wait, once `heeded`."""

    def __init__(self) -> None:
        self.number = 0
        self.came_at = 0.0
        self.waits = True
        self.before: dict[int, Any] = {}

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Let signals wait, until `asked` is looked at. Those that nobody handles stay as they are."""
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _HEEDED}
            self.before = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in self.before:
            signal.signal(number, self._came)
        try:
            yield
        finally:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Stopped where a signal comes in the block, or has come before it."""
        self.waits = False
        try:
            if self.number:
                raise Stopped
            yield
        finally:
            self.waits = True

    def asked(self) -> bool:
        """Return whether a signal has come to any of the processes; all of them learn it at the same step."""
        self.number = processes.max_over_processes([self.number])[0]
        return self.number > 0

    def go(self) -> NoReturn:
        """Do what the signal did before it had to wait: end the run with its exit code."""
        if self.number in self.before:
            self.before[self.number](self.number, None)
        # The handler of a process that another one's signal stops, or one that does nothing.
        raise SystemExit(128 + self.number)

    def _came(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        again, self.number = self.number > 0, number
        if again and not (processes.count() > 1 and now - self.came_at < _SAME_SECONDS):
            self.before[number](number, frame)
        self.came_at = now
        if not again and not self.waits:
            raise Stopped
