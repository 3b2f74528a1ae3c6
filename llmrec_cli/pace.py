"""Long work: predicted time before it, and every 30 s a line on stderr with what is under way and how far it is.

Work is nested: a command compares models, and each model ranks queries. The outermost work starts a thread that prints
one line for all of them:

    evaluate, 1 min 30 s so far: ranked 1 of 3 models, by tower 2,048 of 6,040 queries, about 40 s left
"""

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


class Work:
    """A piece of work under way.

    Attributes
    ----------
    title : beginning of its line
    unit : name of what it counts, in the plural; "" for work without steps
    num_units, num_done : numbers of these, all and finished
    share : finished part of the work, 0 to 1; 0 if unknown
    started : time of its start
    prints_itself : it prints its own progress, and so there are no other lines meanwhile
    """

    def __init__(self, title: str, unit: str = "", num_units: int = 0, clock: Callable[[], float] = time.monotonic,
                 prints_itself: bool = False) -> None:
        self.title, self.unit, self.num_units, self.num_done, self.share = title, unit, num_units, 0, 0.0
        self.clock, self.started, self.prints_itself = clock, clock(), prints_itself

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    @property
    def seconds_left(self) -> float:
        """Predicted seconds until the end, from the pace so far; 0 if nothing is finished yet."""
        return self.seconds * (1 - self.share) / self.share if self.share else 0.0

    def __str__(self) -> str:
        return f"{self.title} {self.num_done:,} of {self.num_units:,} {self.unit}" if self.unit else self.title


class _OfThread(threading.local):
    """The work of each thread, outermost first; commands may run in several threads of a program."""

    def __init__(self) -> None:
        self.works: list[Work] = []


_under_way = _OfThread()


@contextmanager
def under_way(work: Work) -> Iterator[Work]:
    """Name the work in the lines that are printed while the block runs; the outermost work has them printed."""
    works = _under_way.works
    works.append(work)
    if works[0] is not work:
        try:
            yield work
        finally:
            if work in works:
                works.remove(work)
        return
    is_done = threading.Event()
    thread = threading.Thread(target=_print_lines, args=(is_done, works), daemon=True)
    thread.start()
    try:
        yield work
    finally:
        is_done.set()
        thread.join()
        # Also the work of a generator that was left in the middle and is not collected yet.
        works.clear()


@contextmanager
def still_working(title: str) -> Iterator[None]:
    """Name work without steps in the lines, while the block or the decorated function runs."""
    with under_way(Work(title)):
        yield


@contextmanager
def silently() -> Iterator[None]:
    """Print no lines while the block runs, since it prints its own."""
    with under_way(Work("", prints_itself=True)):
        yield


def _print_lines(is_done: threading.Event, works: Sequence[Work]) -> None:
    while not is_done.wait(LINE_SECONDS):
        now = list(works)
        if now and not any(work.prints_itself for work in now):
            print(line_on(now), file=sys.stderr)


def line_on(works: Sequence[Work]) -> str:
    """Return the line on nested work, outermost first; the time left is that of the innermost."""
    inner = ", ".join(str(work) for work in works[1:])
    left = f", about {in_time(works[-1].seconds_left)} left" if works[-1].share else ""
    return f"{works[0]}, {in_time(works[0].seconds)} so far{': ' * bool(inner)}{inner}{left}"


def timed_parts(title: str, unit: str, parts: Sequence[Part], amounts: Sequence[float] | None = None,
                counts: Sequence[int] | None = None, quiet: bool = False,
                clock: Callable[[], float] = time.monotonic) -> Iterator[Part]:
    """Yield the parts of some work, which is under way meanwhile.

    `counts` are the units of each part (null: 1 each), and `amounts` are proportional to its time (null: as the units).
    An estimate of the time, and at the end the time it took, are printed for work of more than 5 s, unless `quiet`.
    """
    counts = [1] * len(parts) if counts is None else counts
    amounts = counts if amounts is None else amounts
    total, done, is_announced = sum(amounts), 0.0, quiet
    with under_way(Work(title, unit, sum(counts), clock)) as work:
        for part, amount, count in zip(parts, amounts, counts, strict=True):
            yield part
            done += amount
            work.num_done += count
            work.share = done / total if total else 0.0
            predicted = work.seconds + work.seconds_left
            if not is_announced and work.seconds > _MEASURED_SECONDS and predicted > WORTH_A_LINE:
                is_announced = True
                print(f"{title}: {work.num_units:,} {unit} take about {in_time(predicted)}", file=sys.stderr)
    if not quiet and work.seconds > WORTH_A_LINE:
        print(f"{title}: {work.num_units:,} {unit} took {in_time(work.seconds)}", file=sys.stderr)
