"""Memory: estimated before work begins, refused if not available, and compared with the measured peak.

The estimate (`Head.estimate_memory`, and its counterparts for evaluate and recommend) is the growth of the process's
resident memory from the start of the work to its peak. A fit starts with the data loaded; the other two commands start
with the libraries loaded and nothing read. `measure_memory_growth` and `Watch` measure the same growth.
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
from llmrec_cli.encoders.base import encoder_class
from llmrec_cli.errors import ResourceError, in_bytes
from llmrec_cli.heads.base import Head
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.training.allocator import return_freed_memory

LIBRARIES = 8 * 2**20
"""Memory that BLAS and torch keep after their first computation."""
_TRAINING_LIBRARIES = 112 * 2**20
"""The same for heads trained by gradients, which load the optimizer and TensorBoard when training begins."""
_BESIDE_AN_ENCODER = 48 * 2**20
"""The same if a text encoder has imported most of them."""
CATALOGUE_FACTOR = 6
"""Bytes that ids, titles and texts take as Python's strings for each byte of a compressed table."""


def require_memory(head: Head, data: TrainingData, device: torch.device) -> int:
    """Return the bytes that fitting will take; raise ResourceError if fewer are available."""
    needed = head.estimate_memory(data) + libraries_memory(head.config)
    available = available_memory(device)
    if needed > available:
        advice = ""
        if head.members:
            estimates = {name: member.estimate_memory(data) for name, member in head.members.items()}
            name = max(estimates, key=lambda name: estimates[name])
            advice = f"leave out the largest member (head.members.{name}=null, {in_bytes(estimates[name])}), "
        raise ResourceError(f"head={head.config.head.kind}: fitting takes about {in_bytes(needed)} of memory for "
                            f"{len(data.users):,} users, {len(data.items):,} items and {len(data.interactions):,} "
                            f"interactions, but only {in_bytes(available)} are free; {advice}prepare with a larger "
                            f"dataset.min_item_interactions or dataset.min_user_interactions, choose another head "
                            f"(head=item_knn and head=ials take less), or use a machine with more memory")
    return needed


def libraries_memory(config: ModelConfig) -> int:
    """Return the bytes that libraries take in the fit of a head or of its members, which share them."""
    configs = [config, *config.head.member_configs().values()]
    encoders = [each.encoder for each in configs if each.encoder is not None and "encoder" in each.head.uses()]
    imported = max((encoder_class(encoder).imports_memory(encoder) for encoder in encoders), default=0)
    if "optim" not in config.head.uses():
        return LIBRARIES + imported
    return (_BESIDE_AN_ENCODER if encoders else _TRAINING_LIBRARIES) + imported


def available_memory(device: torch.device) -> int:
    """Return the free bytes on the device."""
    return int(psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info(device)[0])


class Watch:
    """Estimated memory of a command, and its measured growth from construction to `done`."""

    def __init__(self, command: str, needed: int, device: torch.device, log: Callable[..., None]) -> None:
        """Print the estimate; raise ResourceError if less memory is available."""
        available = available_memory(torch.device("cpu"))
        if device.type == "cpu" and needed > available:
            raise ResourceError(f"{command}: takes about {in_bytes(needed)} of memory, but only {in_bytes(available)} "
                                f"are free; choose a smaller block_size or fewer models at a time, free memory, or use "
                                f"a machine with more")
        print(f"{command}: takes about {in_bytes(needed)} of memory", file=sys.stderr)
        self.command, self.needed, self.log = command, needed, log
        self.has_reset_peak = _reset_peak()
        self.start, self.start_peak = psutil.Process().memory_info().rss, peak()

    def done(self) -> None:
        """Write the measured growth to the log."""
        end_peak = peak()
        growth = max(0, end_peak - self.start) if self.has_reset_peak or end_peak > self.start_peak else None
        self.log("memory_taken", command=self.command, stated=self.needed, taken=growth)


def model_memory(folder: Path) -> int:
    """Return the bytes that a loaded model takes: its arrays and its catalogues."""
    files = [file for file in (folder / "model.safetensors", folder / "histories.safetensors") if file.is_file()]
    tables = [file for file in folder.glob("*.parquet") if file.is_file()]
    return (sum(file.stat().st_size for file in files)
            + CATALOGUE_FACTOR * sum(file.stat().st_size for file in tables))


def entities_memory(folder: Path) -> int:
    """Return the bytes of the users and items of prepared data, with their texts; 0 if the files are missing."""
    files = [folder / f"{kind}.parquet" for kind in ("users", "items")]
    return CATALOGUE_FACTOR * sum(file.stat().st_size for file in files if file.is_file())


def num_rows(table: Path) -> int:
    """Return the rows of a Parquet file; 0 if it is unreadable, which the later checked read reports."""
    try:
        # Only regular files: opening a pipe would block.
        return int(pq.read_metadata(table).num_rows) if table.is_file() else 0
    except (OSError, pa.ArrowException, ValueError):
        return 0


def measure_memory_growth(work: Callable[[], None]) -> int | None:
    """Do the work and return the growth of the process's memory in bytes, from the start to the peak.

    None if an earlier peak of the process hides it: only Linux can reset the peak.
    """
    # Otherwise memory freed after reading the data would be reused without being measured.
    return_freed_memory()
    has_reset_peak = _reset_peak()
    start, start_peak = psutil.Process().memory_info().rss, peak()
    work()
    end_peak = peak()
    return max(0, end_peak - start) if has_reset_peak or end_peak > start_peak else None


def _reset_peak() -> bool:
    """Set the recorded peak to the present memory; return False if the system cannot (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file() and (match := re.search(r"VmHWM:\s*(\d+) kB", status.read_text("utf-8"))):
        # Not ru_maxrss: on Linux it begins with the peak of the process that started this one.
        return int(match[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
