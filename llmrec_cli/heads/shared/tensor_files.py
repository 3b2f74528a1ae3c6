"""Arrays of a head's state: in its modules, and in safetensors files.

`safetensors.numpy` holds two more copies of every array while writing, and maps the whole file in addition to the
arrays while reading. A model that just fits into memory must not need three times as much to be saved.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from llmrec_cli.atomic_files import whole_file, writing
from llmrec_cli.data.tensors import TensorReader, read_safetensors
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.settings.heads.base import HeadSettings


def load_parameters(module: nn.Module, tensors: TensorReader, name: str, kind: str) -> None:
    """Load the tensors `<name>.*` into a module; `kind` is the head's kind, for errors.

    Raises ArtifactError for missing or unknown tensors, and for tensors of another dtype or shape or with values that
    are not finite.
    """
    own, parameters = tensors.inside(f"{name}."), module.state_dict()
    specs = {key: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for key, tensor in parameters.items()}
    problems = [f"{name}.{key} {problem}" for key, spec in specs.items() if (problem := own.misfit(key, *spec))]
    problems += [f"{name}.{key} is unknown" for key in own.names() if key not in specs]
    if problems:
        raise ArtifactError(f"{tensors.place} does not fit the {kind} head of config.yaml: {'; '.join(problems)}; "
                            f"{tensors.remedy}")
    module.load_state_dict({key: torch.from_numpy(own.take(key, *spec)) for key, spec in specs.items()})


def require_sizes(settings: HeadSettings, tensors: TensorReader, name: str) -> None:
    """Raise ArtifactError if config.yaml has sizes larger than any tensor `<name>.*`.

    Called before a module is built, because a size of billions would exhaust the memory.
    """
    own = tensors.inside(f"{name}.")
    largest = max((size for key in own.names() for size in own.shape(key)), default=0)
    limits = {"embedding_size": largest, "attention_size": largest, "max_length": largest,
              "num_layers": len(own.names())}
    sizes = {key: getattr(settings, key) for key in limits if hasattr(settings, key)}
    if isinstance(layers := getattr(settings, "layers", None), list):
        limits["layers"], sizes["layers"] = largest, max([0, *layers])
    for key, size in sizes.items():
        if size > limits[key]:
            raise ArtifactError(f"config.yaml: head.{key}={size} does not fit {tensors.place}, whose largest size is "
                                f"{limits[key]}; {tensors.remedy}")


NAMES = {"uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
         "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
"""Names of dtypes in safetensors, in its writing order, which aligns each array to a multiple of its item size."""
_TYPES = {name: np.dtype(kind) for kind, name in NAMES.items()}


def write_tensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file atomically; the bytes are the same as from `safetensors.numpy.save`."""
    for name, array in arrays.items():
        if array.dtype.name not in NAMES or not array.dtype.isnative:
            raise TypeError(f"the tensor {name} has the type {array.dtype.str}; a file of tensors holds "
                            f"{', '.join(NAMES)}, in this machine's byte order")
    order = sorted(arrays, key=lambda name: (list(NAMES).index(arrays[name].dtype.name), name))
    header, start = dict[str, Any](), 0
    for name in order:
        array = arrays[name]
        header[name] = {"dtype": NAMES[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with writing(path), whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.ascontiguousarray(arrays[name])
            file.write(array.data.cast("B") if array.size else b"")


def read_tensors(files: PinnedFolder, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file; raise SafetensorError if it is not in the format."""
    arrays = {}
    for key, tensor in read_safetensors(files, name).items():
        if tensor.dtype not in _TYPES:
            raise SafetensorError(f"tensor {key!r} has the type {tensor.dtype}, which is none of {', '.join(_TYPES)}")
        arrays[key] = tensor.content.view(_TYPES[tensor.dtype]).reshape(tensor.shape)
    return arrays
