"""The fault matrix, hostile input."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml

from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender
from tests.faults.common import CONTEXT, edit

WATCH = """
import sys
import textwrap
from pathlib import Path
import numpy as np, torch
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context

def use():
    loaded = load_recommender(Path(sys.argv[1]), Context(torch.device("cpu"), 1))
    loaded.head.score_text(np.array(["robots"], object))

use()  # All imports happen here, before the watch.
found, watching = set(), False
forbidden = ("pickle.", "marshal.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork",
             "socket.", "exec", "compile", "import", "ctypes.dlopen", "urllib.")
def hook(event, arguments):
    if watching and event.startswith(forbidden):
        found.add((event, str(arguments)[:80]))
sys.addaudithook(hook)
watching = True
use()
watching = False
print(sorted(found))
"""


@pytest.mark.slow
def test_62_loading_a_model_and_its_encoder_runs_unpickles_and_connects_to_nothing(model):
    done = subprocess.run([sys.executable, "-c", WATCH, str(model)], capture_output=True, text=True, check=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("change", [
    {"_target_": "os.system"}, {"head": {"kind": "two_tower", "_target_": "os.system"}},
    {"head": {"kind": "os.system"}}, {"encoder": {"kind": "hf", "path": "x", "trust_remote_code": True}}])
def test_63_unknown_keys_in_a_models_config_are_refused_and_nothing_is_called(model, monkeypatch, change):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("called"))
    edit(model, "config.yaml", lambda text: yaml.safe_dump(yaml.safe_load(text) | change))
    with pytest.raises(ArtifactError, match=r"config.yaml: .*(unknown key|no such head)"):
        load_recommender(model, CONTEXT)


def test_63_python_in_a_models_config_is_not_run(model):
    edit(model, "config.yaml", lambda text: text + "\nx: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ArtifactError, match=r"config\.yaml, line \d+: has the tag"):
        load_recommender(model, CONTEXT)


def test_64_code_that_a_models_encoder_asks_for_is_refused(model):
    config = next((model / "encoders").glob("*/config.json")).relative_to(model)
    edit(model, str(config), lambda text: json.dumps(json.loads(text) | {"auto_map": {"AutoModel": "evil.Model"}}))
    loaded = load_recommender(model, CONTEXT)
    with pytest.raises(ArtifactError, match="'auto_map' needs code from the model's folder, which is never run"):
        loaded.head.score_text(["robots"])


@pytest.mark.parametrize("path", ["../../elsewhere", "/elsewhere", "encoders/../../x", "owner/name"])
def test_65_an_encoder_outside_the_models_folder_is_refused(model, path):
    edit(model, "config.yaml", lambda text: yaml.safe_dump(
        {**yaml.safe_load(text), "encoder": {**yaml.safe_load(text)["encoder"], "path": path}}))
    with pytest.raises(ArtifactError, match="the encoder of a saved model must be inside its folder"):
        load_recommender(model, CONTEXT)


@pytest.mark.slow
def test_66_no_variable_of_the_environment_is_in_any_byte_of_what_is_written(llmrec, prepare_tiny, tiny_encoder,
                                                                        monkeypatch, tmp_path):
    marker = "marker-of-a-secret"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "WANDB_API_KEY"):
        monkeypatch.setenv(name, f"{marker}-{name}")
    runs = [["prepare", *prepare_tiny],
            ["finetune", "head=two_tower", "head.embedding_size=8", "encoder=hf", f"encoder.path={tiny_encoder}",
             "encoder.max_length=16", "peft=frozen", "optim.epochs=1", "refit=none"],
            ["evaluate", "num_bootstrap=100", "baselines=[popularity]"],
            ["recommend", "queries=all", "output=lists.jsonl"]]
    for arguments in runs:
        assert llmrec(*arguments).code == 0, arguments
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 25
    assert [file for file in files if marker.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "a\0b", ".", "..", "latest", "~", ""])
def test_67_a_name_of_data_cannot_be_a_path(llmrec, prepare_tiny, tmp_path, name):
    done = llmrec("prepare", *prepare_tiny, f"dataset.name={name}")
    assert done.code == 2
    assert "name=" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [
    ["finetune", "run_dir=a\0b"], ["finetune", "prepared=a\0b"], ["recommend", "model=a\0b", "query.user_id=u"],
    ["recommend", "query.user_id=u", "output=a\0b.csv"], ["prepare", "dataset.interactions=[a.csv,a\0b.csv]"],
    ["prepare", "dataset.interactions=a.csv", "output=a\0b"], ["recommend", "queries=a\0b"]], ids=repr)
def test_67_a_path_with_a_nul_is_refused_as_a_setting(llmrec, tmp_path, arguments):
    done = llmrec(*arguments)
    assert done.code == 2
    assert "holds a NUL character" in done.err
    assert list(tmp_path.iterdir()) == []


def test_67_68_ids_and_titles_of_any_shape_are_data_and_come_back_as_they_were(llmrec, tmp_path):
    evil = ["../../up", "/etc/passwd", "a\\..\\b", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "\x1b[2J", "~",
            ".", "太空é", "NA", "007", "7"]
    rows = [f'"{user}","{item}",5,{n}\n' for m, user in enumerate(evil) for n, item in enumerate(evil) if (m + n) % 3]
    (tmp_path / "clicks.csv").write_text("user_id,item_id,value,timestamp\n" + "".join(rows), "utf-8")
    settings = ["dataset=files", "dataset.name=evil", "dataset.interactions=clicks.csv", "split=leave_last_out"]
    before = set(tmp_path.parent.iterdir())
    assert llmrec("prepare", *settings).code == 0
    assert llmrec("finetune", "head=item_knn", "run_dir=run").code == 0
    assert llmrec("recommend", "queries=all", "model=run", "output=lists.parquet", "k=3").code == 0
    printed = llmrec("recommend", "query.user_id=007", "model=run")
    assert "\x1b" not in printed.out
    lists = pq.read_table("lists.parquet")
    assert set(lists["user_id"].to_pylist()) <= set(evil)
    assert set(lists["item_id"].to_pylist()) <= set(evil)
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.csv", "data", "runs", "run", "lists.parquet",
                                                          "lists.parquet.manifest.json"}
    assert set(tmp_path.parent.iterdir()) == before
