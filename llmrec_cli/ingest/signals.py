"""Ctrl-C and SIGTERM end a run at once and as what they are, also in the middle of a query.

Python runs a signal's handler between two of its own steps. DuckDB asks for that during a query, but makes a
RuntimeError of what the handler raises, and while rows are fetched as Arrow it does not ask at all; py4j makes errors
of its own. So what the handler raised is kept, and is what is raised in the end.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_HEEDED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def heeding_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Raise what the handlers of SIGTERM and SIGINT raise, whatever became of it in the block.

    `stop` is called from another thread as soon as one of them arrives; it makes a query that is running fail.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    raised: list[BaseException] = []
    before = {number: signal.getsignal(number) for number in _HEEDED}
    heeded = {number: handler for number, handler in before.items() if callable(handler)}
    for number, handler in heeded.items():
        signal.signal(number, _keeping(handler, raised))
    with _told_at_once({int(number) for number in heeded}, stop):
        try:
            yield
        except Exception:
            if not raised:
                raise
        finally:
            for number, handler in heeded.items():
                signal.signal(number, handler)
    if raised:
        raise raised[0]


def _keeping(handler: Callable[..., Any], raised: list[BaseException]) -> Callable[..., None]:
    """Return a signal handler that does what `handler` does and keeps what it raises."""
    def kept(*arguments: Any) -> None:
        try:
            handler(*arguments)
        except BaseException as error:
            raised.append(error)
            raise

    return kept


@contextmanager
def _told_at_once(numbers: set[int], stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in a thread of its own when one of the signals arrives, whatever the main thread is busy with."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        # The interpreter writes the number of each signal as one byte; the end of the pipe is the end of the block.
        while byte := os.read(reading, 1):
            if byte[0] in numbers:
                stop()

    waiting = threading.Thread(target=wait, name="signals", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        waiting.join()
        os.close(reading)
