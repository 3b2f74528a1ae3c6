"""Kill tests of a small training run in forked processes: a kill at a given operation, or at a random moment.

The processes are forks of a process with torch loaded, so that each costs milliseconds. An operation is a training step
or a file-system call: open, rename, flush, remove. Power loss is a kill after which unflushed data is lost: half of
each unflushed file and, at random, renames in unflushed folders.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.checkpoint import checkpoints
from llmrec_cli.training.loop import Length, TrainContext, train

INPUTS = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5])
WATCHED = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir",
           "fcntl.flock", "shutil.rmtree")
KILLED = -signal.SIGKILL


class Model(nn.Module):
    """A regression with dropout and a buffer that records its batches."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros(48))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen[rows] += torch.rand(len(rows))
        return (self.body(INPUTS[rows]).squeeze(-1) - TARGETS[rows]).square().mean()


def run(folder: Path, resumed: bool, log: Callable[..., None] = lambda event, **values: None) -> None:
    """Train for 12 steps with every stateful feature, and write weights and result under `folder`."""
    torch.set_num_threads(1)
    model = Model()

    def validate() -> float:
        with torch.no_grad():
            return -float(model(torch.arange(48))) + float(torch.rand(1)) * 1e-3

    settings = AdamWSettings(learning_rate=0.02, epochs=4, batch_size=8, checkpoint_every=2, accumulate=2, ema=0.7,
                             schedule="cosine")
    where = folder / "checkpoints"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        trained = train(model, lambda epoch, generator: torch.from_numpy(generator.permutation(48)).split(8), model,
                        [(model, 0.02)], settings, Length(4, 6, 4),
                        TrainContext(torch.device("cpu"), 1, log, where, where if resumed else None), validate)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "final.safetensors")
    (folder / "trained.json").write_text(json.dumps(asdict(trained)))


def outcome(folder: Path) -> dict[str, bytes]:
    """Return all files of a finished run: weights, result, and checkpoints with the optimiser's state."""
    files = [folder / "final.safetensors", folder / "trained.json",
             *(file for path in checkpoints(folder / "checkpoints") for file in sorted(path.iterdir()))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@dataclass(frozen=True)
class OperationLog:
    """A process's operations: their number, flushed inodes, and renames, the latter two with their line numbers."""

    num_operations: int
    flushed: dict[int, int]
    renames: list[tuple[int, str, str]]


def forked(folder: Path, resumed: bool, kill_at: int = 0, kill_after: float | None = None) -> int:
    """Run in a forked process, killed at an operation or after some seconds, and return its exit code."""
    note = os.open(folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if (child := os.fork()) == 0:
        code = 1
        try:
            watch(note, kill_at)
            run(folder, resumed, lambda event, **values: sys.audit("llmrec.log", event))
            code = 0
        finally:
            os._exit(code)
    os.close(note)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch(note: int, kill_at: int) -> None:
    """Log each operation of this process to the file `note` beforehand, and kill the process at number `kill_at`."""
    count, fsync = [0], os.fsync

    def step() -> None:
        count[0] += 1
        os.write(note, b"op\n")
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED or event == "llmrec.log":
            step()
        if event == "os.rename":
            os.write(note, f"rename {os.fsdecode(arguments[0])} {os.fsdecode(arguments[1])}\n".encode())

    def flush(descriptor: int) -> None:
        step()
        fsync(descriptor)
        os.write(note, f"sync {os.fstat(descriptor).st_ino}\n".encode())

    os.fsync = flush
    sys.addaudithook(hook)


def notes(folder: Path) -> OperationLog:
    """Return the operations that the last process logged."""
    count, flushed, renames = 0, {}, []
    for place, line in enumerate((folder / "notes").read_text().splitlines()):
        what, *rest = line.split()
        count += what == "op"
        if what == "sync":
            flushed[int(rest[0])] = place
        if what == "rename":
            renames.append((place, rest[0], rest[1]))
    return OperationLog(count, flushed, renames)


def is_flushed(folder: Path) -> bool:
    """Return True if the last process had flushed a checkpoint to disk."""
    noted, where = notes(folder), folder / "checkpoints"
    last = noted.flushed.get(where.stat().st_ino, -1) if where.exists() else -1
    return any(place < last for place, _, target in noted.renames if Path(target).name.startswith("step-"))


def lose_power(folder: Path, chance: random.Random, earlier: set[int]) -> None:
    """Drop the data that the killed process had not flushed; `earlier` are the inodes from before it started."""
    noted = notes(folder)
    for place, source, target in reversed(noted.renames):
        parent = Path(target).parent
        safe = parent.exists() and noted.flushed.get(parent.stat().st_ino, -1) > place
        if not safe and Path(target).exists() and not Path(source).exists() and chance.random() < 0.5:
            os.rename(target, source)
    for file in (folder / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_ino not in noted.flushed.keys() | earlier:
            os.truncate(file, file.stat().st_size // 2)


def survive(kills: int, folder: Path, expected: dict[str, bytes], num_operations: int, seconds: float,
            seed: int = 0) -> list[str]:
    """Return the differences from the expected result after so many kills of runs and resumed runs."""
    problems = []
    while kills > 0 and len(problems) < 20:
        killed, problem = attempt(folder, seed, expected, num_operations, seconds)
        problems += [f"seed {seed}: {problem}"] if problem else []
        kills, seed = kills - killed, seed + 1
    return problems


def attempt(folder: Path, seed: int, expected: dict[str, bytes], num_operations: int,
            seconds: float) -> tuple[int, str]:
    """Kill a run and its resumed runs, let the last one finish, and return the kills and the differences."""
    chance, killed, resumed, had = random.Random(seed), 0, False, False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for _ in range(chance.choice((1, 1, 2, 3))):
        before = {file.stat().st_ino for file in folder.rglob("*") if file.is_file()}
        if chance.random() < 0.7:
            code = forked(folder, resumed, chance.randint(1, num_operations))
        else:
            code = forked(folder, resumed, kill_after=chance.random() * seconds)
        if code not in (0, KILLED):
            return killed, f"a run ended with {code}"
        killed += code == KILLED
        if code == KILLED and chance.random() < 0.5:
            lose_power(folder, chance, before)
        had = had or is_flushed(folder)
        if had and not checkpoints(folder / "checkpoints"):
            return killed, "no complete checkpoint is left"
        resumed = True
    if (code := forked(folder, True)) != 0:
        return killed, f"the resumed run ended with {code}"
    actual = outcome(folder)
    other = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    return killed, f"{other} differ" if other else ""


def whole_run(folder: Path) -> tuple[dict[str, bytes], int, float]:
    """Return the files, number of operations and seconds of an uninterrupted run."""
    folder.mkdir()
    # Run once here, so that forks need not load torch's lazy modules.
    run(folder, resumed=False)
    started = time.monotonic()
    assert forked(folder, resumed=False) == 0
    seconds = time.monotonic() - started
    assert np.isfinite(json.loads((folder / "trained.json").read_text())["values"]).all()
    return outcome(folder), notes(folder).num_operations, seconds
