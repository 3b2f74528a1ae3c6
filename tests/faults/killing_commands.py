"""Commands in forked processes that are killed before a chosen change of the file system."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrec_cli import cli
from llmrec_cli.errors import LlmrecError

KILLED = -signal.SIGKILL
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.symlink", "os.truncate", "shutil.rmtree")


def forked(arguments: Sequence[str], kill_at: int = 0) -> tuple[int, str, int]:
    """Run a command in a process of its own, killed before its change `kill_at` of the file system (0: never).

    Returns its exit code, its stderr, and the number of its changes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if (child := os.fork()) == 0:
        code = 1
        try:
            told = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(told, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            watch(os.open("changes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), kill_at)
            sys.argv = ["llmrec", *arguments]
            cli.run(arguments)
            code = 0
        except LlmrecError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
        finally:
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, Path("stderr").read_text("utf-8"), len(Path("changes").read_bytes())


def watch(note: int, kill_at: int) -> None:
    """Count what this process is about to change in the file system in the file `note`, and die at the chosen one."""
    count, fsync = [0], os.fsync

    def step() -> None:
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(note, b".")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event in CHANGES) and os.devnull not in map(str, arguments[:1]):
            step()

    def flush(descriptor: int) -> None:
        step()
        fsync(descriptor)

    os.fsync = flush
    sys.addaudithook(hook)


def leftovers(folder: Path) -> Iterator[str]:
    """Yield the temporary names in a folder and below."""
    for path in folder.rglob(".*"):
        if path.name != ".lock":
            yield str(path.relative_to(folder))
