"""Run directories: the only module that knows their file names.

    runs/<command>/<time>/        config.yaml, environment.json, log.jsonl, manifest.json, and files of the stage
    runs/<command>/latest         a link to the newest finished run
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import lock, point, write_json, writing
from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.folders import clear_below

RUNS = Path("runs")
PREPARED = Path("data/prepared")
MODEL, _ENCODER, _ADAPTER, _CHECKPOINTS, LATEST = "model", "encoder", "adapter", "checkpoints", "latest"
CONFIG, INPUTS, _LOG, _MANIFEST, LOCK = "config.yaml", "inputs.json", "log.jsonl", "manifest.json", ".lock"
ENVIRONMENT = "environment.json"


class RunDir:
    """The folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[..., None]] = []

    @classmethod
    def create(cls, command: str, folder: str = "", job: int | None = None) -> "RunDir":
        """Create the folder of a run: `folder`, or a new one in runs/<command>; `job` is its number in a multirun."""
        if folder:
            path = Path(folder) if job is None else Path(folder) / str(job)
            if (path / CONFIG).exists():
                with lock(path / LOCK, f"the run in {path}"):
                    cls(path).refuse_other(command)
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
            return cls(path)
        with writing(RUNS):
            parent = RUNS / command
            parent.mkdir(parents=True, exist_ok=True)
            stamp = time.strftime("%Y-%m-%d_%H-%M-%S") + ("" if job is None else f"_{job}")
            for attempt in range(1000):
                path = parent / (stamp if attempt == 0 else f"{stamp}.{attempt}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        raise ResourceError(f"{parent}: no free name for a run at {stamp}; try again in a second")

    def refuse_other(self, command: str) -> None:
        """Raise ConfigError if a new run of `command` would overwrite or mix with the files of another run in this
        folder.

        The folder is reused after a run that was killed before it had read its data, and after a run of a command
        without `resume`, since a new run repeats all of its work.
        """
        resumes = self.file(INPUTS).exists()
        if not self.is_finished and not resumes and self.command in ("", command):
            return
        resume = f", or resume that run with resume={self.path}" if resumes and not self.is_finished else ""
        raise ConfigError(f"run_dir={self.path}: already contains a run; choose another folder{resume}")

    @property
    def command(self) -> str:
        """The command of the run, from its log; empty if there is no log yet."""
        return next((str(line.get("command", "")) for line in self._logged() if line.get("event") == "started"), "")

    @property
    def is_finished(self) -> bool:
        """True if the run has completed its work."""
        return self.file(_MANIFEST).exists()

    @property
    def is_closed(self) -> bool:
        """True if the run has completed its work and closed its folder."""
        return self.is_finished and any(line.get("event") == "finished" for line in self._logged())

    def _logged(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.file(_LOG).read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError):
                content = json.loads(line)
                if isinstance(content, dict):
                    yield content

    def clear(self) -> None:
        """Remove partial files and an incomplete last log line of a killed run. The caller must hold the folder's
        lock."""
        with writing(self.path):
            clear_below(self.path)
            log = self.file(_LOG)
            content = log.read_bytes() if log.exists() else b""
            if content and not content.endswith(b"\n"):
                os.truncate(log, content.rfind(b"\n") + 1)

    def close(self, command: str) -> None:
        """Finish a run that was killed after its work: point `latest` here and remove the checkpoints."""
        point(RUNS / command / LATEST, self.path)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @property
    def model(self) -> Path:
        """Folder of the recommender."""
        return self.path / MODEL

    @property
    def encoder(self) -> Path:
        """Folder of a pretrained encoder."""
        return self.path / _ENCODER

    @property
    def adapter(self) -> Path:
        """Folder of the adapter: only the encoder weights that fine-tuning changed."""
        return self.path / _ADAPTER

    @property
    def checkpoints(self) -> Path:
        """Folder of the training checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    def file(self, name: str) -> Path:
        """Return the path of one of the run's own files."""
        return self.path / name

    def log(self, event: str, **values: Any) -> None:
        """Append a line to log.jsonl and call the listeners."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, ensure_ascii=False)
        with writing(self.path), self.file(_LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        for listener in self.listeners:
            listener(event, **values)

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Write the manifest and point runs/<command>/latest here."""
        write_json(self.file(_MANIFEST), {"format": 1, "command": command, **manifest})
        point(RUNS / command / LATEST, self.path)


class NoRunDir(RunDir):
    """Placeholder in a process that writes no run directory: another process does, or the run is not recorded.

    `path` is the resumed run, for reading its files.
    """

    def __init__(self, path: Path = Path(os.devnull)) -> None:
        super().__init__(path)

    def log(self, event: str, **values: Any) -> None:
        """Do nothing; another process writes the log."""

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Do nothing; another process writes the manifest."""


def latest(command: str, folder: str, key: str) -> Path:
    """Return the run directory `folder`, or runs/<command>/latest if it is empty."""
    path = Path(folder) if folder else RUNS / command / LATEST
    if not path.is_dir():
        raise ConfigError(f"{key}={path}: no such folder; run `llmrec {command}` first or set {key}=<run directory>")
    return path


def environment() -> dict[str, Any]:
    """Return versions, commit and hardware; never environment variables, which may contain secrets."""
    packages = ("llmrec-cli", "torch", "transformers", "peft", "numpy", "scipy", "pandas", "pyarrow", "duckdb")
    versions = {}
    for name in packages:
        # Queried one by one: listing all installed packages takes a third of the time of an empty run.
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": sys.version.split()[0], "platform": platform.platform(), "machine": platform.machine(),
            "cores": os.cpu_count(), "packages": versions, "commit": commit()}


def commit() -> str | None:
    """Return the commit of the checkout of llmrec; None if it was installed from a wheel or git is missing."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
