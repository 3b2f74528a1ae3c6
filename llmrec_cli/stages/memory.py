"""Memory: stated before a head is fitted, refused where it is not there, and compared with what was taken."""

import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ResourceError
from llmrec_cli.heads.base import Head
from llmrec_cli.heads.fusion import Fusion


def require_memory(head: Head, data: TrainingData, device: torch.device) -> int:
    """Return the bytes that fitting will take; raise ResourceError where there are not as many."""
    needed, available = head.memory(data), available_memory(device)
    if needed > available:
        of_members = ""
        if isinstance(head, Fusion):
            taken = {name: member.memory(data) for name, member in head.members.items()}
            name = max(taken, key=lambda name: taken[name])
            of_members = f"leave out the largest member (head.members.{name}=null, {in_words(taken[name])}), "
        raise ResourceError(f"head={head.recipe.head.kind}: fitting takes about {in_words(needed)} of memory for "
                            f"{len(data.users):,} users, {len(data.items):,} items and {len(data.interactions):,} "
                            f"interactions, and {in_words(available)} are free; {of_members}prepare with a larger "
                            f"dataset.min_item_interactions or dataset.min_user_interactions, choose another head "
                            f"(head=item_knn and head=ials take less), or a machine with more memory")
    return needed


def available_memory(device: torch.device) -> int:
    """Return the bytes that are free where the head computes."""
    return int(psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info(device)[0])


def taken_by(work: Callable[[], None]) -> int | None:
    """Do the work and return the bytes of memory that the process took for it at most, beyond what it held before.

    None where an earlier peak of the process hides it: Linux forgets the peak when asked to, other systems do not.
    """
    forgotten = _forgetpeak()
    held, before = psutil.Process().memory_info().rss, peak()
    work()
    after = peak()
    return max(0, after - held) if forgotten or after > before else None


def _forgetpeak() -> bool:
    """Let the peak be what is held now, and return whether the system can (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


def in_words(num_bytes: int) -> str:
    """Return a number of bytes as people say it."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{max(1, round(num_bytes / 2**10)):,} KiB"


def peak() -> int:
    """Return the most bytes this process has held."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text("utf-8"))):
        # Not ru_maxrss: on Linux it begins with the peak of the process that started this one.
        return int(found[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
