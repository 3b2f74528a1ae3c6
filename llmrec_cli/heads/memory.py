"""Memory: stated before work begins, refused where it is not there, and compared with what was taken.

The estimate (`Head.estimate_memory`, and its like for evaluate and recommend) is the growth of the process's resident
memory from the start of the work to its peak. A fit starts with the data loaded, the other two commands with the
libraries loaded and nothing read. `taken_by` and `Watch` measure the same growth.
"""

import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ResourceError, in_bytes
from llmrec_cli.heads.base import Head
from llmrec_cli.training.allocator import return_freed_memory

LIBRARIES = 8 * 2**20
"""Memory that BLAS and torch keep after their first computation."""
_TRAINING_LIBRARIES = 112 * 2**20
"""The same for heads trained by gradients, which load the optimizer and TensorBoard when training begins."""
_BESIDE_AN_ENCODER = 48 * 2**20
"""The same where a text encoder, stated for itself, has loaded most of it."""
CATALOGUE_FACTOR = 6
"""Bytes that ids, titles and texts take as Python's strings for each byte of a compressed table."""


def require_memory(head: Head, data: TrainingData, device: torch.device) -> int:
    """Return the bytes that fitting will take; raise ResourceError where there are not as many."""
    needed = head.estimate_memory(data) + libraries_memory(head.config.head.uses())
    available = available_memory(device)
    if needed > available:
        of_members = ""
        if head.members:
            taken = {name: member.estimate_memory(data) for name, member in head.members.items()}
            name = max(taken, key=lambda name: taken[name])
            of_members = f"leave out the largest member (head.members.{name}=null, {in_bytes(taken[name])}), "
        raise ResourceError(f"head={head.config.head.kind}: fitting takes about {in_bytes(needed)} of memory for "
                            f"{len(data.users):,} users, {len(data.items):,} items and {len(data.interactions):,} "
                            f"interactions, and {in_bytes(available)} are free; {of_members}prepare with a larger "
                            f"dataset.min_item_interactions or dataset.min_user_interactions, choose another head "
                            f"(head=item_knn and head=ials take less), or a machine with more memory")
    return needed


def libraries_memory(uses: set[str]) -> int:
    """Return the bytes that libraries take in the fit of a head that uses these config groups."""
    if "optim" not in uses:
        return LIBRARIES
    return _BESIDE_AN_ENCODER if "encoder" in uses else _TRAINING_LIBRARIES


def available_memory(device: torch.device) -> int:
    """Return the bytes that are free where the head computes."""
    return int(psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info(device)[0])


class Watch:
    """The memory that a command states, and takes from here on until it is done."""

    def __init__(self, command: str, needed: int, device: torch.device, log: Callable[..., None]) -> None:
        """Say what is needed; raise ResourceError where there is not as much."""
        available = available_memory(torch.device("cpu"))
        if device.type == "cpu" and needed > available:
            raise ResourceError(f"{command}: takes about {in_bytes(needed)} of memory, and {in_bytes(available)} are "
                                f"free; choose a smaller block_size or fewer models at a time, free memory, or choose "
                                f"a machine with more")
        print(f"{command}: takes about {in_bytes(needed)} of memory", file=sys.stderr)
        self.command, self.needed, self.log = command, needed, log
        self.forgotten = _forget_peak()
        self.held, self.before = psutil.Process().memory_info().rss, peak()

    def done(self) -> None:
        """Note in the log what was taken."""
        after = peak()
        taken = max(0, after - self.held) if self.forgotten or after > self.before else None
        self.log("memory_taken", command=self.command, stated=self.needed, taken=taken)


def model_memory(folder: Path) -> int:
    """Return the bytes that a model in a folder holds once it is loaded: its arrays and its catalogue."""
    files = [file for file in (folder / "model.safetensors", folder / "histories.safetensors") if file.is_file()]
    tables = [file for file in folder.glob("*.parquet") if file.is_file()]
    return (sum(file.stat().st_size for file in files)
            + CATALOGUE_FACTOR * sum(file.stat().st_size for file in tables))


def entities_memory(folder: Path) -> int:
    """Return the bytes of the users and items of prepared data, with their texts; 0 where there are none."""
    files = [folder / f"{kind}.parquet" for kind in ("users", "items")]
    return CATALOGUE_FACTOR * sum(file.stat().st_size for file in files if file.is_file())


def num_rows(table: Path) -> int:
    """Return the rows of a Parquet file, 0 where it cannot be read: that is said where it is checked and read."""
    try:
        # A pipe in its place would be waited for.
        return int(pq.read_metadata(table).num_rows) if table.is_file() else 0
    except (OSError, pa.ArrowException, ValueError):
        return 0


def taken_by(work: Callable[[], None]) -> int | None:
    """Do the work and return the bytes of memory that the process took for it at most, beyond what it held before.

    None where an earlier peak of the process hides it: Linux forgets the peak when asked to, other systems do not.
    """
    # What reading the data freed would else be taken again without a trace.
    return_freed_memory()
    forgotten = _forget_peak()
    held, before = psutil.Process().memory_info().rss, peak()
    work()
    after = peak()
    return max(0, after - held) if forgotten or after > before else None


def _forget_peak() -> bool:
    """Let the peak be what is held now, and return whether the system can (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the most bytes this process has held."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text("utf-8"))):
        # Not ru_maxrss: on Linux it begins with the peak of the process that started this one.
        return int(found[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
