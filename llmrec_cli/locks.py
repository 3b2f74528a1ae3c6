"""The kernel's locks on files: who holds one, and whether a temporary file is still in use.

A lock file holds one line while its lock is held: process, command and time, for whoever finds it locked. The line
decides nothing, the kernel does; so a line that a killed process left behind is only ever overwritten.
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
    """Return `, or end process 12 on host since ...: command` from an open lock file; empty if it says nothing."""
    line = os.pread(descriptor, _LONGEST_LINE, 0).partition(b"\n")[0].decode("utf-8", "replace").strip()
    return f", or end {line}" if line else ""


def hold(temporary: Path) -> int | None:
    """Lock a new temporary file or folder and return its descriptor; None if another process is removing it.

    Where the file system has no locks the descriptor is returned without one. Nobody else can lock the file there
    either, so nobody takes it for abandoned.
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
    """Return True if no process holds the lock that `hold` takes; False where that cannot be known."""
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
