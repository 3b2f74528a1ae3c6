"""Atomic replacement of folders, and repair after a kill.

Temporary files and folders of `name` are next to it and called `.name.<8 random characters>.<what>`, so that they
cannot be mistaken for those of another name:

    .new        a folder that will be, or has been, `name`
    .part       a file that will be `name`
    .scratch    scratch space of a run
    .old        `name` itself, complete, between two renames if the file system cannot exchange two names
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
# Error numbers of kernels, file systems (NFS, CIFS) and container filters without this call.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def make_temporary(path: Path, what: str) -> Path:
    """Create an empty folder (`what` is new or scratch) or an empty file (part) next to `path`.

    Its permissions follow the umask, as for any new file or folder.
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
def locked_temporary(path: Path, what: str) -> Iterator[Path]:
    """Yield a file or folder of `make_temporary`, locked during the block, and remove it afterwards.

    Unlocked ones of the same kind belong to killed processes and are removed first.
    """
    for leftover in list_temporaries(path, what):
        if is_abandoned(leftover):
            remove(leftover)
    descriptor = None
    while descriptor is None:
        temporary = make_temporary(path, what)
        descriptor = hold(temporary)
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(descriptor)


def remove(temporary: Path) -> None:
    """Remove a temporary file or folder if it exists. Errors are ignored; the next run tries again."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    elif temporary.exists():
        with contextlib.suppress(OSError):
            temporary.unlink()


def is_scratch(path: Path) -> bool:
    """Return True for the name of a scratch folder made by `make_temporary`."""
    return re.fullmatch(r"\..+\.[a-z0-9_]{8}\.scratch", path.name) is not None and not path.is_symlink()


def list_temporaries(path: Path, *what: str) -> list[Path]:
    """Return the temporary folders (for `part` files) next to `path`, sorted by name; links are skipped."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.({'|'.join(what)})")
    if not path.parent.is_dir():
        return []
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if ours.fullmatch(e.name)
                 and (e.is_file(follow_symlinks=False) if e.name.endswith(".part")
                      else e.is_dir(follow_symlinks=False))]
    return [path.parent / name for name in sorted(names)]


def clear_below(path: Path) -> None:
    """Remove all temporary files and folders of killed runs inside the folder `path`. The caller must hold its lock."""
    ours = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(new|old|scratch|part)")
    for name, folders, files in os.walk(path):
        for match in filter(None, map(ours.fullmatch, [*folders, *files])):
            if match[0] in folders:
                folders.remove(match[0])
                restore(Path(name) / match[1])
            remove(Path(name) / match[0])


def replace_folder(path: Path, new: Path) -> None:
    """Rename the folder `new`, made by `make_temporary`, to `path`; an existing folder `path` is renamed to `new`."""
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
            # A reader between the two renames has already restored the old folder.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or last:
                raise
        except BaseException:
            restore(path)
            raise
    # Only complete folders may be called .old, and removing this one takes time.
    os.rename(aside, new)


def restore(path: Path) -> None:
    """Restore the folder `path` if a run was killed between the two renames. Readers may call this too.

    If that fails the folder is missing, and its reader reports this.
    """
    if not path.name or path.exists():
        return
    for aside in list_temporaries(path, "old")[:1]:
        with contextlib.suppress(OSError):
            os.rename(aside, path)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two existing folders and return True; False if this is not supported.

    Linux 3.15 and macOS 10.12 support it; Python has no such call, so this calls the C library. Raises OSError for
    errors that a plain rename would raise too.
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
