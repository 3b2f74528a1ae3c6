"""The fault matrix, artifacts."""

import json
import random
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llmrec_cli.data.manifest import sha256
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender
from tests.faults.common import CONTEXT, edit
from tests.faults.conftest import TOWER


def test_18_a_file_cut_short_anywhere_is_refused(model):
    files = [file for file in sorted(model.rglob("*")) if file.is_file()]
    assert len(files) > 8
    for file in files:
        content = file.read_bytes()
        for size in (0, len(content) // 2, len(content) - 2):  # The last byte of JSON is a line break.
            file.write_bytes(content[:size])
            with pytest.raises(ArtifactError, match=file.name):
                load_recommender(model, CONTEXT)
        file.unlink()
        with pytest.raises(ArtifactError, match=file.name):
            load_recommender(model, CONTEXT)
        file.write_bytes(content)
    load_recommender(model, CONTEXT)


def test_19_a_flipped_bit_is_refused(model):
    rng = random.Random(3)
    for file in [file for file in sorted(model.rglob("*")) if file.is_file() and file.name != "manifest.json"]:
        content = bytearray(file.read_bytes())
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match=file.name):
            load_recommender(model, CONTEXT)
        content[place] ^= bit
        file.write_bytes(content)


@pytest.mark.faults
def test_19_a_flipped_bit_of_the_manifest_is_refused_or_harmless(model):
    file, rng = model / "manifest.json", random.Random(4)
    content = bytearray(file.read_bytes())
    refused = 0
    for _ in range(150):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        file.write_bytes(content)
        try:
            load_recommender(model, CONTEXT)
        except ArtifactError:
            refused += 1
        content[place] ^= bit
    assert refused > 75


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": "1", "files": {}}',
                                     '{"format": 1, "files": {}}'])
def test_19_an_invalid_manifest_is_refused(model, content):
    (model / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_recommender(model, CONTEXT)


@pytest.mark.audited
@pytest.mark.parametrize("command", [["evaluate"], ["recommend", "queries=all"]])
def test_18_a_damaged_model_ends_a_command_with_4_and_the_remedy(llmrec, model, command):
    (model / "model.safetensors").write_bytes(b"")
    done = llmrec(*command, "model=model")
    assert done.code == 4
    assert done.err.splitlines()[-1].startswith(
        "llmrec: artifact error: model/model.safetensors: its SHA-256 is not the one")
    assert "train it again with `llmrec finetune`" in done.err
    assert "Traceback" not in done.err


@pytest.mark.audited
@pytest.mark.parametrize("command", [["evaluate", "model=model"], ["evaluate", "models=[model]"],
                                     ["recommend", "model=model", "queries=all", "output=lists.csv"],
                                     ["recommend", "model=model", "query.user_id=u1"]], ids=" ".join)
def test_20_a_missing_or_an_extra_file_ends_every_command_that_reads_a_model_with_4(llmrec, model, command):
    files = [file for file in sorted(model.rglob("*")) if file.is_file()]
    shards = [file for file in files if file.suffix == ".safetensors"]
    assert {file.parent.relative_to(model).parts[:1] for file in shards} == {(), ("encoders",)}
    for file in (*shards, model / "users.parquet"):
        file.rename("aside")
        check_20(llmrec(*command), file)
        Path("aside").rename(file)
    for folder in sorted({file.parent for file in files}):
        for name in ("model-00002-of-00002.safetensors", "groups.parquet", "README.md.bak"):
            (folder / name).write_bytes(shards[0].read_bytes())
            check_20(llmrec(*command), folder / name)
            (folder / name).unlink()
    assert not Path("lists.csv").exists()


def check_20(done, file):
    assert done.code == 4, done.err
    assert file.name in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.audited
@pytest.mark.parametrize("missing", ["interactions.parquet", "items.parquet", "users.parquet"])
@pytest.mark.parametrize("command", [["finetune", "head=popularity", "prepared=data"],
                                     ["evaluate", "model=model", "prepared=data"]], ids=lambda words: words[0])
def test_20_a_missing_table_of_prepared_data_is_refused(llmrec, model, tiny_prepared, command, missing):
    shutil.copytree(tiny_prepared, "data")
    (Path("data") / missing).unlink()
    check_20(llmrec(*command), Path("data") / missing)


@pytest.mark.audited
def test_20_a_missing_or_an_extra_file_of_an_adapter_is_refused(llmrec, model, tower_model, tiny_prepared,
                                                              tiny_encoder):
    start = [*TOWER, f"prepared={tiny_prepared}", f"encoder.path={tiny_encoder}", "peft.adapter=adapter"]
    shutil.copytree(tower_model.parent / "adapter", "adapter")
    Path("adapter/adapter.safetensors").rename("aside")
    check_20(llmrec(*start), Path("adapter.safetensors"))
    Path("aside").rename("adapter/adapter.safetensors")
    assert llmrec(*start).code == 0


def other_encoder(folder, like):
    """Write an encoder of the same architecture, shapes and tokenizer as `like` with other weights."""
    shutil.copytree(like, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_24_an_adapter_on_another_base_model_of_the_same_shape_is_refused(llmrec, tower_model, tiny_prepared,
                                                                        tiny_encoder, tmp_path):
    start = [*TOWER, f"prepared={tiny_prepared}", f"peft.adapter={tower_model.parent}/adapter", "run_dir=run"]
    done = llmrec(*start, f"encoder.path={other_encoder(tmp_path / 'other', tiny_encoder)}")
    assert done.code == 4
    assert "adapter: was trained on another encoder" in done.err
    assert "choose that encoder, or leave out peft.adapter" in done.err
    assert not Path("run/model").exists()


@pytest.mark.audited
def test_24_a_models_encoder_exchanged_for_another_of_the_same_shape_is_refused(llmrec, model, tmp_path):
    folder, = (model / "encoders").iterdir()
    other = other_encoder(tmp_path / "other", folder)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    name = f"encoders/{folder.name}/model.safetensors"
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    manifest["files"][name] = sha256(model / name)
    (model / "manifest.json").write_text(json.dumps(manifest))
    for command in (["evaluate"], ["recommend", "query.text=robot"]):
        done = llmrec(*command, "model=model")
        assert done.code == 4
        assert f"model/encoders/{folder.name}: is not the encoder that the model was trained with" in done.err
    manifest["encoders"] = {}
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert "lists other encoders than the model folder has" in llmrec("evaluate", "model=model").err


def test_22_a_head_that_does_not_fit_its_tensors_is_refused(model):
    edit(model, "config.yaml", lambda text: text.replace("embedding_size: 8", "embedding_size: 16"))
    with pytest.raises(ArtifactError, match="does not fit the two_tower head"):
        load_recommender(model, CONTEXT)


def test_23_a_newer_format_is_refused_by_name(model):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ArtifactError, match="format 99 is newer than 2, the newest this llmrec reads; upgrade llmrec"):
        load_recommender(model, CONTEXT)
