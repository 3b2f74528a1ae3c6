"""The errors a person can cause, one kind per exit code.

Every message names the file, row or key, the value, and the next step. Anything that is not an
`LlmrecError` is a bug of ours and shows its traceback.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SHOWN_IDS = 3
"""Ids that a sentence shows of many."""


class LlmrecError(Exception):
    """An error to be shown to a person as one message, without a traceback."""

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
    """The input data is wrong or too little to work with."""

    exit_code = 3
    kind = "data error"


class ArtifactError(LlmrecError):
    """A file written by an earlier stage is missing, damaged, or does not belong."""

    exit_code = 4
    kind = "artifact error"


class ResourceError(LlmrecError):
    """Disk, memory or permission ran out."""

    exit_code = 5
    kind = "resource error"


class DivergedError(LlmrecError):
    """A loss, gradient or score is NaN or infinite."""

    exit_code = 6
    kind = "diverged"


class GateRefused(LlmrecError):
    """A gate refused to publish."""

    exit_code = 7
    kind = "refused"


class LockedError(LlmrecError):
    """Another run holds the lock."""

    exit_code = 75
    kind = "locked"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's and numpy's error, a GPU's, or what torch's allocator on the CPU says."""
    # By name, since torch is not to be loaded for it.
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)))


def counted(number: int, ids: "Sequence[object] | np.ndarray") -> str:
    """Return how many there are and the first of them: `4 ('a', 'b', 'c', ...)`."""
    shown = ", ".join(f"'{key}'" for key in ids[:_SHOWN_IDS])
    return f"{number:,} ({shown}{', ...' if number > min(len(ids), _SHOWN_IDS) else ''})"


def in_bytes(number: int) -> str:
    """Return a number of bytes with the unit that leaves at least 1 before the point: `2.4 KiB`."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} bytes"
