"""A small training in forked processes that are killed: at one of their operations, or at any moment.

The processes are forks of one that has torch loaded, so that each costs milliseconds. An operation is a step, or
anything that is asked of the file system: opening, renaming, flushing, removing. Power loss is a kill after which what
was not flushed is gone: half of each such file, and, by chance, renames whose folder was not flushed.
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
    """A regression with dropout and with a memory of the batches that it saw."""

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
    """Train for 12 steps with all that has a state, and leave under `folder` whatever came of it."""
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
    """Return every byte that a finished run left: weights, figures, and the checkpoints with the optimiser's state."""
    files = [folder / "final.safetensors", folder / "trained.json",
             *(file for path in checkpoints(folder / "checkpoints") for file in sorted(path.iterdir()))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@dataclass(frozen=True)
class Noted:
    """What a process did: the number of its operations, what it renamed, and the inodes that it flushed since."""

    num_operations: int
    flushed: dict[int, int]
    renames: list[tuple[int, str, str]]


def forked(folder: Path, resumed: bool, kill_at: int = 0, kill_after: float | None = None) -> int:
    """Run in a process of its own, killed at an operation or after some seconds, and return how it ended."""
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
    """Write the operations of this process to the file `note` before each is done, and die at the chosen one."""
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


def notes(folder: Path) -> Noted:
    """Return what the last process noted."""
    count, flushed, renames = 0, {}, []
    for place, line in enumerate((folder / "notes").read_text().splitlines()):
        what, *rest = line.split()
        count += what == "op"
        if what == "sync":
            flushed[int(rest[0])] = place
        if what == "rename":
            renames.append((place, rest[0], rest[1]))
    return Noted(count, flushed, renames)


def is_flushed(folder: Path) -> bool:
    """Return whether the last process had a checkpoint on the disk for good."""
    noted, where = notes(folder), folder / "checkpoints"
    last = noted.flushed.get(where.stat().st_ino, -1) if where.exists() else -1
    return any(place < last for place, _, target in noted.renames if Path(target).name.startswith("step-"))


def lose_power(folder: Path, chance: random.Random, kept: set[int]) -> None:
    """Drop what the killed process had not flushed; `kept` are the inodes that were there before it began."""
    noted = notes(folder)
    for place, source, target in reversed(noted.renames):
        parent = Path(target).parent
        safe = parent.exists() and noted.flushed.get(parent.stat().st_ino, -1) > place
        if not safe and Path(target).exists() and not Path(source).exists() and chance.random() < 0.5:
            os.rename(target, source)
    for file in (folder / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_ino not in noted.flushed.keys() | kept:
            os.truncate(file, file.stat().st_size // 2)


def survive(kills: int, folder: Path, expected: dict[str, bytes], num_operations: int, seconds: float,
            seed: int = 0) -> list[str]:
    """Return what is other than expected after so many kills: of runs, and of their resumptions."""
    problems = []
    while kills > 0 and len(problems) < 20:
        killed, problem = attempt(folder, seed, expected, num_operations, seconds)
        problems += [f"seed {seed}: {problem}"] if problem else []
        kills, seed = kills - killed, seed + 1
    return problems


def attempt(folder: Path, seed: int, expected: dict[str, bytes], num_operations: int,
            seconds: float) -> tuple[int, str]:
    """Kill a run and its resumptions, let the last one end, and return the kills and what is other than expected."""
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
    found = outcome(folder)
    other = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return killed, f"{other} differ" if other else ""


def whole_run(folder: Path) -> tuple[dict[str, bytes], int, float]:
    """Return what a run that nobody kills leaves, how many operations it has, and how long it takes."""
    folder.mkdir()
    # What torch loads on the way is loaded here, so that no fork has to.
    run(folder, resumed=False)
    started = time.monotonic()
    assert forked(folder, resumed=False) == 0
    seconds = time.monotonic() - started
    assert np.isfinite(json.loads((folder / "trained.json").read_text())["values"]).all()
    return outcome(folder), notes(folder).num_operations, seconds
