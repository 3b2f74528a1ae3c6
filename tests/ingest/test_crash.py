"""prepare when it is killed, stopped, or runs out of disk: published data stays, and the next run cleans up.

Uses real processes and signals. Most are forked from a process with all imports done, since imports take longer than
the tests.
"""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec_cli.data.prepared import read_prepared
from tests.some_slow import some_slow

ROOT = Path(__file__).parents[2]
LLMREC = [sys.executable, "-c", "from llmrec_cli.cli import main; main()"]
ROWS = 30_000
SHOP = Path("data/prepared/shop")
# Prepares old.csv, then kills runs on the other file: half of them after some time, half just before a call of the
# system that a file or a name depends on, counted from the one that makes manifest.json, which is the last file. After
# each it looks at what is there, as any reader would.
KILLS = """
import json, os, random, signal, sys, time
from pathlib import Path
import llmrec_cli.ingest.build, llmrec_cli.report.audit
from llmrec_cli import cli
from llmrec_cli.data.prepared import read_prepared

CALLS = ("open", "os.rename", "os.rmdir", "os.remove", "os.mkdir", "os.symlink", "ctypes.dlsym")
chance, names = random.Random(3), ("old", "new")

def prepare(name, before=None, after=None):
    child = os.fork()
    if not child:
        os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        made = []
        def hook(event, arguments):
            if event in CALLS and (made or "/.manifest.json." in str(arguments[0])):
                made.append(event)
                if len(made) == before:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        sys.argv = ["llmrec", "prepare", "dataset=files", "dataset.name=shop", "split=temporal",
                    f"dataset.interactions={name}.csv"]
        try:
            cli.run(sys.argv[1:])
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1]
    return -ended if os.WIFSIGNALED(ended) else os.waitstatus_to_exitcode(ended)

def found():
    data = read_prepared("data/prepared/latest")
    # Twice as many rows as the manifest says would be a mix; that all hashes are right read_prepared has seen.
    assert len(data.interactions.user) == data.manifest["counts"]["interactions"]
    return data.manifest["inputs"]["dataset"]["interactions"].partition(".")[0]

begun = time.monotonic()
assert prepare("old") == 0, Path("stderr").read_text()
took, results = time.monotonic() - begun, []
for n in range(int(sys.argv[1])):
    name = next(name for name in names if name != found())
    if n % 2:
        code = prepare(name, after=chance.uniform(0, 0.8 * took))
    else:
        code = prepare(name, before=chance.randrange(1, 40))
    results.append([name, code, found()])
left = [f for f in os.listdir("data/prepared") if f not in (".shop.lock", "latest", "shop")]
results.append([name, prepare("new"), found()])
print(json.dumps({"results": results, "left": left, "took": took}), flush=True)
# Arrow's reading threads, in a process that has forked, once aborted its ordinary end (CI).
os._exit(0)
"""


def write_rows(path: str, seed: int) -> None:
    """Write ROWS interactions of 500 users with 2000 items at random times."""
    draw = random.Random(seed)
    at = [draw.randrange(1_500_000_000, 1_600_000_000) for _ in range(ROWS)]
    lines = [f"u{draw.randrange(500)},i{draw.randrange(2000)},{draw.randrange(1, 6)},{second}" for second in at]
    Path(path).write_text("user_id,item_id,value,timestamp\n" + "\n".join(lines) + "\n")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def arguments(name: str, *more: str) -> list[str]:
    return ["prepare", "dataset=files", "dataset.name=shop", "split=temporal", f"dataset.interactions={name}.csv",
            *more]


def prepare(name: str, *more: str, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LLMREC, *arguments(name, *more)], env=environment(), text=True, capture_output=True,
                          check=False, preexec_fn=limit)


def published() -> dict[str, str]:
    """Return the hash of every file of the prepared data, the target of `latest`, and all other files."""
    files = {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in SHOP.rglob("*")}
    beside = sorted(os.listdir(SHOP.parent)) if SHOP.parent.exists() else []
    return files | {"beside": str(beside), "latest": str((SHOP.parent / "latest").resolve())}


@pytest.mark.faults
def test_after_a_kill_at_any_moment_the_old_data_is_there_or_the_new_and_the_next_run_cleans_up() -> None:
    for seed, name in enumerate(("old", "new")):
        write_rows(f"{name}.csv", seed)
    done = subprocess.run([sys.executable, "-c", KILLS, "6"], env=environment(), text=True, capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    *killed, (_, code, last) = output["results"]
    assert (code, last) == (0, "new")
    assert sum(code == -signal.SIGKILL for _, code, _ in killed) >= 4, output
    # One that was not killed in time has succeeded; nothing else may be.
    assert all(code == -signal.SIGKILL or (code == 0 and name == seen) for name, code, seen in killed), output
    assert sorted(os.listdir(SHOP.parent)) == [".shop.lock", "latest", "shop"]
    assert read_prepared(SHOP.parent / "latest").manifest["counts"]["read"] == ROWS


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), some_slow([(signal.SIGTERM, 143), (signal.SIGINT, 130)]))
def test_a_signal_stops_the_run_with_its_own_code_and_leaves_nothing(number: int, code: int) -> None:
    write_rows("new.csv", 1)
    process = subprocess.Popen([*LLMREC, *arguments("new")], env=environment(), text=True, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 120
        while not list(SHOP.parent.glob(".shop.*.scratch/*")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 0.5))
        process.send_signal(number)
        _, heard = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, heard) == (code, "prepare: interrupted; nothing was replaced; run the same command "
                                                 "again\n")
    assert os.listdir(SHOP.parent) == [".shop.lock"]


@pytest.mark.slow
def test_a_full_disk_is_reported_with_path_and_remedy_and_changes_nothing() -> None:
    """A limit on file sizes simulates a full disk: the first larger file cannot be written."""
    write_rows("new.csv", 1)
    Path("old.csv").write_text("user_id,item_id,timestamp\nu,a,1500000000\nu,b,1500000001\nv,a,1500000002\n")
    assert prepare("old").returncode == 0
    before = published()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, 100 * 1024))

    done = prepare("new", limit=limit)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("llmrec: resource error: ")
    assert "File too large" in done.stderr
    assert "choose another place" in done.stderr
    assert "Traceback" not in done.stderr
    assert published() == before
