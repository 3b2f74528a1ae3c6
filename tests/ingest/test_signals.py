"""Signals during a query, in real processes: the process ends at once with the exit code of the signal."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmrec_cli.ingest.signals import reraise_signals

ROOT = Path(__file__).parents[2]
# The query would take minutes; the way of fetching decides whether DuckDB checks for signals meanwhile.
ENDLESS = """
import signal, sys
import duckdb
from llmrec_cli.ingest.signals import reraise_signals

def terminated(*_):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, terminated)
connection = duckdb.connect(config={"memory_limit": "200MB", "max_temp_directory_size": "0KB", "threads": 1})
query = connection.sql("select count(*) from range(100000000) a, range(2000) b where (a.range * b.range) % 7 = 3")
try:
    with reraise_signals(connection.interrupt):
        print("running", flush=True)
        query.fetchall() if sys.argv[1] == "rows" else query.to_arrow_reader(1000).read_all()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("fetched", ["rows", "arrow"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_query_that_runs_is_stopped_at_once_and_the_exit_code_is_the_signal_s(
        number: int, code: int, fetched: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, fetched], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        time.sleep(0.3)
        process.send_signal(number)
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, message) == (code, b"")


def test_a_signal_that_a_library_converts_is_raised_as_itself() -> None:
    stopped: list[str] = []

    def library() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("Query interrupted") from error

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), reraise_signals(lambda: stopped.append("stopped")):
        library()
    assert stopped == ["stopped"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_a_library_swallows_still_ends_the_run() -> None:
    def library() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            return

    with pytest.raises(KeyboardInterrupt), reraise_signals(lambda: None):
        library()


def test_other_errors_pass_and_threads_and_ignored_signals_are_left_alone() -> None:
    def failing() -> None:
        with reraise_signals(lambda: None):
            raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        failing()
    failed: list[str] = []

    def in_a_thread() -> None:
        try:
            failing()
        except RuntimeError as error:
            failed.append(str(error))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert failed == ["of its own"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with reraise_signals(lambda: None):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
