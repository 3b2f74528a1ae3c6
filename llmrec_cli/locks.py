"""File locks of the kernel: the holder of a lock, and abandoned temporary files.

While its lock is held, a lock file contains a line with process, command and time, for the message to other processes.
The line is information only: a line left by a killed process is simply overwritten.
"""

import fcntl
import os
import shlex
import socket
import sys
import time
from pathlib import Path

_LONGEST_COMMAND, _LONGEST_LINE = 160, 1000


def note_holder(descriptor: int) -> None:
    """Write into an open lock file that this process holds it."""
    command = " ".join(shlex.join(["llmrec", *sys.argv[1:]]).split())
    command = command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]}..."
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"process {os.getpid()} on {socket.gethostname()} since {since}: {command}\n"
    clear_holder(descriptor)
    os.write(descriptor, line.encode("utf-8", "backslashreplace"))


def clear_holder(descriptor: int) -> None:
    """Empty an open lock file."""
    os.ftruncate(descriptor, 0)


def holder(descriptor: int) -> str:
    """Return `, or end process 12 on host since ...: command` from an open lock file; '' if the file is empty."""
    line = os.pread(descriptor, _LONGEST_LINE, 0).partition(b"\n")[0].decode("utf-8", "replace").strip()
    return f", or end {line}" if line else ""


def hold(temporary: Path) -> int | None:
    """Lock a new temporary file or folder and return its descriptor; None if another process is removing it.

    If the file system has no locks, the descriptor is returned unlocked. `is_abandoned` is False there, since no other
    process can lock the file either.
    """
    try:
        descriptor = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return descriptor
    if os.fstat(descriptor).st_nlink and temporary.exists():
        return descriptor
    os.close(descriptor)
    return None


def is_abandoned(temporary: Path) -> bool:
    """Return True if no process holds the lock of `hold`; False if this cannot be determined."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def is_held(file: Path) -> bool:
    """Return True if a process holds the lock file; False if not, or if this cannot be determined.

    An empty file is not tried, since its lock was given back, and trying could get into the way of a new holder.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
