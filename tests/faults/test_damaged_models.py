"""The fault matrix, artifacts."""

import json
import random

import pytest

from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender
from tests.faults.common import CONTEXT, edit


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
def test_19_a_manifest_that_is_none_is_refused(model, content):
    (model / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_recommender(model, CONTEXT)


@pytest.mark.parametrize("command", [["evaluate"], ["recommend", "queries=all"]])
def test_18_a_damaged_model_ends_a_command_with_4_and_the_remedy(llmrec, model, command):
    (model / "model.safetensors").write_bytes(b"")
    done = llmrec(*command, "model=model")
    assert done.code == 4
    assert done.err.splitlines()[-1].startswith(
        "llmrec: artifact error: model/model.safetensors: its SHA-256 is not the one")
    assert "train it again with `llmrec finetune`" in done.err
    assert "Traceback" not in done.err


def test_22_a_head_that_does_not_fit_its_tensors_is_refused(model):
    edit(model, "config.yaml", lambda text: text.replace("embedding_size: 8", "embedding_size: 16"))
    with pytest.raises(ArtifactError, match="does not fit the two_tower head"):
        load_recommender(model, CONTEXT)


def test_23_a_newer_format_is_refused_by_name(model):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ArtifactError, match="format 99 is newer than 2, the newest this llmrec reads; upgrade llmrec"):
        load_recommender(model, CONTEXT)
