"""Consistent reads from folders that other processes may replace.

Publishing changes a link, exchanges two folders or rewrites files while others read. A reader that hashes a path and
then opens the path again can mix two versions. A `PinnedFolder` opens the folder once (so a link is resolved once) and
each file once, and compares the SHA-256 of the bytes it returns with the expected one, or with that of the first read.
The checked bytes are the returned bytes.
"""

import errno
import hashlib
import io
import os
import stat
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError

Result = TypeVar("Result")
_RETRY_SECONDS = 0.05
"""Pause before the second attempt; publishing exchanges names in far less time."""
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_IRREGULAR = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
"""Error numbers of links, of files in place of folders, and of sockets."""
_LEVELS = 8
"""Levels of subfolders that are listed; a model has two, and deeper files are never read."""


class MissingError(ArtifactError):
    """A folder or file does not exist."""


class PinnedFolder:
    """An open folder; its files are opened by `pin`, or when they are first read.

    Attributes
    ----------
    path : the folder as requested, for messages and manifests
    place : the path without links at the time of opening
    hashes : SHA-256 of files by name relative to the folder; files without one get it when they are first read
    """

    def __init__(self, path: Path, remedy: str, links: bool = False) -> None:
        """Open the folder `path`; `links` allows links to files, as in the hub's cache. `remedy` ends each error."""
        self.path, self.remedy = path, remedy
        self.hashes: dict[str, str] = {}
        self._manifest, self._pinned = "", False
        self._no_links = 0 if links else os.O_NOFOLLOW
        self._checked: set[str] = set()
        self._files: dict[str, int] = {}
        try:
            self.place = Path(os.path.realpath(path))
            self._folder = os.open(self.place, _FOLDER)
        except OSError as error:
            raise self._error(path, error) from error
        # Closed with the last reference, since lazy readers decide how long the files are needed.
        weakref.finalize(self, _close_all, self._folder, self._files)

    def pin(self, hashes: Mapping[str, Any], manifest: str = "manifest.json") -> None:
        """Open the files with these SHA-256 from `manifest`; other files are treated as missing.

        From here on the folder may be replaced or removed.
        """
        for name, expected in hashes.items():
            if not is_inside(name) or not isinstance(expected, str):
                raise ArtifactError(f"{self.path / manifest}: {str(name)[:100]!r}: {str(expected)[:100]!r} is not a "
                                    f"file of the folder and its SHA-256; {self.remedy}")
            self._descriptor(name)
        self.hashes |= hashes
        self._manifest, self._pinned = manifest, True

    def __contains__(self, name: str) -> bool:
        if self._pinned:
            return name in self.hashes
        try:
            self._descriptor(name)
        except MissingError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """Return the content of a file, checked."""
        with self.file(name) as file:
            content: bytes = file.read()
        self.check(name, hashlib.sha256(content).hexdigest())
        return content

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file, checked."""
        with self.file(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.check(name, digest)
        return digest

    def check(self, name: str, digest: str) -> None:
        """Raise ArtifactError unless `digest`, the SHA-256 of the content read from a file, is the expected one."""
        if self.hashes.setdefault(name, digest) != digest:
            why = (f"its SHA-256 is not the one in {self._manifest}, so it is damaged or was edited" if self._manifest
                   else "changed while it was read")
            raise ArtifactError(f"{self.path / name}: {why}; {self.remedy}")
        self._checked.add(name)

    def check_rest(self) -> None:
        """Raise ArtifactError unless all files that were not read yet have the expected SHA-256."""
        for name in self.hashes.keys() - self._checked:
            self.sha256(name)

    def file(self, name: str) -> "io.FileIO":
        """Return a file at its beginning, for a with block; the caller must `check` the content."""
        file = io.FileIO(self._descriptor(name), "rb", closefd=False)
        file.seek(0)
        return file

    def status(self, name: str) -> os.stat_result:
        """Return the status of the opened file."""
        return os.fstat(self._descriptor(name))

    def current_inode(self, name: str) -> tuple[int, int] | None:
        """Return device and inode of the file that has the name now, None if there is none."""
        try:
            now = os.stat(name, dir_fd=self._folder)
        except OSError:
            return None
        return now.st_dev, now.st_ino

    def names(self, levels: int = _LEVELS, below: str = "") -> Iterator[str]:
        """Yield the current names of all entries except folders, in the folder and `levels` of subfolders."""
        try:
            descriptor = os.open(below or ".", _FOLDER | os.O_NOFOLLOW, dir_fd=self._folder)
            try:
                with os.scandir(descriptor) as entries:
                    listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._error(self.path / below, error) from error
        for name, is_folder in sorted(listed):
            inner = f"{below}/{name}" if below else name
            if not is_folder:
                yield inner
            elif levels:
                yield from self.names(levels - 1, inner)

    def _descriptor(self, name: str) -> int:
        if name not in self._files:
            try:
                self._files[name] = _open_file(self._folder, name, self._no_links)
            except OSError as error:
                raise self._error(self.path / name, error) from error
        return self._files[name]

    def _error(self, path: Path, error: OSError) -> Exception:
        if error.errno == errno.ENOENT:
            return MissingError(f"{path}: missing; {self.remedy}")
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return ResourceError(f"{path}: cannot be opened ({error.strerror}); raise the limit with `ulimit -n`")
        if error.errno in _IRREGULAR and path != self.path:
            return ArtifactError(f"{path}: is a link or not a regular file, and is not read; copy the file itself "
                                 f"into the folder, or {self.remedy}")
        return ArtifactError(f"{path}: not readable ({error.strerror}); {self.remedy}")


def retried(read: Callable[[], Result]) -> Result:
    """Return the result of `read`. If a file is damaged or missing, try once more: a publish may have interfered."""
    try:
        return read()
    except (ArtifactError, ConfigError):
        time.sleep(_RETRY_SECONDS)
        return read()


def is_inside(name: Any) -> bool:
    """Return True for the plain name of a file inside a folder: relative and without `..`."""
    return (isinstance(name, str) and "\0" not in name and "\\" not in name and name not in ("", ".")
            and str(PurePosixPath(name)) == name and not name.startswith("/") and ".." not in name.split("/"))


def _open_file(folder: int, name: str, no_links: int) -> int:
    """Return a descriptor of a regular file below an open folder; `no_links` is O_NOFOLLOW, or 0 to follow links."""
    *between, last = name.split("/")
    opened: list[int] = []
    try:
        for part in between:
            folder = os.open(part, _FOLDER | no_links, dir_fd=folder)
            opened.append(folder)
        descriptor = os.open(last, _FILE | no_links, dir_fd=folder)
    finally:
        for parent in opened:
            os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "is not a regular file")
    return descriptor


def _close_all(folder: int, files: dict[str, int]) -> None:
    for descriptor in (folder, *files.values()):
        os.close(descriptor)
