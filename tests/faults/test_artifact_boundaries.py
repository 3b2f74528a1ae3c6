"""The fault matrix, 92 and 93: folders with right hashes and wrong contents, and things that are no files."""

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.encoders.saving import load_adapter, save_adapter
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.shared.tensor_files import write_tensors
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import LoraSettings
from llmrec_cli.training.checkpoint import Progress, Weights, load_checkpoint, save_checkpoint
from llmrec_cli.training.optim import build_optimizer
from tests.faults.common import CONTEXT
from tests.faults.crafting import rehash, write_table

TENSORS = "model.safetensors"


def change_tensors(folder, change, name=TENSORS):
    """Change the tensors of a folder, and its hashes with them."""
    arrays = load_file(folder / name)
    change(arrays)
    write_tensors(folder / name, arrays)
    rehash(folder)


def change_manifest(folder, **changed):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changed), "utf-8")


def replaced(file: Path, kind: str) -> None:
    """Replace a file by something that is not a regular file."""
    outside = file.parent.parent / "outside"
    shutil.copy(file, outside)
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link out":
        file.symlink_to(outside)
    elif kind == "link inside":
        shutil.copy(outside, file.with_name("other"))
        file.symlink_to(file.with_name("other"))
    elif kind == "folder":
        file.mkdir()
    elif kind == "socket":
        before = Path.cwd()
        os.chdir(file.parent)  # The path of a socket must be short.
        try:
            socket.socket(socket.AF_UNIX).bind(file.name)
        finally:
            os.chdir(before)
    elif kind == "link to itself":
        file.symlink_to(file)
    else:
        file.symlink_to("/dev/zero")


KINDS = ("pipe", "link out", "link inside", "folder", "socket", "link to itself", "device")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", TENSORS, "users.parquet"])
def test_93_a_model_with_anything_but_regular_files_is_refused_without_blocking(model, name, kind):
    replaced(model / name, kind)
    with pytest.raises(ArtifactError, match=name):
        load_recommender(model, CONTEXT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "interactions.parquet"])
def test_93_prepared_data_with_anything_but_regular_files_is_refused(tiny_prepared, tmp_path, name, kind):
    data = Path(shutil.copytree(tiny_prepared, tmp_path / "in" / "data"))
    replaced(data / name, kind)
    with pytest.raises(ArtifactError, match=name):
        read_prepared(data)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../config.yaml", "./config.yaml", "a\0b"])
def test_93_names_that_lead_elsewhere_are_refused(model, name):
    files = json.loads((model / "manifest.json").read_text("utf-8"))["files"]
    change_manifest(model, files=files | {name: "0" * 64})
    with pytest.raises(ArtifactError, match="files is"):
        load_recommender(model, CONTEXT)


def test_92_values_that_no_positive_can_have_are_refused_in_histories_and_in_data(model, tiny_prepared, tmp_path):
    histories = load_file(model / "histories.safetensors")
    histories["history_values"] = -histories["history_values"]
    save_file(histories, model / "histories.safetensors")
    rehash(model)
    with pytest.raises(ArtifactError, match=r"history_values: has -5, below the smallest positive value"):
        load_recommender(model, CONTEXT)
    data = Path(shutil.copytree(tiny_prepared, tmp_path / "in" / "data"))
    table = pq.read_table(data / "interactions.parquet")
    place = table.column_names.index("value")
    write_table(data / "interactions.parquet", table.set_column(place, "value", pc.subtract(table["value"], 1.0)))
    rehash(data)
    with pytest.raises(ArtifactError, match=r"interactions\.parquet: column 'value' has 3, which is not a positive"):
        read_prepared(data)


@pytest.mark.parametrize(("key", "value"), [
    ("format", -1), ("format", 0), ("format", True), ("format", 1.5), ("format", "2"), ("head", "popularity"),
    ("head", []), ("data", {}), ("data", {"path": 3, "name": "x"}), ("fitted_on", "train"), ("encoders", []),
    ("audience", "everybody"), ("data_cutoff", "today"), ("texts", {"item": {}}), ("files", {}), ("seed", -1),
    ("metrics", []), ("sizes", {"users": 1, "items": 1}), ("listed", True), ("tensors", {TENSORS: []}),
    ("values", "foo"), ("positives", {"duplicates": "zz"})])
def test_92_values_of_the_manifest_of_another_kind_or_range_are_refused_by_key(model, key, value):
    change_manifest(model, **{key: value})
    with pytest.raises(ArtifactError, match=r"manifest\.json|says otherwise|not named"):
        load_recommender(model, CONTEXT)


@pytest.mark.parametrize(("key", "value"), [
    ("format", -1), ("format", 1.5), ("counts", {"train": -1}), ("counts", []), ("split", []), ("split", {"kind": 3}),
    ("groups", []), ("timestamp_unit", 7), ("texts", [])])
def test_92_values_of_the_manifest_of_prepared_data_are_checked_too(tiny_prepared, tmp_path, key, value):
    data = Path(shutil.copytree(tiny_prepared, tmp_path / "data"))
    change_manifest(data, **{key: value})
    with pytest.raises(ArtifactError, match=f"{key} is"):
        read_prepared(data)


def test_92_a_tensor_out_of_range_ends_a_command_with_4_and_its_name(llmrec, model):
    def beyond(arrays):
        arrays["history_indices"][0] = 2**40

    change_tensors(model, beyond, "histories.safetensors")
    done = llmrec("recommend", "model=model", "queries=all", "k=3")
    assert done.code == 4
    assert "histories.safetensors: history_indices: has 1099511627776 among its numbers" in done.err
    assert "Traceback" not in done.err


def test_92_a_tensor_that_nobody_knows_is_refused_by_name(model):
    change_tensors(model, lambda arrays: arrays.update(extra=np.ones(3)))
    with pytest.raises(ArtifactError, match="extra: not named in manifest"):
        load_recommender(model, CONTEXT)


def test_92_a_model_without_the_newer_facts_is_read_as_before(model):
    before = load_recommender(model, CONTEXT)
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    for key in ("tensors", "sizes", "listed"):
        del manifest[key]
    (model / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert (load_recommender(model, CONTEXT).history != before.history).nnz == 0


@pytest.mark.parametrize("size", [10**12, 10**6])
def test_92_a_size_that_no_memory_holds_is_refused_before_it_is_taken(model, size):
    text = (model / "config.yaml").read_text("utf-8")
    (model / "config.yaml").write_text(text.replace("embedding_size: 8", f"embedding_size: {size}"), "utf-8")
    rehash(model)
    with pytest.raises(ArtifactError, match=r"embedding_size|config\.yaml"):
        load_recommender(model, CONTEXT)


BILLION = "b0: &b0 [x]\n" + "".join(f"b{n}: &b{n} [{','.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("text", ["[" * 5000, BILLION, "a: [", "", "- 1", "x: 1\n" * 100_000,
                                  "a: !!python/name:os.system"])
def test_92_a_config_that_is_deep_or_endless_or_none_is_refused(model, text):
    (model / "config.yaml").write_text(text, "utf-8")
    rehash(model)
    with pytest.raises(ArtifactError, match=r"config\.yaml"):
        load_recommender(model, CONTEXT)


@pytest.mark.parametrize("kind", [["a"], {"a": 1}, 3, None, "no such"])
def test_92_an_unknown_head_kind_is_refused(model, kind):
    content = yaml.safe_load((model / "config.yaml").read_text("utf-8"))
    content["head"]["kind"] = kind
    (model / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    rehash(model)
    with pytest.raises(ArtifactError, match=r"config\.yaml: head\.kind"):
        load_recommender(model, CONTEXT)


def test_92_prepared_rows_that_name_nobody_are_refused(tiny_prepared, tmp_path):
    data = Path(shutil.copytree(tiny_prepared, tmp_path / "data"))
    table = pq.read_table(data / "interactions.parquet")
    items = table["item"].to_numpy().copy()
    items[5] = 44
    write_table(data / "interactions.parquet", table.set_column(table.column_names.index("item"), "item",
                                                                pa.array(items)))
    rehash(data)
    with pytest.raises(ArtifactError, match="column 'item' has 44, which is not within 0 to 43"):
        read_prepared(data)


def test_92_a_row_less_than_the_manifest_counts_is_refused(tiny_prepared, tmp_path):
    data = Path(shutil.copytree(tiny_prepared, tmp_path / "data"))
    table = pq.read_table(data / "items.parquet")
    write_table(data / "items.parquet", table.slice(0, 43))
    rehash(data)
    with pytest.raises(ArtifactError, match="says 44 items and there are 43"):
        read_prepared(data)


@pytest.fixture
def trained(tmp_path):
    """A checkpoint of a linear map, and how to go on from it."""
    def fresh():
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 1)
        return model, build_optimizer([(model, 0.1)], AdamWSettings())

    model, optimizer = fresh()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, model, optimizer, Weights(), Progress(1), {})
    return tmp_path / "step-000001", lambda: load_checkpoint(tmp_path, *fresh(), Weights(), {})


@pytest.mark.parametrize(("change", "problem"), [
    (lambda t: t.update({"model/weight": t["model/weight"].astype(np.float64)}), "model/weight: is torch.float64"),
    (lambda t: t["model/weight"].fill(np.nan), "model/weight: has non-finite numbers"),
    (lambda t: t.pop("optimizer/exp_avg/weight"), r"has 2 of the 3 tensors of its optimiser state"),
    (lambda t: t.update({"more": np.ones(2)}), "more: is unknown"),
    (lambda t: t.update({"best/weight": t["model/weight"]}), "has 1 of the 2 parameters"),
    (lambda t: t.update({"random/cpu": np.zeros(7, np.uint8)}), "no state of torch's random streams"),
    (lambda t: t.pop("random/cpu"), "no state of torch's random streams")])
def test_92_a_checkpoint_of_something_else_is_refused(trained, change, problem):
    folder, go_on = trained
    go_on()
    change_tensors(folder, change, "state.safetensors")
    with pytest.raises(ArtifactError, match=problem):
        go_on()


@pytest.mark.parametrize(("key", "value"), [("step", -1), ("epoch", 1.5), ("losses", "x"), ("values", [None]),
                                            ("parts", 0), ("parts", 10**12), ("extra", 1)])
def test_92_progress_of_another_kind_is_refused_by_key(trained, key, value):
    folder, go_on = trained
    content = json.loads((folder / "progress.json").read_text("utf-8"))
    content["progress"][key] = value
    (folder / "progress.json").write_text(json.dumps(content), "utf-8")
    rehash(folder)
    with pytest.raises(ArtifactError, match=rf"progress\.json.*{key} is"):
        go_on()


def test_92_an_adapter_is_checked_like_a_model(tmp_path):
    lora = LoraSettings(adapter=str(tmp_path / "adapter"))
    save_adapter(tmp_path / "adapter", {"a": np.array([np.nan], np.float32)}, lora, "base")
    with pytest.raises(ArtifactError, match=r"adapter\.safetensors: a: has nan among its numbers"):
        load_adapter(lora, "base").take_all()
    (tmp_path / "adapter" / "adapter.json").write_text('{"format": -1, "base": "base", "peft": {}, "sha256": "x"}')
    with pytest.raises(ArtifactError, match="format is '-1' and must be an integer from 1"):
        load_adapter(lora, "base")
    save_adapter(tmp_path / "adapter", {"a": np.ones(1, np.float32)}, lora, "base")
    replaced(tmp_path / "adapter" / "adapter.safetensors", "pipe")
    with pytest.raises(ArtifactError, match="is a link or not a regular file"):
        load_adapter(lora, "base")
