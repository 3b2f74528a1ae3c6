"""Atomic writes of files, folders and links (temporary name, fsync, rename), and locks on them."""

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
from llmrec_cli.folders import list_temporaries, locked_temporary, replace_folder, restore
from llmrec_cli.locks import clear_holder, holder, note_holder


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of a failed write into a ResourceError that names `path`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{error.filename or path}: cannot be written ({error.strerror}); free space or choose "
                            f"another place") from error


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a full, failing or read-only disk into a ResourceError, whatever code in the block raises
    it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            raise
        raise ResourceError(f"{error.filename or path.parent}: cannot be written ({os.strerror(error.errno)}); free "
                            f"space or choose another place than {path}") from error


def require_room(folder: Path, num_bytes: int, what: str) -> None:
    """Raise ResourceError if the disk of `folder`, which need not exist yet, has fewer bytes free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        needed, available = in_bytes(num_bytes), in_bytes(free)
        if needed == available:
            needed, available = f"{num_bytes:,} bytes", f"{free:,} bytes"
        raise ResourceError(f"{existing}: {available} are free, and {what} takes {needed}; free space or choose "
                            f"another place with run_dir=<folder>")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new content."""
    with writing(path), whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty file that replaces `path` when the block succeeds, and is removed when it fails."""
    with ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(locked_temporary(path, "part"))
        yield temporary
        with writing(path):
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the content of a JSON file written by a run."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); start a new run") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` when the block succeeds, and is removed when it fails.

    The replacement is atomic: readers, also after a kill, find the complete old folder or the complete new one. For
    file systems that cannot exchange two names see `restore`.
    """
    with ExitStack() as stack:
        with writing(path):
            restore(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            # At the end this name belongs to the old folder, or to the new folder of a failed block.
            temporary = stack.enter_context(locked_temporary(path, "new"))
        with _disk_errors(path):
            yield temporary
        with writing(path):
            # Libraries that write through temporary files (safetensors) leave permissions for the owner only; the
            # folder's permissions follow the umask.
            mode = temporary.stat().st_mode & 0o666
            for file in temporary.rglob("*"):
                if file.is_file() and file.stat().st_mode & 0o777 != mode:
                    file.chmod(mode)
                sync(file)
            sync(temporary)
            replace_folder(path, temporary)
            sync(path.parent)


def clear_leftovers(path: Path) -> None:
    """Remove temporary folders of killed runs next to the folder `path`. The caller must hold the lock of `path`."""
    with writing(path):
        restore(path)
        for leftover in list_temporaries(path, "new", "old", "scratch"):
            shutil.rmtree(leftover)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk of `path`, for data that does not fit in memory."""
    with ExitStack() as stack:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(locked_temporary(path, "scratch"))
        with _disk_errors(path):
            yield folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder in the system's temporary directory, and remove it afterwards."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="llmrec.")
    except OSError as error:
        raise ResourceError(f"no temporary folder can be created ({error.strerror}); set TMPDIR=<folder> in the "
                            f"environment") from error
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
    """Raise ResourceError if `link` exists but is no link, for example in a copy made by `cp -rL`.

    It may be the only copy of a run, so it is neither overwritten nor moved. The temporary link of a run that was
    killed in `point` is removed, even if this run is refused afterwards.
    """
    with suppress(OSError):  # The next run tries again.
        _new_link(link).unlink(missing_ok=True)
    if link.exists() and not link.is_symlink():
        kind = "folder" if link.is_dir() else "file"
        raise ResourceError(f"{link}: is a {kind} instead of a link to the newest run or data; a copy that follows "
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
            # All processes use the same temporary name, so that killed processes leave at most one. If another process
            # created or removed it in between, try again.
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
    """Hold the kernel's lock on the file `path`; the kernel releases it when the process ends, also when killed."""
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
            raise ResourceError(f"{path}: this file system does not support locks ({error.strerror}); choose another "
                                f"place for {what}") from error
        with writing(path):
            note_holder(stream.fileno())
        try:
            yield
        finally:
            clear_holder(stream.fileno())
