"""Run directories: the only module that knows their file names.

    runs/<command>/<time>_<head>-<data>/    config.yaml, environment.json, log.jsonl, manifest.json, the stage's files
    runs/<command>/latest                   a link to the newest finished run
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from llmrec_cli.atomic_files import lock, point, write_json, writing
from llmrec_cli.errors import ConfigError, ResourceError
from llmrec_cli.folders import clear_below
from llmrec_cli.run_subject import RunSubject

RUNS = Path("runs")
PREPARED = Path("data/prepared")
MODEL, _ENCODER, _ADAPTER, _CHECKPOINTS, LATEST = "model", "encoder", "adapter", "checkpoints", "latest"
CONFIG, INPUTS, _LOG, _MANIFEST, LOCK = "config.yaml", "inputs.json", "log.jsonl", "manifest.json", ".lock"
ENVIRONMENT = "environment.json"
_NAME_BYTES = 80
"""Longest head or data name in the name of a folder; file systems allow 255 bytes in all."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
_NOT_WORK = ("started", "warning")
"""Events that a run may log before its work begins."""


class Job(NamedTuple):
    """A run of a multirun: its number, from 0, and its name, such as seed2."""

    number: int
    name: str


class RunDir:
    """The folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[..., None]] = []
        self.is_new = False
        self.has_begun = False

    @classmethod
    def create(cls, command: str, folder: str = "", job: Job | None = None, label: str = "") -> "RunDir":
        """Create the folder of a run: `folder`, or a new one in runs/<command> named by time and `label`.

        In a multirun the number of `job` is a folder inside `folder`, and its name ends that of a new folder.
        """
        if folder:
            path = Path(folder) if job is None else Path(folder) / str(job.number)
            if (path / CONFIG).exists():
                with lock(path / LOCK, f"the run in {path}"):
                    cls(path).refuse_other(command)
            with writing(path):
                is_new = not path.exists()
                path.mkdir(parents=True, exist_ok=True)
            return cls._created(path, is_new)
        with writing(RUNS):
            parent = RUNS / command
            parent.mkdir(parents=True, exist_ok=True)
            name = "_".join([time.strftime("%Y-%m-%d_%H-%M-%S"), *([label] if label else []),
                             *([] if job is None else [job.name])])
            for attempt in range(1000):
                path = parent / (name if attempt == 0 else f"{name}.{attempt}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls._created(path, True)
        raise ResourceError(f"{parent}: no free name for a run at {name}; try again in a second")

    @classmethod
    def _created(cls, path: Path, is_new: bool) -> "RunDir":
        run_dir = cls(path)
        run_dir.is_new = is_new
        return run_dir

    @property
    def has_own_name(self) -> bool:
        """True if llmrec named the folder, by time; False if `run_dir=` did."""
        return _STAMP.match(self.path.name) is not None

    def discard(self) -> None:
        """Remove the folder if this run created it and no work has begun, so that only runs with results or a cause to
        look into stay. The caller must hold the folder's lock."""
        if self.is_new and not self.has_begun:
            shutil.rmtree(self.path, ignore_errors=True)

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
        return next((str(line.get("command", "")) for line in self.logged() if line.get("event") == "started"), "")

    @property
    def is_finished(self) -> bool:
        """True if the run has completed its work."""
        return self.file(_MANIFEST).exists()

    @property
    def is_closed(self) -> bool:
        """True if the run has completed its work and closed its folder."""
        return self.is_finished and any(line.get("event") == "finished" for line in self.logged())

    def logged(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the log; unreadable ones are left out."""
        try:
            lines = self.file(_LOG).read_bytes().splitlines()
        except FileNotFoundError:
            return
        yield from _parsed(lines)

    def first_logged(self) -> dict[str, Any]:
        """Return the first line of the log, which describes the run; {} if there is none."""
        try:
            with self.file(_LOG).open("rb") as stream:
                return next(_parsed([stream.readline()]), {})
        except OSError:
            return {}

    def last_logged(self, events: Collection[str], num_bytes: int) -> dict[str, Any]:
        """Return the last line of the log with one of these events, among its last bytes; {} if there is none."""
        try:
            with self.file(_LOG).open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - num_bytes))
                lines = stream.read().splitlines()
        except OSError:
            return {}
        return next((line for line in _parsed(reversed(lines)) if line.get("event") in events), {})

    def manifest(self) -> dict[str, Any]:
        """Return the content of the manifest; {} for a run that is not finished, or a damaged manifest."""
        return _facts(self.path)

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
        self.has_begun |= event not in _NOT_WORK
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, ensure_ascii=False)
        with writing(self.path), self.file(_LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        for listener in self.listeners:
            listener(event, **values)

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Write the manifest and point runs/<command>/latest here."""
        write_json(self.file(_MANIFEST), {"format": 1, "command": command, **manifest})
        point(RUNS / command / LATEST, self.path)


class InnerRunDir(RunDir):
    """The folder of a run inside another one, such as the lists of `publish`; `latest` does not point to it."""

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Write the manifest."""
        write_json(self.file(_MANIFEST), {"format": 1, "command": command, **manifest})


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


def model_in(path: Path) -> Path:
    """Return the model folder of a run directory; `path` itself if it has none, since it may be a model folder."""
    inside = path / MODEL
    return inside if inside.is_dir() else path


def head_and_data(subject: RunSubject) -> tuple[str, str]:
    """Return the head (or encoder) and the name of the data of a run; "" for each that is not readable yet.

    Whether the files are whole is checked by the stage, later.
    """
    if not subject.models:
        folder = Path(subject.prepared or PREPARED / LATEST)
        return subject.option, subject.data or str(_facts(folder).get("name") or "")
    models = [_facts(model_in(Path(model or RUNS / "finetune" / LATEST))) for model in subject.models]
    heads = dict.fromkeys(str(model.get("head") or "") for model in models)
    data = models[0].get("data")
    return "+".join(filter(None, heads)), str(data.get("name") or "") if isinstance(data, dict) else ""


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines that are JSON objects."""
    for line in lines:
        with suppress(ValueError, RecursionError):
            content = json.loads(line)
            if isinstance(content, dict):
                yield content


def _facts(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def label_of(head: str, data: str) -> str:
    """Return `<head>-<data>` for the name of a folder: letters, digits and `_.+-` of both, shortened."""
    parts = [re.sub(r"[^\w.+-]+", "-", part).strip("-.").encode()[:_NAME_BYTES].decode(errors="ignore")
             for part in (head, data)]
    return "-".join(filter(None, parts))
