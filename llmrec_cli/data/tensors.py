"""Tensors of saved artifacts, read from an open folder and checked against the requirements of their reader.

The `safetensors` package reads by path and maps the file: it might read a newer file of the same name, and a file
truncated meanwhile would crash the process.

The code that loads a head is also the schema of its tensors, so that the two cannot diverge:

    counts_N = tensors.take("counts", FLOAT, (num_items,), low=0)        name, dtype, shape, range; always finite
    matrix = tensors.csr("", FLOAT, (num_items, num_items))              indptr, indices and values of a matrix
    member.read(tensors.inside("member/"), ...)                          a part with names of its own
    tensors.refuse_others()                                              unread tensors are refused

A folder with correct hashes may still come from an attacker, and an index out of range would make scipy and torch read
foreign memory. So names, dtypes, shapes, ranges, order and finiteness are always checked completely.
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
"""Bytes of a number, by the name of its type in the format."""
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit in `safetensors`."""


class Tensor(NamedTuple):
    """Bytes (uint8), type name in the format, and shape of a tensor."""

    content: np.ndarray
    dtype: str
    shape: tuple[int, ...]


def read_safetensors(files: PinnedFolder, name: str) -> dict[str, Tensor]:
    """Return the checked tensors of a file by name; raises SafetensorError if it violates the format."""
    digest = hashlib.sha256()
    try:
        with files.file(name) as file:
            tensors = _read(file, files.status(name).st_size, digest)
    except SafetensorError:
        # A wrong hash is the better error, so check it first.
        files.sha256(name)
        raise
    files.check(name, digest.hexdigest())
    return {key: tensors[key] for key in sorted(tensors)}


def _read(file: io.FileIO, size: int, digest: Any) -> dict[str, Tensor]:
    start = _filled(file, np.empty(min(8, size), np.uint8), digest).tobytes()
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 0 < length <= min(size - 8, _LONGEST_HEADER):
        raise SafetensorError("the stated length of its header is wrong")
    header = _filled(file, np.empty(length, np.uint8), digest).tobytes()
    tensors = dict(_tensors(header, size - 8 - length))
    for tensor in tensors.values():
        _filled(file, tensor.content, digest)
    return tensors


def _filled(file: io.FileIO, content: np.ndarray, digest: Any) -> np.ndarray:
    """Fill the array with the next bytes and return it."""
    view, place = content.data, 0
    while place < len(view):
        number = file.readinto(view[place:])
        if not number:
            raise SafetensorError("it ends early")
        place += number
    digest.update(view)
    return content


def _tensors(header: bytes, size: int) -> list[tuple[str, Tensor]]:
    """Return empty tensors for a header, in the order of their bytes, which must cover `size` without gaps."""
    try:
        facts = json.loads(header.decode("utf-8"), object_pairs_hook=_once)
        entries = sorted(((key, one) for key, one in facts.items() if key != "__metadata__"),
                         key=lambda entry: (entry[1]["data_offsets"], entry[0]))
        tensors, place = [], 0
        for key, one in entries:
            begin, end = one["data_offsets"]
            shape = tuple(one["shape"])
            if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
                raise ValueError(f"tensor {key!r} has an offset or shape that is not an integer of at least 0")
            if begin != place or end > size or end - begin != _SIZES[one["dtype"]] * math.prod(shape):
                raise ValueError(f"tensor {key!r} does not start where the one before ends, or its size does not match "
                                 f"its shape")
            tensors.append((key, Tensor(np.empty(end - begin, np.uint8), one["dtype"], shape)))
            place = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SafetensorError(f"its header is invalid: {type(error).__name__} {error}") from error
    if place != size:
        raise SafetensorError(f"its tensors take {place} bytes, but it has {size}")
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a name is there twice")
    return unique


TYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
         "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
         "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn}


def read_torch(files: PinnedFolder, name: str) -> dict[str, torch.Tensor]:
    """Return the checked tensors of a file by name as torch tensors; raises SafetensorError for an invalid file."""
    tensors = {}
    for key, tensor in read_safetensors(files, name).items():
        if tensor.dtype not in TYPES:
            raise SafetensorError(f"tensor {key!r} has the type {tensor.dtype}, which torch does not have")
        # torch cannot view an empty tensor as another type.
        tensors[key] = (torch.from_numpy(tensor.content).view(TYPES[tensor.dtype]).reshape(tensor.shape)
                      if len(tensor.content) else torch.empty(tensor.shape, dtype=TYPES[tensor.dtype]))
    return tensors


FLOAT, DOUBLE, INTEGER, BYTE, BOOL = "float32", "float64", "int64", "uint8", "bool"
Shape = Sequence[int | None]
"""Sizes of the axes; None for an axis of any size."""
_AT_ONCE = 2**22
"""Numbers checked at a time, so that a check needs little memory."""


class TensorReader:
    """Named tensors, read one by one.

    Attributes
    ----------
    place : file of the tensors, for messages
    num_groups : number of groups in the artifact; None if unknown
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], place: str = "model.safetensors",
                 remedy: str = "train the model again", num_groups: int | None = None) -> None:
        self.place, self.remedy, self.num_groups = place, remedy, num_groups
        self._tensors = tensors
        self._used: set[str] = set()
        self._prefix = ""

    def inside(self, prefix: str) -> "TensorReader":
        """Return a reader of the tensors whose names begin with `prefix`, without the prefix."""
        part = TensorReader(self._tensors, self.place, self.remedy, self.num_groups)
        part._used, part._prefix = self._used, self._prefix + prefix
        return part

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return [name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix)]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; (0,) if there is no tensor of this name, which `take` refuses."""
        return tuple(self._tensors[self._prefix + name].shape) if name in self else (0,)

    def take(self, name: str, dtype: str, shape: Shape, *, low: float | None = None, high: float | None = None,
             increasing: bool = False) -> np.ndarray:
        """Return a tensor of this dtype and shape.

        All numbers must be finite and from `low` to `high`, with `increasing` also strictly increasing. Raises
        ArtifactError otherwise.
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
        """Return the reason why a tensor does not have this dtype and shape, "" if it has; marks it as read."""
        self._used.add(self._prefix + name)
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
        """Return all unread tensors, finite and of one of these dtypes.

        For tensors whose names and shapes are checked later, when the encoder is open.
        """
        arrays = {}
        for name in self.names():
            if self._prefix + name in self._used:
                continue
            array = self._tensors[self._prefix + name]
            if array.dtype.name not in dtypes:
                raise self.error(name, f"has the dtype {array.dtype.name} instead of {' or '.join(dtypes)}")
            arrays[name] = self.take(name, array.dtype.name, array.shape)
        return arrays

    def csr(self, prefix: str, shape: tuple[int, int], values: str | None = FLOAT, *, optional_values: bool = False,
            low: float | None = None, is_sorted: bool = False) -> sp.csr_array:
        """Return the matrix in `<prefix>indptr`, `<prefix>indices` and `<prefix>values`, with values of this dtype.

        Without a dtype, or with `optional_values` if the values are missing, all values are 1. No row may repeat a
        column. With `is_sorted` the columns of a row must be sorted; else the entries keep their order, by time.
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
        """Raise ArtifactError for a tensor that was not read."""
        others = sorted(set(self.names()) - {name.removeprefix(self._prefix) for name in self._used})
        if others:
            raise ArtifactError(f"{self.place}: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}: unknown, "
                                f"not a part of this model; {self.remedy}")

    def error(self, name: str, problem: str) -> ArtifactError:
        """Return an ArtifactError about a tensor."""
        return ArtifactError(f"{self.place}: {self._prefix}{name}: {problem}; {self.remedy}")


def _range_problem(array: np.ndarray, low: float | None, high: float | None) -> str:
    """Return the problem of a number that is not finite or out of range, "" if there is none."""
    flat: Any = array.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start:start + _AT_ONCE]
        if array.dtype.kind == "b":
            # Booleans are stored as bytes; a byte above 1 would count several times in sums.
            part = part.view(np.uint8)
        # NaN propagates to the minimum and the maximum.
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
    """Return the problem with the columns in the rows of a matrix, "" if there is none."""
    row, num_rows = 0, len(indptr) - 1
    while row < num_rows:
        stop = max(row + 1, int(np.searchsorted(indptr, indptr[row] + _AT_ONCE, side="right")) - 1)
        lengths = np.diff(indptr[row:stop + 1])
        keys = np.repeat(np.arange(len(lengths)) * max(1, num_columns), lengths) + indices[indptr[row]:indptr[stop]]
        # Most matrices are sorted already; the others are checked only for repeated columns.
        if not (keys[1:] > keys[:-1]).all():
            if is_sorted:
                return "are not in increasing order in each row"
            keys.sort()
            if (keys[1:] == keys[:-1]).any():
                return "name a column of a row twice"
        row = stop
    return ""
