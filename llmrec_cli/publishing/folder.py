"""The folder that others read: versions that never change, and a link to the one in use.

    <folder>/current -> versions/<name>      switched by one rename; a reader that follows it once sees one version
    <folder>/candidate -> versions/<name>    the version that waits for a person, if there is one
    <folder>/versions/<name>/                a version, named by the SHA-256 of its content
    <folder>/refused/<name>/                 what the gate saw of a version that it refused, without model and lists
    <folder>/history.jsonl                   what happened, a line each, chained by hashes

The link decides which version is current, and history says how it became so. A process that is killed between both
leaves the link ahead of history by one line, which the next one adds.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from llmrec_cli.atomic_files import clear_leftovers, lock, point, read_json, sync, write_json, writing
from llmrec_cli.data.manifest import sha256
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.folders import locked_temporary, remove
from llmrec_cli.locks import is_abandoned

CURRENT, CANDIDATE, VERSIONS, REFUSED, HISTORY, LOCK = ("current", "candidate", "versions", "refused", "history.jsonl",
                                                        ".lock")
MANIFEST = "manifest.json"
UNNAMED = ("gate.json", "report.html", MANIFEST)
"""Files that do not belong to the content of a version: they describe it, and have times in them."""
_DIGITS = 16
_NAME = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")
SWITCHED = ("published", "promoted", "rolled_back")
"""Events after which another version is current."""


@dataclass(frozen=True)
class Event:
    """A line of history.

    Attributes
    ----------
    time : UTC, ISO 8601
    kind : published | promoted | rolled_back | candidate | refused | pinned | unpinned | removed
    version : its name
    facts : what belongs to the kind: superseded version, metrics, failed checks
    """

    time: str
    kind: str
    version: str
    facts: dict[str, Any]


class PublishFolder:
    """A folder of published versions."""

    def __init__(self, path: Path) -> None:
        """Open or create the folder; raise ConfigError if it is in other use, ResourceError if it cannot be written."""
        self.path = path
        refuse_other_use(path)
        with writing(path):
            (path / VERSIONS).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder's lock, and finish what a killed process left; raise LockedError while another holds it."""
        with lock(self.path / LOCK, f"versions in {self.path}"):
            clear_leftovers(self.path / VERSIONS / "version")
            for leftover in self.path.glob(f"{VERSIONS}/.removing.*"):
                remove(leftover)
            self._record_switch()
            yield

    @property
    def current(self) -> str | None:
        """Name of the current version; None before the first."""
        return self._target(CURRENT)

    @property
    def candidate(self) -> str | None:
        """Name of the version that waits for a person; None without one."""
        return self._target(CANDIDATE)

    def version(self, name: str) -> Path:
        """Return the folder of a version; raise ConfigError if there is none of this name."""
        folder = self.path / VERSIONS / name
        if not _NAME.fullmatch(name) or not folder.is_dir():
            known = ", ".join(self.versions()) or "none"
            raise ConfigError(f"{self.path}: has no version '{name[:60]}'; choose one of {known}")
        return folder

    def versions(self) -> list[str]:
        """Return the names of all versions, those that were current last first, then the others by name."""
        there = {entry.name for entry in (self.path / VERSIONS).iterdir() if _NAME.fullmatch(entry.name)}
        order = dict.fromkeys(event.version for event in reversed(self.history()) if event.version in there)
        return [*order, *sorted(there - order.keys())]

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Yield an empty folder on the disk of the versions, for `add`; it is removed if it is not added."""
        with locked_temporary(self.path / VERSIONS / "version", "new") as folder:
            yield folder

    def add(self, content: Path) -> str:
        """Make the folder `content`, on the same disk, a version, and return its name.

        A version of the same content stays as it is, and `content` is removed.
        """
        files = {str(file.relative_to(content)): sha256(file) for file in sorted(content.rglob("*"))
                 if file.is_file()}
        named = {name: value for name, value in files.items() if name not in UNNAMED}
        name = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        folder = self.path / VERSIONS / name
        if folder.exists():
            shutil.rmtree(content)
            return name
        write_json(content / MANIFEST, {"format": 1, "version": name, "files": files})
        with writing(folder):
            for file in content.rglob("*"):
                sync(file)
            os.rename(content, folder)
            sync(folder.parent)
        return name

    def check(self, name: str) -> None:
        """Raise ArtifactError unless a version's files are those of its manifest."""
        folder = self.version(name)
        manifest = read_json(folder / MANIFEST)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        for file, expected in (files if isinstance(files, dict) and files else {MANIFEST: ""}).items():
            if not (folder / file).is_file() or sha256(folder / file) != expected:
                raise ArtifactError(f"{folder / file}: is missing or damaged; go back with `llmrec publish "
                                    f"to={self.path} rollback=true`, or publish again")

    def switch(self, name: str, kind: str, facts: dict[str, Any] | None = None) -> None:
        """Make a version current by one rename, and record it; the caller holds the lock."""
        assert kind in SWITCHED
        folder, before = self.version(name), self.current
        point(self.path / CURRENT, folder)
        sync(self.path)
        if self.candidate == name:
            (self.path / CANDIDATE).unlink()
        self.record(kind, name, {"supersedes": before, **(facts or {})})

    def offer(self, name: str, facts: dict[str, Any]) -> None:
        """Make a version the candidate, for a person to promote, and record it."""
        point(self.path / CANDIDATE, self.version(name))
        self.record("candidate", name, facts)

    def new_refused(self) -> Path:
        """Return a new folder for what the gate saw of a version that it refused, named by time."""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for place in count():
            folder = self.path / REFUSED / (f"{stamp}.{place}" if place else stamp)
            with writing(folder), suppress(FileExistsError):
                folder.mkdir(parents=True)
                return folder
        raise AssertionError("unreachable: count() has no end")

    def previous(self) -> str:
        """Return the version that was current before the current one; raise ConfigError if none is left."""
        events = [event for event in self.history() if event.kind in ("published", "promoted")]
        there, current = set(self.versions()), self.current
        for event in reversed(events):
            if event.version == current and (name := event.facts.get("supersedes")) in there and name != current:
                return str(name)
        raise ConfigError(f"{self.path}: has no earlier version to go back to; `llmrec publish to={self.path} "
                          f"history=true` lists what there is")

    def pinned(self) -> set[str]:
        """Return the names of the pinned versions, which are never removed."""
        names: set[str] = set()
        for event in self.history():
            if event.kind in ("pinned", "unpinned"):
                (names.add if event.kind == "pinned" else names.discard)(event.version)
        return names

    def prune(self, keep: int, keep_days: float | None = None) -> list[str]:
        """Remove the oldest versions beyond `keep`, if they were superseded at least `keep_days` ago, and return them.

        Never the current one, the candidate, pinned ones, and those on which a reader holds a lock (flock -s <folder>).
        """
        safe = {self.current, self.candidate, *self.pinned()}
        removed = []
        for name in self.versions()[keep:]:
            folder = self.path / VERSIONS / name
            if name in safe or not is_abandoned(folder) or not self._is_old(name, keep_days):
                continue
            aside = folder.with_name(f".removing.{name}")
            with writing(folder):
                os.rename(folder, aside)
            remove(aside)
            self.record("removed", name, {})
            removed.append(name)
        return removed

    def _is_old(self, name: str, days: float | None) -> bool:
        """Return True if the version was superseded at least `days` ago, or never current."""
        if days is None:
            return True
        ends = [event.time for event in self.history() if event.facts.get("supersedes") == name]
        if not ends:
            return True
        return time.time() - datetime.fromisoformat(ends[-1]).timestamp() >= days * 86_400

    def history(self) -> list[Event]:
        """Return what happened, oldest first; raise ArtifactError if a line was changed or removed."""
        return [Event(line["time"], line["event"], line["version"], line.get("facts", {})) for line in self._lines()]

    def record(self, kind: str, version: str, facts: dict[str, Any]) -> None:
        """Add a line to history."""
        lines = self._lines()
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": kind,
                                "version": version, "facts": facts}
        line["hash"] = _hash(line, lines[-1] if lines else None)
        with writing(self.path / HISTORY), (self.path / HISTORY).open("ab") as stream:
            stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        file = self.path / HISTORY
        try:
            content = file.read_bytes() if file.exists() else b""
        except OSError as error:
            raise ResourceError(f"{file}: cannot be read ({error.strerror})") from error
        lines: list[dict[str, Any]] = []
        texts = content.split(b"\n")
        # A line without an end was being written when its process was killed.
        for number, text in enumerate(texts[:-1], 1):
            try:
                line = json.loads(text)
                kind, version = line["event"], line["version"]
            except (ValueError, KeyError, TypeError) as error:
                raise ArtifactError(f"{file}: line {number} is not readable ({error}); restore the file from a copy, "
                                    f"or move it away to begin a new history") from error
            if line.get("hash") != _hash(line, lines[-1] if lines else None):
                raise ArtifactError(f"{file}: line {number} ({kind} {version}) or the one before it was edited; "
                                    f"restore the file from a copy, or move it away to begin a new history")
            lines.append(line)
        if texts[-1]:
            with writing(file), file.open("r+b") as stream:
                stream.truncate(len(content) - len(texts[-1]))
        return lines

    def _record_switch(self) -> None:
        """Record the current version if its process was killed before it could."""
        switched = [event for event in self.history() if event.kind in SWITCHED]
        before = switched[-1].version if switched else None
        if self.current is not None and self.current != before:
            self.record("published", self.current, {"supersedes": before, "recorded_later": True})

    def _target(self, link: str) -> str | None:
        path = self.path / link
        if not path.is_symlink():
            return None
        name = Path(os.readlink(path)).name
        return name if _NAME.fullmatch(name) else None


def refuse_other_use(path: Path) -> None:
    """Raise ConfigError for a folder that holds something else, or whose `current` is no link."""
    current = path / CURRENT
    if current.exists() and not current.is_symlink():
        raise ConfigError(f"{current}: is a file or folder, but must be a link to a version; choose another folder, or "
                          f"move it away")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"to={path}: is a file; name a folder")
    if path.is_dir() and not (path / VERSIONS).is_dir() and (others := _others(path)):
        raise ConfigError(f"to={path}: holds other files ({others[0]}); choose an empty folder, or one that was "
                          f"published to before")


def _others(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)


def _hash(line: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the hash of a line and of the one before it."""
    content = [{key: value for key, value in line.items() if key != "hash"}, before and before["hash"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:_DIGITS]
