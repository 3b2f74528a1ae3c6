"""What frozen layers make of a catalogue's texts, kept on disk and mapped into memory.

    <cache>/hidden/<SHA-256 of what decides on it>/    hidden.bin, manifest.json (dtype, shape, SHA-256)

A folder appears whole or not at all. Unlike vectors, hidden states are kept for a catalogue as a whole: they serve the
next run on the same items (another seed, another peft), and are made anew when items change.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from llmrec_cli.data.manifest import sha256
from llmrec_cli.run_dir import whole_folder, write_json

NUMBERS, MANIFEST = "hidden.bin", "manifest.json"
MOST_FOLDERS = 4
STORED: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16}
"""numpy has no bfloat16: its bits are kept as whole numbers."""


def cached_hidden(cache: Path, facts: str, arrays: Sequence[np.ndarray], dtype: torch.dtype,
                  make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what `make` returns, (num_tokens + 1, D) of `dtype`, from the cache where it is there.

    `facts` and `arrays` are all that decides on it: the layers' weights and the tokens. A damaged folder is removed
    and made again, with a line that says so: nothing in it is lost.
    """
    key = hashlib.sha256(f"{facts} {dtype}".encode())
    for array in arrays:
        key.update(np.ascontiguousarray(array).data)
    folder = cache / "hidden" / key.hexdigest()
    found = _mapped(folder, dtype) if folder.is_dir() else None
    if found is not None:
        return found
    hidden = make()
    with whole_folder(folder) as temporary:
        _bits(hidden).tofile(temporary / NUMBERS)
        write_json(temporary / MANIFEST, {"shape": list(hidden.shape), "sha256": sha256(temporary / NUMBERS)})
    _tidy(folder)
    return hidden


def _bits(hidden: torch.Tensor) -> np.ndarray:
    host = hidden.cpu().contiguous()
    return (host.view(torch.int16) if host.dtype == torch.bfloat16 else host).numpy()


def _mapped(folder: Path, dtype: torch.dtype) -> torch.Tensor | None:
    """Return the numbers in a folder, mapped and not read; None, and the folder is gone, where they are damaged."""
    mapped = None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        # One file for the hash and the map: its name may be another's by then, or nobody's.
        with (folder / NUMBERS).open("rb") as numbers:
            if hashlib.file_digest(numbers, "sha256").hexdigest() == manifest["sha256"]:
                # Copy on write, since torch takes no tensor that it may not write to; nothing ever is written.
                mapped = np.memmap(numbers, STORED[dtype], "c", shape=tuple(manifest["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not folder.is_dir():
            return None  # Another run has made room in the cache.
    if mapped is None:
        print(f"warning: {folder}: damaged, so it is removed and made again", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(FileNotFoundError):
        (folder / MANIFEST).touch()
    return torch.from_numpy(mapped).view(dtype)


def _tidy(newest: Path) -> None:
    """Remove the folders that were used longest ago where there are too many."""
    others = [(file.stat().st_mtime_ns, file.parent) for file in newest.parent.glob(f"*/{MANIFEST}")
              if file.parent != newest]
    for _, folder in sorted(others)[: max(0, len(others) - MOST_FOLDERS + 1)]:
        shutil.rmtree(folder, ignore_errors=True)
