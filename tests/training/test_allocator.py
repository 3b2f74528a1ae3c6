"""Memory freed in a step is reused in the next one, without new page requests to the system."""

import subprocess
import sys

import pytest

from llmrec_cli.training import allocator

COUNTED = """
import resource
import sys
from contextlib import nullcontext
import numpy as np
from llmrec_cli.training.allocator import keep_freed_memory

def step():
    arrays = [np.ones(2**21) for _ in range(6)]  # 16 MiB each, together more than glibc keeps.

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with keep_freed_memory() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):
        step()
    before = faults()
    for _ in range(5):
        step()
    inside = faults() - before
step()
print(inside)
"""


@pytest.mark.slow
@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_steps_with_equal_allocations_request_no_new_pages():
    reused, plain = (int(subprocess.run([sys.executable, "-c", COUNTED, how], check=True, capture_output=True,
                                      text=True).stdout) for how in ("kept", "plain"))
    assert reused < 200
    assert plain > 5 * reused


def test_with_another_c_library_the_block_runs_unchanged(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with allocator.keep_freed_memory():
        done = True
    assert done


RETURNED = """
import psutil
from llmrec_cli.training.allocator import return_freed_memory

def held():
    return psutil.Process().memory_info().rss

small = [bytearray(50_000) for _ in range(2000)]
last = bytearray(50_000)
del small
before = held()
return_freed_memory()
print(before - held())
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_free_memory_inside_the_heap_is_returned_on_request():
    given_back = int(subprocess.run([sys.executable, "-c", RETURNED], check=True, capture_output=True,
                                    text=True).stdout)
    assert given_back > 50 * 2**20
