"""Start-up time of `llmrec`: help, composing, reporting a typo. Medians of several runs.

    python benchmarks/startup.py [runs]

Prints a table. Targets: help 0.3 s, composing 1 s, a typo 2 s.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = (("llmrec --help", ["--help"], 0.3), ("composing (finetune --cfg job)", ["finetune", "--cfg", "job"], 1.0),
         ("a typo (finetune optim.lerning_rate=1)", ["finetune", "optim.lerning_rate=1"], 2.0))


def seconds(arguments: list[str], folder: str) -> float:
    """Return the wall seconds of a run, from start to exit."""
    command = [str(Path(sys.executable).parent / "llmrec"), *arguments]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"{'':42}{'median':>8}{'least':>8}{'target':>8}   seconds, {runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments, target in CASES:
            seconds(arguments, folder)  # The first run compiles and fills the page cache.
            durations = [seconds(arguments, folder) for _ in range(runs)]
            print(f"{name:42}{statistics.median(durations):8.2f}{min(durations):8.2f}{target:8.1f}")


if __name__ == "__main__":
    main()
