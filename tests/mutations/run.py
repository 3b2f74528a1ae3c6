"""Put each fault of mutations.py into a copy of the working tree, and see whether its tests fail.

    PYTHONPATH=. python tests/mutations/run.py                      all of them, in half an hour
    PYTHONPATH=. python tests/mutations/run.py "'007' is '7'"       some, by name
    PYTHONPATH=. python tests/mutations/run.py -j 4                 four at a time, each in a copy of its own

Run it before and after a change of the tests, such as one that makes them faster: what was caught before must be
caught afterwards. It prints a line for each fault: whether a test failed, which one first, and the seconds; then it
runs these tests once more without any fault, since a test that fails anyway has caught nothing. Exit code 1 where a
fault is not caught, does not apply any more, or its tests cannot be run. A test that is not there (it was renamed or
merged into another) is looked for in its whole file.

Each pytest is forked from a process that has loaded torch and the like: loading takes longer than most of the tests.
"""

import argparse
import gc
import multiprocessing
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

from tests.mutations.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 900
"""Most that the tests of a fault may take."""
FAILED, NOT_FOUND = 1, 4
"""Exit codes of pytest: tests failed; there is no such test."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([
    "torch", "transformers", "peft", "sklearn.metrics", "sklearn.cluster", "ibis", "duckdb", "pandas",
    "pyarrow.parquet", "hydra", "omegaconf", "scipy.stats", "ranx", "matplotlib.pyplot", "optuna",
    "hypothesis.strategies", *(point.module for point in entry_points(group="pytest11"))])


def mutated(mutation: Mutation, root: Path = ROOT) -> str:
    """Return the source with the fault. Raises ValueError where its text is not there exactly once."""
    file = root / "llmrec_cli" / mutation.file
    source = file.read_text("utf-8") if file.is_file() else ""
    if source.count(mutation.text) != 1:
        raise ValueError(f"does not apply: {file.relative_to(root)} has {source.count(mutation.text)} times, "
                         f"not once: {mutation.text}")
    return source.replace(mutation.text, mutation.fault)


def copy_tree(folder: Path) -> None:
    """Copy the files of the working tree that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_tests(folder: Path, tests: list[str], *options: str, seconds: int = SECONDS) -> tuple[int, str]:
    """Run tests in a copy and return pytest's exit code (-1 where they take too long) and what it printed."""
    output = folder.with_suffix(".txt")
    process = PROCESSES.Process(target=run_pytest, args=(folder, output, [*options, *tests]))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        return -1, f"took more than {seconds} seconds"
    return process.exitcode, output.read_text("utf-8", "replace")


def run_pytest(folder: Path, output: Path, arguments: list[str]) -> None:
    """Run pytest in a copy as if this process had been started there, and exit with its code."""
    descriptor = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    # The same generated examples each time: a fault must not be caught by luck.
    os.environ |= {"PYTHONPATH": str(folder), "CI": "1"}
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    # Compiled once for all faults: a file with a fault has another time.
    sys.dont_write_bytecode = False
    gc.freeze()
    import pytest

    sys.exit(pytest.main(["-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "--disable-warnings", *arguments]))


def failing(printed: str) -> list[str]:
    """Return the tests that pytest says have failed."""
    return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", printed, re.MULTILINE)


def try_one(mutation: Mutation, folder: Path) -> tuple[str, bool]:
    """Return the first test that fails with the fault and True; or why none did and False."""
    file = folder / "llmrec_cli" / mutation.file
    try:
        faulty = mutated(mutation, folder)
    except ValueError as error:
        return str(error), False
    source, times = file.read_text("utf-8"), file.stat()
    file.write_text(faulty, "utf-8")
    try:
        code, printed = run_tests(folder, mutation.tests.split(), "-x")
        if code == NOT_FOUND:
            code, printed = run_tests(folder, [name.partition("::")[0] for name in mutation.tests.split()], "-x")
    finally:
        file.write_text(source, "utf-8")
        # With its former time what was compiled of it is right again.
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    if code == FAILED and failing(printed):
        return failing(printed)[0], True
    return (f"all tests passed: {mutation.tests}" if code == 0 else
            f"pytest ended with {code}: {' '.join(printed.split()[-40:])}"), False


def main() -> int:
    """Run the faults that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names of faults; all without any")
    parser.add_argument("-j", type=int, default=1, help="how many at a time (1)")
    typed = parser.parse_args()
    if unknown := set(typed.names) - {mutation.name for mutation in MUTATIONS}:
        parser.error(f"no such faults: {sorted(unknown)}")
    mutations = [mutation for mutation in MUTATIONS if not typed.names or mutation.name in typed.names]
    os.environ["OMP_NUM_THREADS"] = "1"
    begun, results = time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="mutations.") as place:
        folders: queue.Queue[Path] = queue.Queue()
        for number in range(typed.j):
            copy_tree(Path(place) / str(number))
            folders.put(Path(place) / str(number))

        def timed(mutation: Mutation) -> None:
            folder, start = folders.get(), time.monotonic()
            test, is_caught = try_one(mutation, folder)
            folders.put(folder)
            results[mutation.name] = test, is_caught
            print(f"{'caught' if is_caught else 'NOT CAUGHT':10} {time.monotonic() - start:5.0f} s  {mutation.name}\n"
                  f"{'':20}{test}", flush=True)

        with ThreadPoolExecutor(typed.j) as pool:
            list(pool.map(timed, mutations))
        tests, limit = sorted({test for test, is_caught in results.values() if is_caught}), SECONDS * len(mutations)
        code, printed = run_tests(folders.get(), tests, seconds=limit) if tests else (0, "")
    anyway = failing(printed) if code else []
    for name, (test, _) in results.items():
        if test in anyway:
            print(f"NOT CAUGHT: {name}: {test} fails without the fault too")
            results[name] = test, False
    if code and not anyway:
        print(f"the tests without a fault: pytest ended with {code}: {printed[-1000:]}")
    num_caught = sum(is_caught for _, is_caught in results.values())
    print(f"{num_caught} of {len(mutations)} faults caught in {time.monotonic() - begun:.0f} seconds")
    return int(num_caught < len(mutations) or (code != 0 and not anyway))


if __name__ == "__main__":
    sys.exit(main())
