"""Tensors of saved artifacts, read from an open folder and checked against what their reader needs.

`safetensors` itself reads by path, and maps the file: it would see whatever has the name by then, and a file that is
cut short meanwhile would end the process.

The code that loads a head is the schema of its tensors, so that the two cannot drift apart:

    counts_N = tensors.take("counts", FLOAT, (num_items,), low=0)        name, dtype, shape, range; always finite
    matrix = tensors.csr("", FLOAT, (num_items, num_items))              indptr, indices and values of a matrix
    member.read(tensors.inside("member/"), ...)                          a part with names of its own
    tensors.refuse_others()                                              whatever nobody took is refused

A folder whose hashes are right can still come from somebody else. An index out of range would make scipy and torch read
memory that is not theirs, so nothing here is checked "as far as needed": names, dtypes, shapes, ranges, order and
finiteness are, each time.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from safetensors import SafetensorError

from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder

_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
          "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8}
"""Bytes of a number, by its name in the format."""
_LONGEST_HEADER = 100_000_000
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
    if len(start) < 8 or not 0 < length <= min(size - 8, _LONGEST_HEADER):
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
            if begin != place or end > size or end - begin != _SIZES[one["dtype"]] * math.prod(shape):
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


TYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
         "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
         "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn}


def read_torch(files: PinnedFolder, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, checked; raises SafetensorError for what is not in the format."""
    found = {}
    for key, tensor in read_safetensors(files, name).items():
        if tensor.dtype not in TYPES:
            raise SafetensorError(f"tensor {key!r} has the type {tensor.dtype}, which torch has not")
        # torch views no empty tensor as one of another type.
        found[key] = (torch.from_numpy(tensor.content).view(TYPES[tensor.dtype]).reshape(tensor.shape)
                      if len(tensor.content) else torch.empty(tensor.shape, dtype=TYPES[tensor.dtype]))
    return found


FLOAT, DOUBLE, INTEGER, BYTE, BOOL = "float32", "float64", "int64", "uint8", "bool"
Shape = Sequence[int | None]
"""Sizes of the axes; None for an axis of any size."""
_AT_ONCE = 2**22
"""Numbers looked at at a time, so that a check needs no memory of its own."""


class TensorReader:
    """Named tensors that are taken one by one.

    Attributes
    ----------
    place : file they are from, for messages
    num_groups : number of groups that the artifact knows; None where that is not known
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], place: str = "model.safetensors",
                 remedy: str = "train the model again", num_groups: int | None = None) -> None:
        self.place, self.remedy, self.num_groups = place, remedy, num_groups
        self._tensors = tensors
        self._taken: set[str] = set()
        self._prefix = ""

    def inside(self, prefix: str) -> "TensorReader":
        """Return the tensors whose names begin with `prefix`, by the rest of their names."""
        part = TensorReader(self._tensors, self.place, self.remedy, self.num_groups)
        part._taken, part._prefix = self._taken, self._prefix + prefix
        return part

    def names(self) -> list[str]:
        """Return the names that are there."""
        return [name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix)]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; (0,) where there is none by this name, which `take` refuses."""
        return tuple(self._tensors[self._prefix + name].shape) if name in self else (0,)

    def take(self, name: str, dtype: str, shape: Shape, *, low: float | None = None, high: float | None = None,
             increasing: bool = False) -> np.ndarray:
        """Return a tensor of this dtype and shape.

        All numbers must be finite, at least `low` and at most `high`; with `increasing` each above the one before.
        Raises ArtifactError for anything else.
        """
        if problem := self.misfit(name, dtype, shape):
            raise self.error(name, problem)
        array = self._tensors[self._prefix + name]
        if problem := _range_problem(array, low, high):
            raise self.error(name, problem)
        if increasing and (array[1:] <= array[:-1]).any():
            raise self.error(name, "is not in increasing order")
        return array

    def misfit(self, name: str, dtype: str, shape: Shape) -> str:
        """Return why a tensor is not of this dtype and shape, "" where it is; it counts as taken."""
        self._taken.add(self._prefix + name)
        if name not in self:
            return "is missing"
        array = self._tensors[self._prefix + name]
        if array.dtype.name != dtype:
            return f"has the dtype {array.dtype.name} instead of {dtype}"
        if len(array.shape) != len(shape) or any(want not in (None, size) for size, want in
                                                 zip(array.shape, shape, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            return f"has the shape {list(array.shape)} instead of [{wanted}]"
        return ""

    def take_all(self, dtypes: Sequence[str] = (FLOAT,)) -> dict[str, np.ndarray]:
        """Return all tensors not taken yet, of one of these dtypes and finite; names and shapes are checked later.

        For what only an encoder that is opened later can tell.
        """
        found = {}
        for name in self.names():
            if self._prefix + name in self._taken:
                continue
            array = self._tensors[self._prefix + name]
            if array.dtype.name not in dtypes:
                raise self.error(name, f"has the dtype {array.dtype.name} instead of {' or '.join(dtypes)}")
            found[name] = self.take(name, array.dtype.name, array.shape)
        return found

    def csr(self, prefix: str, shape: tuple[int, int], values: str | None = FLOAT, *, optional_values: bool = False,
            low: float | None = None, is_sorted: bool = False) -> sp.csr_array:
        """Return the matrix in `<prefix>indptr`, `<prefix>indices` and `<prefix>values`, of values of this dtype.

        Without a dtype, and with `optional_values` where there are none, all values are 1. A row has no column twice,
        and with `is_sorted` its columns in order; otherwise entries keep theirs, which is that of time.
        """
        num_rows, num_columns = shape
        indptr = self.take(f"{prefix}indptr", INTEGER, (num_rows + 1,), low=0)
        indices = self.take(f"{prefix}indices", INTEGER, (None,), low=0, high=num_columns - 1)
        if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
            raise self.error(f"{prefix}indptr", f"does not rise from 0 to {len(indices)}, the number of indices")
        if problem := _row_problem(indptr, indices, num_columns, is_sorted):
            raise self.error(f"{prefix}indices", problem)
        if values is None or (optional_values and f"{prefix}values" not in self):
            data = np.ones(len(indices), np.float32)
        else:
            data = self.take(f"{prefix}values", values, (len(indices),), low=low)
        return sp.csr_array((data, indices, indptr), shape=shape)

    def refuse_others(self) -> None:
        """Raise ArtifactError for a tensor that was not taken."""
        others = sorted(set(self.names()) - {name.removeprefix(self._prefix) for name in self._taken})
        if others:
            raise ArtifactError(f"{self.place}: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}: unknown, "
                                f"not a part of this model; {self.remedy}")

    def error(self, name: str, problem: str) -> ArtifactError:
        """Return the error for a tensor and what is wrong with it."""
        return ArtifactError(f"{self.place}: {self._prefix}{name}: {problem}; {self.remedy}")


def _range_problem(array: np.ndarray, low: float | None, high: float | None) -> str:
    """Return which number is not finite or out of range, "" if none is."""
    flat: Any = array.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start:start + _AT_ONCE]
        if array.dtype.kind == "b":
            # The file holds bytes; one that is neither 0 nor 1 would count as several.
            part = part.view(np.uint8)
        # NaN is the minimum and the maximum of whatever it is among.
        least, most = part.min(), part.max()
        if array.dtype.kind == "f" and not (np.isfinite(least) and np.isfinite(most)):
            return f"has {least if not np.isfinite(least) else most} among its numbers, which must be finite"
        if array.dtype.kind == "b" and most > 1:
            return f"has the byte {most} among its truth values, 0 or 1"
        if low is not None and least < low:
            return f"has {least} among its numbers, which must be at least {low}"
        if high is not None and most > high:
            return f"has {most} among its numbers, which must be at most {high}"
    return ""


def _row_problem(indptr: np.ndarray, indices: np.ndarray, num_columns: int, is_sorted: bool) -> str:
    """Return what is wrong with the order of the columns in the rows of a matrix, "" if nothing is."""
    row, num_rows = 0, len(indptr) - 1
    while row < num_rows:
        stop = max(row + 1, int(np.searchsorted(indptr, indptr[row] + _AT_ONCE, side="right")) - 1)
        lengths = np.diff(indptr[row:stop + 1])
        keys = np.repeat(np.arange(len(lengths)) * max(1, num_columns), lengths) + indices[indptr[row]:indptr[stop]]
        # Most matrices are sorted already; of the others only whether a column comes twice is looked at.
        if not (keys[1:] > keys[:-1]).all():
            if is_sorted:
                return "are not in increasing order in each row"
            keys.sort()
            if (keys[1:] == keys[:-1]).any():
                return "name a column of a row twice"
        row = stop
    return ""
