"""Several processes that share one piece of work: `torchrun --nproc_per_node 2 -m llmrec_cli evaluate ...`.

Blocks of queries are dealt out in turn and every process gets all results in the order of the blocks. A block is the
same whatever the number of processes, and so is every bit of its result, if each process has as many threads.

The first process alone makes the run directory, writes and prints; the others end where it begins to
(`leave_to_first`). An error in one process is raised in all of them at the next exchange.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from llmrec_cli.errors import LlmrecError

Task = TypeVar("Task")
Result = TypeVar("Result")


class LeftToFirst(Exception):
    """Raised in every process but the first where what remains is for the first alone."""


def join() -> None:
    """Meet the other processes that torchrun started; once, and only under torchrun."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")


def count() -> int:
    """Return the number of processes that share the work, 1 outside torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def leave_to_first() -> None:
    """Go on in the first process only."""
    if not is_first():
        raise LeftToFirst


def dealt(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """Yield `work(task)` for each task in order, in every process; each is worked on in one of them only."""
    if count() == 1:
        yield from map(work, tasks)
        return
    for start in range(0, len(tasks), count()):
        mine = start + dist.get_rank()
        result: Any = None
        if mine < len(tasks):
            try:
                result = work(tasks[mine])
            except LlmrecError as error:
                # Handed round like a result: whoever waits for this process must hear of it.
                result = error
        results: list[Any] = [None] * count()
        dist.all_gather_object(results, result)
        for one in results:
            if isinstance(one, LlmrecError):
                raise one
        yield from results[:len(tasks) - start]


def under_torchrun() -> int:
    """Return how many processes torchrun started, 1 where it did not start this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
