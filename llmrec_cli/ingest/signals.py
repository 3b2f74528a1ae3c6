"""Ctrl-C and SIGTERM end a run at once and with their own exception, also in the middle of a query.

Python runs signal handlers between its own bytecode steps. DuckDB lets it do so during a query, but turns the
handler's exception into a RuntimeError; while fetching rows as Arrow it runs no handlers at all. py4j raises errors of
its own. So the handler's exception is stored here and raised when the block ends.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def reraise_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Raise the exception of the SIGTERM or SIGINT handler, even if code in the block replaced or swallowed it.

    `stop` is called from another thread as soon as a signal arrives; it makes a running query fail.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    raised: list[BaseException] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number, handler in handlers.items():
        signal.signal(number, _recording(handler, raised))
    with _stopping_at_once({int(number) for number in handlers}, stop):
        try:
            yield
        except Exception:
            if not raised:
                raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if raised:
        raise raised[0]


def _recording(handler: Callable[..., Any], raised: list[BaseException]) -> Callable[..., None]:
    """Return a signal handler that calls `handler` and stores the exception it raises in `raised`."""
    def recording(*arguments: Any) -> None:
        try:
            handler(*arguments)
        except BaseException as error:
            raised.append(error)
            raise

    return recording


@contextmanager
def _stopping_at_once(numbers: set[int], stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in a thread of its own when one of the signals arrives, even while the main thread is busy."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        # The interpreter writes the number of each signal as one byte; the pipe ends when the block ends.
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
