"""Arrays in a safetensors file, written from and read into their own memory.

`safetensors.numpy` holds every array twice more while it writes, and maps the whole file beside the arrays while it
reads. A model whose weights just fit into memory must not need three times as much to be saved.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from llmrec_cli.data.safetensors_files import read_safetensors
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.run_dir import whole_file, writing

NAMES = {"uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
         "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
"""Names of number types in safetensors, in the order in which it writes them: each begins at a multiple of its size."""
TYPES = {name: np.dtype(kind) for kind, name in NAMES.items()}


def write_tensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file that a reader sees whole or not at all; the bytes are those of `safetensors.numpy.save`."""
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
    """Return the arrays of a file, checked; raises SafetensorError for what is not in the format."""
    found = {}
    for key, tensor in read_safetensors(files, name).items():
        if tensor.dtype not in TYPES:
            raise SafetensorError(f"tensor {key!r} has the type {tensor.dtype}, which is none of {', '.join(TYPES)}")
        found[key] = tensor.content.view(TYPES[tensor.dtype]).reshape(tensor.shape)
    return found
