"""Files, folders and links that appear whole or not at all: a temporary name, fsync, rename; and locks on them."""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from llmrec_cli.errors import ArtifactError, LockedError, ResourceError, in_bytes
from llmrec_cli.folders import beside, held_beside, restore, take_the_place
from llmrec_cli.locks import clear_holder, holder, note_holder


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
