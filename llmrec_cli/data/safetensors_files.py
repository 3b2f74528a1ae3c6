"""Reading safetensors from an open folder, into memory of its own: what is hashed is what is used.

`safetensors` itself reads by path, and maps the file: it would see whatever has the name by then, and a file that is
cut short meanwhile would end the process.
"""

import hashlib
import io
import json
import math
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError

from llmrec_cli.pinned import PinnedFolder

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
         "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8}
"""Bytes of a number, by its name in the format."""
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of `safetensors`."""


class Tensor(NamedTuple):
    """The bytes (uint8) of a tensor, its type's name in the format, and its shape."""

    content: np.ndarray
    dtype: str
    shape: tuple[int, ...]


def read_safetensors(files: PinnedFolder, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, checked; raises SafetensorError for what is not in the format."""
    digest = hashlib.sha256()
    try:
        with files.file(name) as file:
            found = _read(file, files.status(name).st_size, digest)
    except SafetensorError:
        # A file that is not the expected one is named as such, whatever else is wrong with it.
        files.sha256(name)
        raise
    files.check(name, digest.hexdigest())
    return {key: found[key] for key in sorted(found)}


def _read(file: io.FileIO, size: int, digest: Any) -> dict[str, Tensor]:
    start = _filled(file, np.empty(min(8, size), np.uint8), digest).tobytes()
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 0 < length <= min(size - 8, LONGEST_HEADER):
        raise SafetensorError("its header is not as long as it says")
    header = _filled(file, np.empty(length, np.uint8), digest).tobytes()
    found = dict(_tensors(header, size - 8 - length))
    for tensor in found.values():
        _filled(file, tensor.content, digest)
    return found


def _filled(file: io.FileIO, content: np.ndarray, digest: Any) -> np.ndarray:
    """Return the array filled with the bytes that come next."""
    view, place = content.data, 0
    while place < len(view):
        number = file.readinto(view[place:])
        if not number:
            raise SafetensorError("it ends early")
        place += number
    digest.update(view)
    return content


def _tensors(header: bytes, size: int) -> list[tuple[str, Tensor]]:
    """Return the tensors that a header names, empty, in the order of their bytes, which must be `size` without gaps."""
    try:
        facts = json.loads(header.decode("utf-8"), object_pairs_hook=_once)
        entries = sorted(((key, one) for key, one in facts.items() if key != "__metadata__"),
                         key=lambda entry: (entry[1]["data_offsets"], entry[0]))
        found, place = [], 0
        for key, one in entries:
            begin, end = one["data_offsets"]
            shape = tuple(one["shape"])
            if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
                raise ValueError(f"tensor {key!r} has a place or shape that is no number")
            if begin != place or end > size or end - begin != SIZES[one["dtype"]] * math.prod(shape):
                raise ValueError(f"tensor {key!r} is not where the one before it ends, or has another size than its "
                                 f"shape")
            found.append((key, Tensor(np.empty(end - begin, np.uint8), one["dtype"], shape)))
            place = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SafetensorError(f"its header is none: {type(error).__name__} {error}") from error
    if place != size:
        raise SafetensorError(f"its tensors take {place} bytes and {size} are there")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found
