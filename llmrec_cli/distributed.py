"""Several processes that share one piece of work: `torchrun --nproc_per_node 2 -m llmrec_cli evaluate ...`.

Blocks of queries are dealt out in turn and every process gets all results in the order of the blocks. A block is the
same whatever the number of processes, and so is every bit of its result, if each process has as many threads.

The first process alone makes the run directory, writes and prints; the others end where it begins to
(`leave_to_first`). An error that one meets in its share is raised in all of them, and told once.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from llmrec_cli.errors import ConfigError, LlmrecError

if TYPE_CHECKING:
    import torch

_SHARED = ("pretrain", "finetune", "evaluate", "recommend")
"""Commands whose work is shared; the others run in one process."""
_STORE_SECONDS = 5

Task = TypeVar("Task")
Result = TypeVar("Result")


class LeftToFirst(Exception):
    """Raised in every process but the first where what remains is for the first alone."""


def count() -> int:
    """Return the number of processes that share the work, 1 where torchrun did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Return whether this is the process that writes and prints."""
    return rank() == 0


def join(command: str) -> None:
    """Meet the other processes, if there are any; raise ConfigError for a command that is not shared."""
    if count() == 1:
        return
    if command not in _SHARED:
        raise ConfigError(f"{command}: runs in one process; start it without torchrun ({' and '.join(_SHARED)} share "
                          f"their work)")
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def leave_to_first() -> None:
    """Go on in the first process only."""
    if not is_first():
        raise LeftToFirst


def dealt(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """Yield `work(task)` for each task in order, in every process; each is worked on in one of them only."""
    if count() == 1:
        yield from map(work, tasks)
        return
    import torch.distributed as dist

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


def summed(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return the sum of a tensor over all processes, the same bits in each; `tensor` itself is overwritten."""
    if count() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def largest(numbers: list[int]) -> list[int]:
    """Return the largest of each of the numbers, at least 0, among all processes."""
    if count() == 1:
        return [int(number) for number in numbers]
    import torch
    import torch.distributed as dist

    found = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def of_first(number: float) -> float:
    """Return the number that the first process has."""
    if count() == 1:
        return number
    import torch
    import torch.distributed as dist

    told = torch.tensor([number], dtype=torch.float64)
    dist.broadcast(told, 0)
    return float(told)


@contextmanager
def only_first_prints() -> Iterator[None]:
    """Let what the others print go nowhere; what is raised finds the real streams again."""
    if is_first():
        yield
        return
    real = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = real


def is_first_to_tell() -> bool:
    """Return whether no other process has told of an error yet, so that this one must."""
    if count() == 1:
        return True
    import torch.distributed as dist

    try:
        store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                              timeout=timedelta(seconds=_STORE_SECONDS))
        return int(store.add("llmrec/told", 1)) == 1
    except dist.DistError:
        # The others are gone and took what we shared with them: better told twice than not at all.
        return True
