"""Safetensors files read as torch tensors from an open folder."""

import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llmrec_cli.data.tensors import TYPES, read_safetensors, read_torch
from llmrec_cli.pinned import PinnedFolder


def test_tensors_of_every_type_and_shape_are_read_as_by_safetensors(tmp_path):
    tensors = {name: torch.arange(6).reshape(2, 3).to(kind) for name, kind in TYPES.items()}
    tensors |= {"none": torch.zeros(0), "flat": torch.zeros(3, 0, 2, dtype=torch.int64), "one": torch.tensor(3.5)}
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    result, wanted = read_torch(PinnedFolder(tmp_path, "again"), "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert result.keys() == wanted.keys() == tensors.keys()
    for name, tensor in wanted.items():
        assert result[name].dtype == tensor.dtype
        assert result[name].shape == tensor.shape
        assert torch.equal(result[name].float(), tensor.float())


def header(**tensors):
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize("content", [
    b"", b"\x01", (2**60).to_bytes(8, "little"), (5).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
    header(x=ENTRY), header(x=ENTRY) + bytes(9), header(x=ENTRY | {"shape": [3]}) + bytes(8),
    header(x=ENTRY | {"shape": [-2]}) + bytes(8), header(x=ENTRY | {"shape": [2.0]}) + bytes(8),
    header(x=ENTRY | {"shape": [True, 2]}) + bytes(8), header(x=ENTRY | {"dtype": "F31"}) + bytes(8),
    header(x=ENTRY | {"shape": [2**62, 2**62, 0]}) + bytes(8), header(x=ENTRY | {"data_offsets": [8, 16]}) + bytes(16),
    header(x=ENTRY, y=ENTRY) + bytes(8), header(x=ENTRY | {"data_offsets": [0]}) + bytes(8), header(x=7),
    header(x=ENTRY | {"shape": [2**61], "data_offsets": [0, 2**63]}) + bytes(8),
    header(x=ENTRY).replace(b'"x"', b'"x":7,"x"') + bytes(8), (4000).to_bytes(8, "little") + b"[" * 4000])
def test_an_invalid_file_is_refused_before_memory_is_allocated(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SafetensorError):
        read_safetensors(PinnedFolder(tmp_path, "again"), "x")
