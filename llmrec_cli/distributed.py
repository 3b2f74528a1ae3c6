"""Multi-process runs: `torchrun --nproc_per_node 2 -m llmrec_cli evaluate ...`.

Blocks of queries are distributed round-robin, and every process gets all results in the order of the blocks. Blocks do
not depend on the number of processes, so results are bit-identical if each process has the same number of threads.

Only the first process creates the run directory, writes and prints; the others stop at `stop_unless_first`. An error in
a process's share is raised in all processes and printed once.
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
"""Commands that support several processes."""
_STORE_SECONDS = 5

Task = TypeVar("Task")
Result = TypeVar("Result")


class NotFirstProcess(Exception):
    """Raised in every process but the first when only the first process continues."""


def count() -> int:
    """Return the number of processes of the run; 1 if it was not started by torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Return True in the process that writes and prints."""
    return rank() == 0


def join(command: str) -> None:
    """Join the process group, if there are other processes; raise ConfigError for a command that runs in one
    process."""
    if count() == 1:
        return
    if command not in _SHARED:
        raise ConfigError(f"{command}: runs in one process; start it without torchrun (only {', '.join(_SHARED)} run "
                          f"in several)")
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def stop_unless_first() -> None:
    """Continue in the first process only; raise NotFirstProcess in the others."""
    if not is_first():
        raise NotFirstProcess


def map_shared(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """Yield `work(task)` for each task in order, in every process; each task is run in one process only."""
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
                # Sent like a result, since the other processes wait for this one.
                result = error
        results: list[Any] = [None] * count()
        dist.all_gather_object(results, result)
        for received in results:
            if isinstance(received, LlmrecError):
                raise received
        yield from results[:len(tasks) - start]


def sum_over_processes(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return the sum of a tensor over all processes, the same bits in each; `tensor` itself is overwritten."""
    if count() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def max_over_processes(numbers: list[int]) -> list[int]:
    """Return the maximum of each number, at least 0, over all processes."""
    if count() == 1:
        return [int(number) for number in numbers]
    import torch
    import torch.distributed as dist

    maxima = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(maxima, dist.ReduceOp.MAX)
    return maxima.tolist()


def broadcast_from_first(number: float) -> float:
    """Return the number of the first process, in every process."""
    if count() == 1:
        return number
    import torch
    import torch.distributed as dist

    value = torch.tensor([number], dtype=torch.float64)
    dist.broadcast(value, 0)
    return float(value)


@contextmanager
def only_first_prints() -> Iterator[None]:
    """Discard the output of all processes but the first; the streams are restored after the block."""
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


def is_first_to_report() -> bool:
    """Return True if no other process has reported an error yet; the caller must then report its own."""
    if count() == 1:
        return True
    import torch.distributed as dist

    try:
        store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                              timeout=timedelta(seconds=_STORE_SECONDS))
        return int(store.add("llmrec/reported", 1)) == 1
    except dist.DistError:
        # The other processes and the shared store are gone. Reporting twice is better than not at all.
        return True
