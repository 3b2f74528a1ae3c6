"""Shared fixtures: one thread, a tiny shop that is prepared once per worker, and `llmrec` in this process."""

import os

# Before torch is imported: threads that wait for each other on a busy machine cost ten times the sums.
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import fcntl
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tests.tiny import write_tiny

# Every machine looks for new examples but the one that decides what lands: there the same change gives the same answer.
# No test is timed: a busy machine is no failure.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("any", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "any")


# A shell that starts the tests in the background has them, and all they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def once_per_run(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of this name that `make` fills in the first worker that asks, for all workers."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = tmp_path_factory.mktemp(name)
            make(made)
            made.rename(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with interactions.csv and items.csv."""
    return once_per_run(tmp_path_factory, "tiny", write_tiny)


@pytest.fixture(scope="session")
def prepare_tiny(tiny_files: Path) -> list[str]:
    """The settings of `llmrec prepare` for the tiny shop."""
    return ["dataset=files", "dataset.name=tiny", f"dataset.interactions={tiny_files / 'interactions.csv'}",
            f"dataset.items={tiny_files / 'items.csv'}", "dataset.item_text={title} ({year}). {genres}",
            "dataset.attributes.genres=list", "dataset.min_value=4"]


@pytest.fixture(scope="session")
def tiny_prepared(tmp_path_factory: pytest.TempPathFactory, prepare_tiny: list[str]) -> Path:
    """The prepared data of the tiny shop: 60 users, 44 items of which 4 are cold."""
    from llmrec_cli import cli

    def prepare(folder: Path) -> None:
        with contextlib.chdir(folder), own_sigterm():
            assert cli.run(["prepare", *prepare_tiny]) == 0

    return once_per_run(tmp_path_factory, "prepared", prepare) / "data" / "prepared" / "tiny"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT of four layers with random weights."""
    from tests.tiny_models import save_tiny

    return once_per_run(tmp_path_factory, "encoder", lambda folder: save_tiny(folder / "bert")) / "bert"


@pytest.fixture
def llmrec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
           capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """Run `llmrec` with these arguments in this process, in the test's own folder."""
    from llmrec_cli import cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["llmrec", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    with own_sigterm():
        yield call


@pytest.fixture(autouse=True)
def audit_only_where_it_is_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the audit of `prepare`, a third of its time, in tests of data faults that are not marked `audited`.

    Mark a test that reads notes, warnings or the audit: what the audit says is not there without the mark.
    """
    folders = {"ingest", "faults"} & set(request.path.parts)
    if folders and request.node.get_closest_marker("audited") is None:
        leave_out_audit(monkeypatch)


def leave_out_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `prepare` write no audit."""
    monkeypatch.setattr("llmrec_cli.ingest.build.audit", lambda *_: {})
    monkeypatch.setattr("llmrec_cli.report.audit.write_audit", lambda *_: None)


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Give back what a run does at SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
