"""Run directories: the only module that knows what their files are called.

    runs/<command>/<time>/        config.yaml, environment.json, log.jsonl, manifest.json, and the stage's own
    runs/<command>/latest         a link to the newest finished run

Everything that others may read while it is written appears whole or not at all: a temporary name, fsync, rename.
"""

import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ArtifactError, ConfigError, LockedError, ResourceError, in_bytes
from llmrec_cli.folders import beside, clear_below, held_beside, restore, take_the_place
from llmrec_cli.locks import clear_holder, holder, note_holder

RUNS = Path("runs")
PREPARED = Path("data/prepared")
MODEL, ENCODER, ADAPTER, CHECKPOINTS, LATEST = "model", "encoder", "adapter", "checkpoints", "latest"
CONFIG, INPUTS, LOG, MANIFEST, LOCK = "config.yaml", "inputs.json", "log.jsonl", "manifest.json", ".lock"
ENVIRONMENT = "environment.json"


class RunDir:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[..., None]] = []

    @classmethod
    def create(cls, command: str, chosen: str = "", job: int | None = None) -> "RunDir":
        """Make the folder of a new run: `chosen`, or a new one under runs/<command>; `job` numbers a multirun."""
        if chosen:
            path = Path(chosen) if job is None else Path(chosen) / str(job)
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
        """Raise ConfigError where a new run of `command` would lose or mix with what a run of this folder did.

        A run that was killed before it had read its data is taken over. So is one of a command that cannot go on with
        its own runs, since a new one does all of it again.
        """
        resumes = self.file(INPUTS).exists()
        if not self.is_finished and not resumes and self.command in ("", command):
            return
        resume = f", or go on with that run by resume={self.path}" if resumes and not self.is_finished else ""
        raise ConfigError(f"run_dir={self.path}: holds a run already, and two runs in one folder would be a mix; "
                          f"choose another folder{resume}")

    @property
    def command(self) -> str:
        """The command that the log begins with; empty where there is no log yet."""
        return next((str(line.get("command", "")) for line in self._logged() if line.get("event") == "started"), "")

    @property
    def is_finished(self) -> bool:
        """Whether the run has done its work."""
        return self.file(MANIFEST).exists()

    @property
    def is_closed(self) -> bool:
        """Whether the run has done its work and put all in order after it."""
        return self.is_finished and any(line.get("event") == "finished" for line in self._logged())

    def _logged(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.file(LOG).read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError):
                content = json.loads(line)
                if isinstance(content, dict):
                    yield content

    def clear(self) -> None:
        """Remove what a killed run left half-written, and what it cut off in its log. Only under the folder's lock."""
        with writing(self.path):
            clear_below(self.path)
            log = self.file(LOG)
            content = log.read_bytes() if log.exists() else b""
            if content and not content.endswith(b"\n"):
                os.truncate(log, content.rfind(b"\n") + 1)

    def close(self, command: str) -> None:
        """Do what is left of a run that was killed after its work: point latest here, remove the checkpoints."""
        point(RUNS / command / LATEST, self.path)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @property
    def model(self) -> Path:
        """Folder of the recommender."""
        return self.path / MODEL

    @property
    def encoder(self) -> Path:
        """Folder of a pretrained encoder."""
        return self.path / ENCODER

    @property
    def adapter(self) -> Path:
        """Folder of what fine-tuning changed of the encoder, alone."""
        return self.path / ADAPTER

    @property
    def checkpoints(self) -> Path:
        """Folder of the training checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    def file(self, name: str) -> Path:
        """Return the path of one of the run's own files."""
        return self.path / name

    def log(self, event: str, **values: Any) -> None:
        """Append one line to log.jsonl, and tell whoever listens."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, ensure_ascii=False)
        with writing(self.path), self.file(LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        for listener in self.listeners:
            listener(event, **values)

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Write the manifest and point runs/<command>/latest here."""
        write_json(self.file(MANIFEST), {"format": 1, "command": command, **manifest})
        point(RUNS / command / LATEST, self.path)


class NoRunDir(RunDir):
    """Stand-in for a process that writes no run directory: another process writes it, or the run is not recorded.

    `path` is the run that is resumed, whose files it may read.
    """

    def __init__(self, path: Path = Path(os.devnull)) -> None:
        super().__init__(path)

    def log(self, event: str, **values: Any) -> None:
        """Leave the log to the other."""

    def finish(self, command: str, manifest: dict[str, Any]) -> None:
        """Leave the manifest to the other."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a failed write into a ResourceError that names `path`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{error.filename or path}: cannot be written ({error.strerror}); free space or choose "
                            f"another place") from error


@contextmanager
def _in_need_of_room(path: Path) -> Iterator[None]:
    """Turn what a full, failing or read-only disk says, to whatever code in the block, into a ResourceError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            raise
        raise ResourceError(f"{error.filename or path.parent}: cannot be written ({os.strerror(error.errno)}); free "
                            f"space or choose another place than {path}") from error


def require_room(folder: Path, num_bytes: int, what: str) -> None:
    """Raise ResourceError where the disk that `folder` is on, or will be on, has fewer bytes free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        needed, left = in_bytes(num_bytes), in_bytes(free)
        if needed == left:
            needed, left = f"{num_bytes:,} bytes", f"{free:,} bytes"
        raise ResourceError(f"{existing}: {left} are free, and {what} takes {needed}; free space or choose another "
                            f"place with run_dir=<folder>")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    with writing(path), whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    with ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(held_beside(path, "part"))
        yield temporary
        with writing(path):
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, readable by people."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that a run wrote."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); start a new run") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well, and vanishes when it does not.

    It takes its place in one step, so that a reader finds the old folder or the new, whole, and so does whoever comes
    after a kill. Where the file system has no such step see `restore`.
    """
    with ExitStack() as stack:
        with writing(path):
            restore(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # In the end the old folder has this name, or the new one that was not to be.
            temporary = stack.enter_context(held_beside(path, "new"))
        with _in_need_of_room(path):
            yield temporary
        with writing(path):
            # Libraries that write by way of temporary files of their own (safetensors) leave them to the owner alone;
            # the folder's own permissions say what the umask leaves to others.
            usual = temporary.stat().st_mode & 0o666
            for file in temporary.rglob("*"):
                if file.is_file() and file.stat().st_mode & 0o777 != usual:
                    file.chmod(usual)
                sync(file)
            sync(temporary)
            take_the_place(temporary, path)
            sync(path.parent)


def clear_leftovers(path: Path) -> None:
    """Remove what runs that were killed left beside the folder `path`. Only for who holds the lock of `path`."""
    with writing(path):
        restore(path)
        for leftover in beside(path, "new", "old", "scratch"):
            shutil.rmtree(leftover)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk that `path` goes to, where there is room for what does not fit in memory."""
    with ExitStack() as stack:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(held_beside(path, "scratch"))
        with _in_need_of_room(path):
            yield folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder in the system's place for temporary files, and remove it afterwards."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="llmrec.")
    except OSError as error:
        raise ResourceError(f"no folder for temporary files can be written ({error.strerror}); set TMPDIR=<folder> in "
                            f"the environment") from error
    with folder as name:
        yield Path(name)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_link(link: Path) -> None:
    """Raise ResourceError where something other than a link has the name of `link`, as copies by `cp -rL` leave it.

    It may be all there is of somebody's run, so it is neither written over nor moved. What a run that was killed in
    `point` left beside it goes, also where this run is refused afterwards.
    """
    with suppress(OSError):  # The next run tries again.
        _new_link(link).unlink(missing_ok=True)
    if link.exists() and not link.is_symlink():
        what = "folder" if link.is_dir() else "file"
        raise ResourceError(f"{link}: is a {what} instead of a link to the newest run or data; a copy that follows "
                            f"links (cp -rL, an image) causes this; rename it, `mv {link} "
                            f"{link.with_name('copied')}`, and try again")


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to the folder `target`, by one rename."""
    require_link(link)
    with writing(link):
        link.parent.mkdir(parents=True, exist_ok=True)
        inside = target.resolve().is_relative_to(link.parent.resolve())
        text = os.path.relpath(target.resolve(), link.parent.resolve()) if inside else str(target.resolve())
        temporary = _new_link(link)
        for _ in range(1000):
            # One name for all who do this at once, so that nobody who is killed here leaves more than this one. What
            # another put there or took away in between is tried again.
            temporary.unlink(missing_ok=True)
            try:
                temporary.symlink_to(text)
                os.replace(temporary, link)
                return
            except (FileExistsError, FileNotFoundError):
                continue
        raise ResourceError(f"{link}: other runs keep changing it; try again when they have ended")


def _new_link(link: Path) -> Path:
    return link.with_name(f".{link.name}.new")


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold the kernel's lock on the file `path`; it is free again the moment its owner is gone, however it went."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab+", buffering=0)
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"{path}: another run is writing {what}; wait for it to end"
                              f"{holder(stream.fileno())}") from error
        except OSError as error:
            raise ResourceError(f"{path}: this file system has no locks ({error.strerror}); choose another place for "
                                f"{what}") from error
        with writing(path):
            note_holder(stream.fileno())
        try:
            yield
        finally:
            clear_holder(stream.fileno())


def latest(command: str, chosen: str, key: str) -> Path:
    """Return the run directory that `chosen` names, or runs/<command>/latest when it is empty."""
    path = Path(chosen) if chosen else RUNS / command / LATEST
    if not path.is_dir():
        raise ConfigError(f"{key}={path}: no such folder; run `llmrec {command}` first or set {key}=<run directory>")
    return path


def environment() -> dict[str, Any]:
    """Return versions, commit and hardware; never the environment's variables, which hold secrets."""
    packages = ("llmrec-cli", "torch", "transformers", "peft", "numpy", "scipy", "pandas", "pyarrow", "duckdb")
    versions = {}
    for name in packages:
        # Asked one by one: going through all that is installed takes a third of the time of a run that does nothing.
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": sys.version.split()[0], "platform": platform.platform(), "machine": platform.machine(),
            "cores": os.cpu_count(), "packages": versions, "commit": commit()}


def commit() -> str | None:
    """Return the commit of our checkout; None where we are installed from a wheel or git is not there."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
