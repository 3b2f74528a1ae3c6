"""Reuse of freed memory between training steps, where the C library (glibc) allows it.

glibc returns freed memory to the system when much of it is at the top of its heap, and arrays above 32 MiB at once. A
training step frees its memory and the next step allocates the same amount: the kernel takes back, hands out and zeroes
each page, step after step.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_TRIM_THRESHOLD = 2**31 - 1
"""Free bytes at the top of the heap from which glibc returns them while training: the largest int, so never."""
MMAP_THRESHOLD = 2**25
"""Size in bytes from which an array gets its own memory mapping: the largest that glibc allows."""
_DEFAULT_TRIM_THRESHOLD = 2**26
"""Trim threshold that glibc itself sets after an array of `MMAP_THRESHOLD` bytes was freed: twice its size."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep memory freed in the block for later allocations in it; free memory goes back to the system afterwards."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
    try:
        yield
    finally:
        libc.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)


def return_freed_memory() -> None:
    """Return free memory in the C library's heap to the system, if the library is glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc, otherwise None."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
