"""Arrays written and read in their own memory, in the format of safetensors."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from llmrec_cli.heads.shared.tensor_files import NAMES, read_tensors, write_tensors
from llmrec_cli.pinned import PinnedFolder

ARRAYS = {name: np.arange(6).reshape(2, 3).astype(name) for name in NAMES} | {
    "é": np.array([True]), "none": np.zeros((0, 4), np.float32), "one": np.array(3.5), "turned": np.eye(3)[:, :2].T}


def test_the_bytes_are_those_of_safetensors(tmp_path):
    write_tensors(tmp_path / "a", ARRAYS)
    assert (tmp_path / "a").read_bytes() == save({name: np.array(array, order="C") for name, array in ARRAYS.items()})


def test_files_are_read_as_by_safetensors(tmp_path):
    write_tensors(tmp_path / "a", ARRAYS)
    actual, expected = read_tensors(PinnedFolder(tmp_path, "again"), "a"), load_file(tmp_path / "a")
    assert actual.keys() == expected.keys() == ARRAYS.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:20],
                                    lambda content: b"\xff" * 8 + content[8:], lambda content: content + b"x"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    (tmp_path / "a").write_bytes(damage(save({"x": np.ones(5)})))
    with pytest.raises(SafetensorError):
        read_tensors(PinnedFolder(tmp_path, "again"), "a")


MEMORY_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from llmrec_cli.heads.shared.tensor_files import read_tensors, write_tensors
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.heads.memory import measure_memory_growth
write_tensors(Path(sys.argv[1]), {"x": np.ones(9)})
read = lambda: read_tensors(PinnedFolder(Path(sys.argv[1]).parent, ""), "a")
read()
arrays = {"x": np.ones(2**24, np.float32)}
print(measure_memory_growth(lambda: write_tensors(Path(sys.argv[1]), arrays)), measure_memory_growth(read))
"""


@pytest.mark.slow
def test_writing_takes_no_second_copy_and_reading_only_the_arrays(tmp_path):
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "a")], check=True, capture_output=True,
                          text=True)
    written, read = map(int, done.stdout.split())
    # A copy is 2**26. The limits are wide: if memory is short, the system reads pages of libraries again.
    assert written < 2**25
    assert read < 2**26 + 2**25


@pytest.mark.parametrize("array", [np.ones(2, ">f4"), np.array(["a", 1], object)], ids=["byte order", "objects"])
def test_arrays_of_unsupported_types_are_not_written(tmp_path, array):
    with pytest.raises(TypeError, match=r"the tensor scale has the type .* a file of tensors holds uint64"):
        write_tensors(tmp_path / "x.safetensors", {"scale": array})
    assert not list(tmp_path.iterdir())
