"""Start-up time of `llmrec`: help, composing, reporting a typo, one recommendation. Medians of several runs.

    python benchmarks/startup.py [runs]

Prints a table of wall seconds and CPU seconds (user and system, of the whole process). Targets: help 0.3 s, composing
1 s, a typo 2 s; one list of ten items by a small EASE model 2 CPU seconds. CPU seconds grow by half or more if other
processes use the same cores.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmrec_cli.testing.tiny_shop import write_tiny

CASES = (("llmrec --help", ["--help"], 0.3), ("composing (finetune --cfg job)", ["finetune", "--cfg", "job"], 1.0),
         ("a typo (finetune optim.lerning_rate=1)", ["finetune", "optim.lerning_rate=1"], 2.0),
         ("ten items for a user (EASE, tiny shop)", ["recommend", "query.user_id=u0"], 2.0))
LLMREC = [sys.executable, "-m", "llmrec_cli"]


def seconds(arguments: list[str], folder: str) -> tuple[float, float]:
    """Return the wall seconds and the CPU seconds of a run, from start to exit."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*LLMREC, *arguments], cwd=folder, env=os.environ, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_model(folder: str) -> None:
    """Prepare the tiny shop and train EASE on it, as `runs/finetune/latest` in the folder."""
    write_tiny(Path(folder))
    for arguments in (["prepare", "dataset.name=tiny", "dataset.interactions=interactions.csv",
                       "dataset.items=items.csv", "dataset.item_text={title}"], ["finetune", "head=ease"]):
        subprocess.run([*LLMREC, *arguments], cwd=folder, env=os.environ, capture_output=True, check=True)


def main() -> None:
    """Print the medians."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"{'':42}{'median':>8}{'least':>8}{'CPU':>8}{'target':>8}   seconds, {runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        make_model(folder)
        for name, arguments, target in CASES:
            seconds(arguments, folder)  # The first run compiles and fills the page cache.
            durations, cpu = zip(*(seconds(arguments, folder) for _ in range(runs)), strict=True)
            print(f"{name:42}{statistics.median(durations):8.2f}{min(durations):8.2f}{statistics.median(cpu):8.2f}"
                  f"{target:8.1f}")


if __name__ == "__main__":
    main()
