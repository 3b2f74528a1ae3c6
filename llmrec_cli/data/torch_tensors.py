"""Safetensors of an open folder as torch's tensors."""

import torch
from safetensors import SafetensorError

from llmrec_cli.data.safetensors_files import read_safetensors
from llmrec_cli.pinned import PinnedFolder

TYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
         "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
         "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn}


def read_torch(files: PinnedFolder, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, checked; raises SafetensorError for what is not in the format."""
    found = {}
    for key, tensor in read_safetensors(files, name).items():
        if tensor.dtype not in TYPES:
            raise SafetensorError(f"tensor {key!r} has the type {tensor.dtype}, which torch has not")
        found[key] = torch.from_numpy(tensor.content).view(TYPES[tensor.dtype]).reshape(tensor.shape)
    return found
