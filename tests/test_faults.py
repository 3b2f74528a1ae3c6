"""The fault matrix, by number: those cases that have no better place among the tests of a module."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from llmrec_cli.data.prepared import sha256
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.run_dir import lock
from tests.tiny import write_tiny

LLMREC = str(Path(sys.executable).parent / "llmrec")
CONTEXT = Context(torch.device("cpu"), 1)


@pytest.fixture(scope="module")
def tower_model(tmp_path_factory, tiny_prepared, tiny_encoder):
    """A model folder with all that there is: ids, texts, an encoder and its adapter."""
    from llmrec_cli import cli

    run = tmp_path_factory.mktemp("run") / "tower"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        cli.run(["finetune", f"prepared={tiny_prepared}", f"run_dir={run}", "device=cpu", "encoder=hf",
                 f"encoder.path={tiny_encoder}", "encoder.max_length=16", "head=two_tower", "head.embedding_size=8",
                 "peft.num_layers=1", "optim.epochs=1", "optim.batch_size=128"])
    return run / "model"


@pytest.fixture
def model(tower_model, tmp_path):
    """A copy of the model to do damage to."""
    return Path(shutil.copytree(tower_model, tmp_path / "model"))


def edit(model, name, change):
    """Change a file of the model and enter its new hash into the manifest, as someone who means harm would."""
    file = model / name
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    manifest["files"][name] = sha256(file)
    (model / "manifest.json").write_text(json.dumps(manifest))


# --- crash and I/O

def test_12_a_closed_stdout_and_stderr_do_not_stop_a_run(tmp_path, tiny_prepared):
    command = f"'{LLMREC}' finetune head=popularity prepared='{tiny_prepared}' run_dir=run >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "run/model/manifest.json").is_file()


def test_12_a_reader_that_leaves_ends_the_command_without_a_traceback(tmp_path):
    process = subprocess.Popen([LLMREC, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_12_without_a_terminal_nothing_but_plain_lines_is_written(llmrec, tiny_prepared, tiny_encoder):
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen", "optim.epochs=1",
                  "run_dir=run")
    assert done.code == 0
    assert all(c.isprintable() or c == "\n" for c in done.out + done.err)
    assert len(done.err.splitlines()) == 3  # An epoch, the refit's, and where the run is.


def test_13_a_second_run_in_the_same_folder_ends_with_75(llmrec, tiny_prepared):
    with lock(Path("run/.lock"), "the first"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=run")
    assert done.code == 75
    assert done.err.startswith("llmrec: locked: run/.lock: another run is writing the run in run; wait for it to end")


def test_13_a_second_prepare_of_the_same_data_ends_with_75_and_leaves_it_as_it_was(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny).code == 0
    before = Path("data/prepared/tiny/manifest.json").read_bytes()
    with lock(Path("data/prepared/.tiny.lock"), "the first"):
        done = llmrec("prepare", *prepare_tiny, "split.seed=7")
    assert done.code == 75
    assert "another run is writing the prepared data data/prepared/tiny" in done.err
    assert Path("data/prepared/tiny/manifest.json").read_bytes() == before


# --- artifacts

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
    assert done.err.startswith("llmrec: artifact error: model/model.safetensors: its SHA-256 is not the one")
    assert "train it again with `llmrec finetune`" in done.err
    assert "Traceback" not in done.err


def test_22_a_head_that_does_not_fit_its_tensors_is_refused(model):
    edit(model, "config.yaml", lambda text: text.replace("embedding_size: 8", "embedding_size: 16"))
    with pytest.raises(ArtifactError, match="does not fit the two_tower head"):
        load_recommender(model, CONTEXT)


def test_23_a_newer_format_is_refused_by_name(model):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ArtifactError, match="format 99 is newer than 1, the newest this llmrec reads; upgrade llmrec"):
        load_recommender(model, CONTEXT)


# --- configuration and training

def test_52_a_gpu_that_is_not_there_is_refused_and_the_cpu_not_taken_instead(llmrec, tiny_prepared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        done = llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", f"device={device}")
        assert done.code == 2
        assert f"device={device}: no GPU that torch" in done.err
        assert "choose device=cpu" in done.err
    assert not Path("runs/finetune/latest").exists()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_53_a_loss_that_is_no_number_ends_with_6_and_publishes_nothing(llmrec, tiny_prepared, tiny_encoder, similarity):
    assert llmrec("finetune", "head=popularity", f"prepared={tiny_prepared}", "run_dir=before").code == 0
    done = llmrec("finetune", f"prepared={tiny_prepared}", "head=two_tower", "head.embedding_size=8", "encoder=hf",
                  f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=frozen",
                  f"loss.similarity={similarity}", "optim.learning_rate=1e30", "optim.batch_size=128",
                  "optim.warmup_share=0", "run_dir=run")
    assert done.code == 6
    assert done.err.startswith("llmrec: diverged: ")
    assert "optim.learning_rate" in done.err
    assert not Path("run/model").exists()
    assert Path("runs/finetune/latest").resolve() == Path("before").resolve()


def test_57_a_list_longer_than_the_catalogue_is_short_and_not_padded(llmrec, model):
    done = llmrec("recommend", "model=model", "query.history=[i0,i1]", "k=1000", "output=lists.parquet")
    assert done.code == 0
    lists = pq.read_table("lists.parquet")
    assert lists["rank"].to_pylist() == list(range(1, 43))
    assert len(set(lists["item_id"].to_pylist())) == 42


# --- hostile input

WATCH = """
import sys
from pathlib import Path
import numpy as np, torch
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context

def use():
    loaded = load_recommender(Path(sys.argv[1]), Context(torch.device("cpu"), 1))
    loaded.head.score_text(np.array(["robots"], object))

use()  # What has to be imported is imported now.
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
    with pytest.raises(ArtifactError, match=r"config.yaml: not readable"):
        load_recommender(model, CONTEXT)


def test_64_code_that_a_models_encoder_asks_for_is_refused(model):
    config = next((model / "encoders").glob("*/config.json")).relative_to(model)
    edit(model, str(config), lambda text: json.dumps(json.loads(text) | {"auto_map": {"AutoModel": "evil.Model"}}))
    loaded = load_recommender(model, CONTEXT)
    with pytest.raises(ArtifactError, match="'auto_map' asks for code from the model's folder, which is never run"):
        loaded.head.score_text(["robots"])


@pytest.mark.parametrize("path", ["../../elsewhere", "/elsewhere", "encoders/../../x", "owner/name"])
def test_65_an_encoder_outside_the_models_folder_is_refused(model, path):
    edit(model, "config.yaml", lambda text: yaml.safe_dump(
        {**yaml.safe_load(text), "encoder": {**yaml.safe_load(text)["encoder"], "path": path}}))
    with pytest.raises(ArtifactError, match="a model's encoder is inside its own folder"):
        load_recommender(model, CONTEXT)


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
    shown = llmrec("recommend", "query.user_id=007", "model=run")
    assert "\x1b" not in shown.out
    lists = pq.read_table("lists.parquet")
    assert set(lists["user_id"].to_pylist()) <= set(evil)
    assert set(lists["item_id"].to_pylist()) <= set(evil)
    assert {path.name for path in tmp_path.iterdir()} == {"clicks.csv", "data", "runs", "run", "lists.parquet",
                                                          "lists.parquet.manifest.json"}
    assert set(tmp_path.parent.iterdir()) == before


# --- evaluation

@pytest.mark.parametrize("head", ["ease", "user_knn", "two_tower"])
def test_74_changing_what_comes_after_the_cutoff_leaves_the_weights_bitwise_as_they_were(
        llmrec, tmp_path, prepare_tiny, tiny_encoder, head):
    recipe = {"ease": ["head.features.attributes=3"], "user_knn": [], "two_tower": [
        "head.embedding_size=8", "peft=frozen", "optim.epochs=2", "encoder=hf", f"encoder.path={tiny_encoder}",
        "encoder.max_length=16"]}[head]
    write_tiny(tmp_path / "raw")
    file = tmp_path / "raw/interactions.csv"
    settings = [text for text in prepare_tiny if not text.startswith("dataset.interactions")]
    settings += [f"dataset.interactions={file}", "split=temporal"]
    found, tests = [], []
    for n in range(2):
        assert llmrec("prepare", *settings).code == 0
        assert llmrec("finetune", f"head={head}", *recipe, "refit=none", f"run_dir=run{n}").code == 0
        model = tmp_path / f"run{n}/model"
        found.append([(model / name).read_bytes() for name in ("model.safetensors", "config.yaml")])
        kept = pq.read_table("data/prepared/tiny/interactions.parquet").to_pylist()
        tests.append({(row["user_id"], row["item_id"]) for row in kept if row["split"] == "test"})
        file.write_text(with_other_items(file.read_text(), tests[0], kept))
    assert len(tests[0] - tests[1]) == 20
    assert found[0] == found[1]


def with_other_items(text, test, kept):
    """Return the interactions with other items in 20 test rows, such as are in training and new to the user."""
    warm = sorted({row["item_id"] for row in kept if row["split"] == "train"})
    lines = text.splitlines()
    for user, item in sorted(test)[:20]:
        had = {line.split(",")[1] for line in lines if line.startswith(f"{user},")}
        other = next(key for key in warm if key not in had)
        lines = [line.replace(f"{user},{item},", f"{user},{other},") if line.startswith(f"{user},{item},") else line
                 for line in lines]
    return "\n".join(lines) + "\n"
