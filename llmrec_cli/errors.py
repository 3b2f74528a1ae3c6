"""Errors that a user can cause, one class per exit code.

Every message names the file, row or key, the value, and the next step. Any other exception is a bug in llmrec and shows
its traceback.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_NUM_EXAMPLES = 3
"""Number of example ids in a message."""


class LlmrecError(Exception):
    """An error that is printed as a message, without a traceback."""

    exit_code = 1
    kind = "error"


class ConfigError(LlmrecError):
    """The configuration is wrong: unknown keys, wrong types, ranges, combinations."""

    exit_code = 2
    kind = "configuration error"

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(LlmrecError):
    """The input data is wrong or insufficient."""

    exit_code = 3
    kind = "data error"


class ArtifactError(LlmrecError):
    """A file written by an earlier stage is missing, damaged or does not match."""

    exit_code = 4
    kind = "artifact error"


class ResourceError(LlmrecError):
    """Not enough disk space or memory, or no permission."""

    exit_code = 5
    kind = "resource error"


class DivergedError(LlmrecError):
    """A loss, gradient or score is NaN or infinite."""

    exit_code = 6
    kind = "diverged"


class GateRefused(LlmrecError):
    """A safety check refused to replace prepared data."""

    exit_code = 7
    kind = "refused"


class CommandFailedError(LlmrecError):
    """A command that this one started failed; this one ends with its exit code."""

    kind = "stopped"

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"{command} ended with exit code {code}; nothing was published")
        self.exit_code = code if code > 0 else 128 - code


class LockedError(LlmrecError):
    """Another run holds the lock."""

    exit_code = 75
    kind = "locked"


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for out-of-memory errors of Python, numpy, a GPU, or torch's CPU allocator."""
    # Compared by name, to avoid importing torch.
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)))


def format_count(number: int, ids: "Sequence[object] | np.ndarray") -> str:
    """Return a count with the first ids as text: `4 ('a', 'b', 'c', ...)`."""
    examples = ", ".join(f"'{key}'" for key in ids[:_NUM_EXAMPLES])
    return f"{number:,} ({examples}{', ...' if number > min(len(ids), _NUM_EXAMPLES) else ''})"


def in_bytes(number: int) -> str:
    """Return a number of bytes as text in the largest unit that fits: `2.4 KiB`."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} bytes"


def out_of_memory(command: str, error: BaseException) -> ResourceError:
    """Return the error of a command for an exception of a library that ran out of memory."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ResourceError(f"{command}: out of memory ({reason}); choose smaller settings, smaller data, or a machine "
                         f"with more memory")


def in_time(seconds: float) -> str:
    """Return a duration as text: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
