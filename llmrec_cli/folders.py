"""A folder takes the place of another of the same name in one step, and what a kill leaves of that is put right.

Beside `name`, what is being written and what is about to go is called `.name.<8 random characters>.<what>`, so that
nothing that another name has beside it can be taken for it:

    .new        a folder that will be, or has been, `name`
    .part       a file that will be `name`
    .scratch    what a run needs on the way
    .old        `name` itself, complete, in the instant of two renames where the file system cannot exchange two names
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from llmrec_cli.locks import hold, is_abandoned

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2
# What kernels, file systems (NFS, CIFS) and containers' filters say when they do not know the call.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def make_beside(path: Path, what: str) -> Path:
    """Make an empty folder (`what` is new or scratch) or an empty file (part) beside `path`.

    Its permissions are those of any new file or folder: what the umask leaves.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{what}")
        try:
            if what == "part":
                os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            else:
                temporary.mkdir()
        except FileExistsError:
            continue
        return temporary


@contextlib.contextmanager
def held_beside(path: Path, what: str) -> Iterator[Path]:
    """Yield what `make_beside` makes, locked while the block lasts, and remove it afterwards.

    What killed processes left of the same kind goes first: it is not locked any more.
    """
    for leftover in beside(path, what):
        if is_abandoned(leftover):
            remove(leftover)
    descriptor = None
    while descriptor is None:
        temporary = make_beside(path, what)
        descriptor = hold(temporary)
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(descriptor)


def remove(temporary: Path) -> None:
    """Remove a temporary file or folder if it is still there and can be removed; else the next run tries again."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    elif temporary.exists():
        with contextlib.suppress(OSError):
            temporary.unlink()


def beside(path: Path, *what: str) -> list[Path]:
    """Return the folders (for `part` the files), and no links to any, that we made beside `path`, by name."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.({'|'.join(what)})")
    if not path.parent.is_dir():
        return []
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if ours.fullmatch(e.name)
                 and (e.is_file(follow_symlinks=False) if e.name.endswith(".part")
                      else e.is_dir(follow_symlinks=False))]
    return [path.parent / name for name in sorted(names)]


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
