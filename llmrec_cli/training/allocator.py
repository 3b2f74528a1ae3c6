"""Freed memory kept for the next step, where the C library lets us say so.

glibc gives memory back to the system as soon as there is much of it at the top of its heap, and every array above
32 MiB at once. A step of training frees all it took and takes it again: each page is given back, asked for and filled
with zeros by the kernel, step after step.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 2**31 - 1
"""Free bytes at the top of the heap before glibc returns them in training: the largest int, so never."""
_MAPPED = 2**25
"""Bytes from which on an array gets a memory mapping of its own: the most that glibc allows."""
_USUAL = 2**26
"""Bytes that glibc keeps by its own rule after an array of `_MAPPED` bytes was freed: twice that."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in the block for what is allocated in it; afterwards what is free goes back to the system."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        libc.mallopt(_M_TRIM_THRESHOLD, _USUAL)
        libc.malloc_trim(0)


def return_freed_memory() -> None:
    """Give the system back what is free in the C library's heap, where that can be done."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library where it is glibc; None elsewhere, where memory is managed by other rules."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
