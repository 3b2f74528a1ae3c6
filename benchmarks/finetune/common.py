"""Shared parts of this benchmark: peak memory, and repeating steps for a given time."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 2**10


def measure(step: Callable[[], int], seconds: float, setup: float) -> None:
    """Call `step` for the given CPU seconds and print its rate; `step` returns its number of interactions."""
    step()  # The first step allocates.
    start, learned = time.process_time(), 0
    while time.process_time() - start < seconds:
        learned += step()
    print_figures(learned / (time.process_time() - start), setup)


def print_figures(rate: float, setup: float) -> None:
    """Print the figures as JSON."""
    print(json.dumps({"rate": rate, "peak": peak(), "setup": setup}))
