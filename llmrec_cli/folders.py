"""A folder takes the place of another of the same name in one step, and what a kill leaves of that is put right.

Beside `name`, what is being written and what is about to go is called `.name.<8 random characters>.<what>`, so that
nothing that another name has beside it can be taken for it:

    .new        a folder that will be, or has been, `name`
    .scratch    what a run needs on the way
    .old        `name` itself, complete, in the instant of two renames where the file system cannot exchange two names

A file that is being written is `.name.<8 random characters>`, and locked by its writer.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
# What kernels, file systems (NFS, CIFS) and containers' filters say when they do not know the call.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def make_beside(path: Path, what: str) -> Path:
    """Make an empty folder beside `path`; `what` is new or scratch."""
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".{what}"))


def beside(path: Path, *what: str) -> list[Path]:
    """Return the folders, and no links to any, that we made beside `path`, by name."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.({'|'.join(what)})")
    if not path.parent.is_dir():
        return []
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if ours.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    return [path.parent / name for name in sorted(names)]


def clear_below(path: Path) -> None:
    """Remove what killed runs left beside any folder in the folder `path`. Only for who holds the lock of `path`."""
    ours = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(new|old|scratch)")
    for name, folders, _ in os.walk(path):
        for left in [folder for folder in folders if ours.fullmatch(folder)]:
            folders.remove(left)
            found = ours.fullmatch(left)
            assert found is not None
            restore(Path(name) / found[1])
            shutil.rmtree(Path(name) / left, ignore_errors=not (Path(name) / left).exists())


def clear_files_beside(path: Path) -> None:
    """Remove the temporary files of `path` whose writers are gone: a writer holds the kernel's lock on its own."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if ours.fullmatch(entry.name)]
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(path.parent / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path.parent / name)
            finally:
                os.close(descriptor)


def make_file_beside(path: Path) -> tuple[int, Path]:
    """Make an empty temporary file beside `path`; return its descriptor, which holds its lock, and its name."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with contextlib.suppress(OSError):  # Without locks in this file system nobody removes it either.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        # Another process took it for one that was left, in the instant before it was locked.
        os.close(descriptor)


def take_the_place(new: Path, path: Path) -> None:
    """Rename the folder `new`, made by `make_beside`, to `path`; what was called so is called `new` afterwards."""
    if not path.exists():
        os.rename(new, path)
    elif not exchange(new, path):
        _by_two_renames(new, path)


def _by_two_renames(new: Path, path: Path) -> None:
    aside = new.with_suffix(".old")
    for last in (False, False, True):
        try:
            os.rename(path, aside)
            os.rename(new, path)
            break
        except OSError as error:
            restore(path)
            # A reader that came between the two has put the old one back already.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or last:
                raise
        except BaseException:
            restore(path)
            raise
    # Only what is complete may be called .old, and removing it takes time.
    os.rename(aside, new)


def restore(path: Path) -> None:
    """Put the folder `path` back if a run was killed between the two renames. Readers may do it too.

    Where it cannot be put back it is missing, and whoever needs it says so.
    """
    if not path.name or path.exists():
        return
    for aside in beside(path, "old")[:1]:
        with contextlib.suppress(OSError):
            os.rename(aside, path)


def exchange(first: Path, second: Path) -> bool:
    """Give each of two existing folders the other's name, and return True; False where that cannot be done.

    Linux has it from 3.15 on and macOS from 10.12; Python has no call for it, so the C library is asked. Raises
    OSError for what would stop a plain rename too.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP))
        else:
            failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE))
    except AttributeError:
        return False  # a C library without the call: glibc before 2.28
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(second))
