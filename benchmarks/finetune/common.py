"""Shared parts of this benchmark's scripts: memory, and steps counted until the time is up."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path


def peak() -> int:
    """Return the most bytes this process has held."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 2**10


def measure(step: Callable[[], int], seconds: float, setup: float) -> None:
    """Call `step`, which returns how many interactions it learned from, until the CPU seconds are over, and print."""
    step()  # The first one allocates.
    start, learned = time.process_time(), 0
    while time.process_time() - start < seconds:
        learned += step()
    tell(learned / (time.process_time() - start), setup)


def tell(rate: float, setup: float) -> None:
    """Print the figures as JSON."""
    print(json.dumps({"rate": rate, "peak": peak(), "setup": setup}))
