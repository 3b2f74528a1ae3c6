"""Reading prepared data: intact data only."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmrec_cli.data.manifest import FORMAT
from llmrec_cli.data.prepared import PreparedData, attribute_matrix, read_prepared
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.split import LeaveLastOutSettings
from tests.ingest.preparing import HEADER, prepare_with, write
from tests.some_slow import some_slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepare two users, u (a, b, c in this order) and v (d), with every last interaction held out."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, HEADER + "u,b,4,20\nu,a,3,10\nu,c,5,30\nv,d,1,5\n")
    return prepare_with(tmp_path, FilesSettings(interactions="clicks.csv"), LeaveLastOutSettings()).folder


def ids(data: PreparedData, *splits: str) -> list[tuple[str, str]]:
    part = data.part(*splits)
    return [(data.users.ids[u], data.items.ids[i]) for u, i in zip(part.user, part.item, strict=True)]


def test_parts_follow_the_split_in_time_order(folder: Path) -> None:
    data = read_prepared(folder)
    assert (ids(data, "train"), ids(data, "valid"), ids(data, "test")) == ([("u", "a"), ("v", "d")], [("u", "b")],
                                                                          [("u", "c")])
    assert ids(data, "train", "valid", "test") == [("u", "a"), ("u", "b"), ("u", "c"), ("v", "d")]
    assert data.interactions.value.tolist() == [3, 4, 5, 1]
    assert data.interactions.timestamp.tolist() == [10, 20, 30, 5]


def test_training_data_has_every_item_and_only_the_named_interactions(folder: Path) -> None:
    training = read_prepared(folder).training("train")
    assert (len(training.interactions), len(training.items), training.interactions.num_items) == (2, 4, 4)


def test_histories_keep_the_order_of_time(folder: Path) -> None:
    data = read_prepared(folder)
    matrix = data.part("train", "valid", "test").matrix
    assert [data.items.ids[i] for i in matrix.indices[matrix.indptr[0]:matrix.indptr[1]]] == ["a", "b", "c"]


@pytest.mark.parametrize("name", some_slow(
    ["interactions.parquet", "rejects.parquet", "items.parquet", "users.parquet"]))
def test_a_flipped_bit_a_cut_or_a_missing_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[:-1], b""):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ArtifactError, match=rf"{name}: its SHA-256 is not the one in manifest\.json"):
            read_prepared(folder)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: missing; run `llmrec prepare` again"):
        read_prepared(folder)


@pytest.mark.slow
def test_a_newer_format_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": FORMAT + 1}), "utf-8")
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1} is newer than {FORMAT}"):
        read_prepared(folder)


@pytest.mark.parametrize("text", some_slow(["", "{", "[]", "null", '{"format": 1}']))
def test_an_invalid_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json: (not readable|is not a manifest)"):
        read_prepared(folder)


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="prepared=nowhere: no such folder"):
        read_prepared("nowhere")


def test_attributes_are_a_matrix_of_ones_with_names() -> None:
    lists = pa.chunked_array([pa.array([["g=b", "g=a"], []]), pa.array([["g=a", "g=a"]])])
    matrix, names = attribute_matrix(lists)
    assert names == ["g=a", "g=b"]
    np.testing.assert_array_equal(matrix.toarray(), [[1, 1], [0, 0], [1, 0]])


def test_unknown_ids_are_minus_one(folder: Path) -> None:
    assert read_prepared(folder).items.find(np.array(["d", "nobody", "a"], object)).tolist() == [1, -1, 0]
