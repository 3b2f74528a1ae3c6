"""Time of repeated work: measured, predicted, and printed to stderr where it takes more than seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from llmrec_cli.errors import in_time

WORTH_A_LINE = 5.0
"""Predicted seconds above which an estimate is printed."""
LINE_SECONDS = 30.0
"""Seconds between lines on the progress of long work."""
_MEASURED_SECONDS = 1.0
"""Seconds of work after which its pace counts as measured."""

Part = TypeVar("Part")


def timed_parts(title: str, unit: str, parts: Sequence[Part], amounts: Sequence[float] | None = None,
                counts: Sequence[int] | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Part]:
    """Yield the parts of some work; print an estimate of its time, a line every 30 s, and the time it took.

    `amounts` are proportional to the time of each part, and `counts` are the units of each; null: 1 each. Nothing is
    printed about work of less than 5 s.
    """
    amounts = [1.0] * len(parts) if amounts is None else amounts
    counts = [1] * len(parts) if counts is None else counts
    total, num_units = sum(amounts), sum(counts)
    started = last_line = clock()
    done, num_done, is_announced = 0.0, 0, False
    for part, amount, count in zip(parts, amounts, counts, strict=True):
        yield part
        done, num_done, now = done + amount, num_done + count, clock()
        seconds = now - started
        left = seconds * (total - done) / max(done, 1e-9)
        if not is_announced and seconds > _MEASURED_SECONDS and seconds + left > WORTH_A_LINE:
            is_announced = True
            print(f"{title}: {num_units:,} {unit} take about {in_time(seconds + left)}", file=sys.stderr)
        if now - last_line > LINE_SECONDS and num_done < num_units:
            last_line = now
            print(f"{title}: {num_done:,} of {num_units:,} {unit}, about {in_time(left)} left", file=sys.stderr)
    if (seconds := clock() - started) > WORTH_A_LINE:
        print(f"{title}: {num_units:,} {unit} took {in_time(seconds)}", file=sys.stderr)


@contextmanager
def still_working(title: str, every: float = LINE_SECONDS) -> Iterator[None]:
    """Print a line every 30 s while the block runs, for work that cannot count its steps."""
    is_done, started = threading.Event(), time.monotonic()

    def print_lines() -> None:
        while not is_done.wait(every):
            print(f"{title}, {in_time(time.monotonic() - started)} so far", file=sys.stderr)

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
