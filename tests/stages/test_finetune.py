"""The finetune stage: output, errors, and resuming of interrupted runs with the same result."""

import json
import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from llmrec_cli import cli
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.stages import evaluate
from llmrec_cli.training import loop
from tests.some_slow import some_slow

TINY_TOWER = ["head.embedding_size=8", "head.encoded_items=16"]
TRAINED = ["loss=softmax", "optim.epochs=3", "optim.batch_size=128", "optim.checkpoint_every=1"]
FUSION = ["head=fusion", "~head.members", "head.members={ease: {head: ease, l2: 20}, neighbours: {head: user_knn}, "
          "tower: {head: two_tower, embedding_size: 8}}"]


@pytest.fixture
def settings(tiny_prepared, tiny_encoder):
    """Settings of every run in this file."""
    return ["finetune", f"prepared={tiny_prepared}", "device=cpu"]


@pytest.fixture
def encoder(tiny_encoder):
    """The tiny encoder with an adapter on its top layer."""
    return ["encoder=hf", f"encoder.path={tiny_encoder}", "encoder.max_length=16", "peft=lora", "peft.num_layers=1",
            "peft.rank=2"]


def events(run):
    return [json.loads(line) for line in Path(run, "log.jsonl").read_text("utf-8").splitlines()]


def manifest(run):
    return json.loads(Path(run, "model/manifest.json").read_text("utf-8"))


def test_a_run_writes_a_model_its_settings_and_a_log_and_is_the_latest(llmrec, settings, tiny_prepared):
    done = llmrec(*settings, "head=item_knn", "run_dir=run", "seed=3")
    assert done.code == 0
    assert done.out.startswith("ndcg@10 on validation: 0.")
    assert re.fullmatch(r"data: tiny in .*, 453 training interactions of 60 users and 44 items\n"
                        r"head=item_knn: fitting takes about [0-9.,]+ [KM]iB of memory\n"
                        r"note: head=item_knn: the values of interactions .*; head.weight=value weights by them\n"
                        r"finetune: wrote run in [0-9.]+ s\n", done.err)
    assert Path("runs/finetune/latest").resolve() == Path("run").resolve()
    assert yaml.safe_load(Path("run/config.yaml").read_text("utf-8"))["head"]["kind"] == "item_knn"
    assert [e["event"] for e in events("run") if e["event"] != "values_unused"] == [
        "started", "memory", "fitted", "chosen", "memory", "fitted", "finished"]
    assert [e["event"] for e in events("run")].count("values_unused") == 2  # The fit and the refit; printed once.
    result = manifest("run")
    assert (result["head"], result["seed"], result["refit"], result["fitted_on"]) == (
        "item_knn", 3, "train_valid", ["train", "valid"])
    assert result["data_fingerprint"] == read_prepared(tiny_prepared).manifest["fingerprint"]
    assert f"{result['metrics']['valid']['ndcg@10']:.4f}" in done.out


@pytest.mark.parametrize(("refit", "fitted_on", "num_seen"), [
    ("none", ["train"], 513), ("train_valid", ["train", "valid"], 513), ("all", ["train", "valid", "test"], 573)])
def test_a_refit_records_its_splits_and_the_validation_value_before_it(llmrec, settings, refit, fitted_on,
                                                                         num_seen):
    assert llmrec(*settings, "head=item_knn", f"run_dir={refit}", f"refit={refit}").out == (
        "ndcg@10 on validation: 0.4875\n")
    assert manifest(refit)["fitted_on"] == fitted_on
    loaded = load_recommender(Path(refit, "model"), Context("cpu", 1))
    assert loaded.history.nnz == {"none": 453, "train_valid": 513, "all": 573}[refit]
    assert loaded.seen.nnz == num_seen


@pytest.mark.slow
def test_a_model_names_its_data_by_its_own_name_and_not_by_latest(llmrec, prepare_tiny, monkeypatch):
    monkeypatch.setattr(evaluate, "render", lambda content, language: "report")  # The real report is slow.
    assert llmrec("prepare", *prepare_tiny).code == 0
    assert llmrec("finetune", "head=popularity", "run_dir=run").code == 0
    assert manifest("run")["data"] == {"path": "data/prepared/tiny", "name": "tiny"}
    assert llmrec("prepare", *prepare_tiny, "dataset.name=other", "split.seed=7").code == 0
    assert llmrec("evaluate", "model=run", "baselines=[]", "num_bootstrap=100").code == 0
    measured = json.loads(Path("runs/evaluate/latest/manifest.json").read_text("utf-8"))
    assert measured["data_fingerprint"] == manifest("run")["data_fingerprint"]


@pytest.mark.slow
def test_without_validation_a_head_that_chooses_nothing_is_fitted_and_measured_nowhere(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=none").code == 0
    done = llmrec("finetune", "head=ease", "run_dir=run")
    assert (done.code, done.out) == (0, "")
    assert "warning: the prepared data has no validation split, so no setting was tuned" in done.err
    assert "optim.epochs" not in done.err
    assert manifest("run")["not_chosen"][0].startswith("the prepared data has no validation split")
    assert manifest("run")["metrics"] == {"valid": {"ndcg@10": None}}
    assert manifest("run")["fitted_on"] == ["train"]


@pytest.mark.slow
def test_without_validation_a_trained_head_says_that_all_epochs_are_run(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=none").code == 0
    done = llmrec("finetune", "head=mf", "head.embedding_size=4", "optim.epochs=2", "optim.batch_size=128",
                  "run_dir=run")
    assert done.code == 0
    assert "training ran for all optim.epochs, without early stopping" in done.err
    assert len(manifest("run")["not_chosen"]) == 3


@pytest.mark.slow
def test_a_fusion_without_validation_is_refused_and_nothing_is_published(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=none").code == 0
    done = llmrec("finetune", "~head.members", "head.members={ease: {head: ease}, near: {head: item_knn}}",
                  "run_dir=run")
    assert done.code == 3
    assert "head.weights=learned: the prepared data has no validation split" in done.err
    assert not Path("run/model").exists()
    assert not Path("runs/finetune/latest").exists()


@pytest.mark.parametrize(("typed", "code", "expected"), [
    (["prepared=nowhere"], 2, "prepared=nowhere: no such folder; run `llmrec prepare` first or name another"),
    (["head=two_tower", "encoder=hf", "encoder.path=nowhere"], 2, "encoder.path=nowhere: no such folder"),
    (["head=two_tower", "encoder=scratch"], 2, "encoder=scratch: has random weights"),
    (["head=two_tower", "encoder=pretrained"], 2, "encoder.path=runs/pretrain/latest: no such folder; run `llmrec "
                                                  "pretrain` first"),
    (["resume=nowhere"], 2, "resume=nowhere: nowhere/config.yaml is not readable"),
])
def test_a_mistake_leaves_nothing_published(llmrec, settings, typed, code, expected):
    done = llmrec(*(settings if "resume" not in typed[0] else settings[:1]), *typed)
    assert done.code == code
    assert expected in done.err
    assert not Path("runs/finetune/latest").exists()


# --- resume

class Interrupted(Exception):
    """Simulated power cut."""


def interrupt_after(monkeypatch, num_checkpoints, how):
    """Make the run end by `how` once it has written so many checkpoints."""
    save, count = loop.save_checkpoint, []

    def saving(*arguments):
        save(*arguments)
        count.append(1)
        if len(count) == num_checkpoints:
            how()

    monkeypatch.setattr(loop, "save_checkpoint", saving)


def cut():
    raise Interrupted


def run_and_interrupt(monkeypatch, arguments, num_checkpoints):
    with monkeypatch.context() as patch:
        interrupt_after(patch, num_checkpoints, cut)
        with pytest.raises(Interrupted):
            cli.run(arguments)


def model_bytes(run):
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(Path(run, "model").rglob("*"))
            if file.is_file()}


# Three epochs of four steps, then a refit of at most three of five: 6 is in the second epoch, 14 in the refit.
@pytest.mark.slow
@pytest.mark.parametrize(("head", "cuts"), some_slow([
    ([*FUSION, "head.weights={ease: 1, tower: 1, neighbours: 1}"], [(6, [6, 0]), (14, [12, 2])]),
    (["head=two_tower", *TINY_TOWER], [(14, [12, 2])])], 1, 0), ids=["fusion", "two_tower"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(llmrec, settings, encoder, monkeypatch, head, cuts):
    config = [*settings, *head, *encoder, "adversarial=fgm", *TRAINED]
    assert llmrec(*config, "run_dir=whole").code == 0
    for num_checkpoints, steps in cuts:
        run_and_interrupt(monkeypatch, [*config, f"run_dir=cut{num_checkpoints}"], num_checkpoints)
        assert not Path(f"cut{num_checkpoints}/model").exists()
        moved = Path(f"moved{num_checkpoints}")
        Path(f"cut{num_checkpoints}").rename(moved)
        assert llmrec("finetune", f"resume={moved}").code == 0
        assert [e["step"] for e in events(moved) if e["event"] == "resume"] == steps
        assert model_bytes(moved) == model_bytes("whole")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes_even_when_killed_again(llmrec, settings, encoder, monkeypatch):
    config = [*settings, "head=two_tower", *TINY_TOWER, *encoder, *TRAINED, "refit=none"]
    assert llmrec(*config, "run_dir=whole").code == 0
    for arguments in ([*config, "run_dir=cut"], ["finetune", "resume=cut"]):
        child = os.fork()
        if child == 0:
            interrupt_after(monkeypatch, 3, lambda: os._exit(9))
            cli.run(arguments)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert llmrec("finetune", "resume=cut").code == 0
    assert [e["step"] for e in events("cut") if e["event"] == "resume"] == [3, 6]
    assert model_bytes("cut") == model_bytes("whole")


def test_resuming_a_finished_run_is_refused(llmrec, settings):
    assert llmrec(*settings, "head=ease", "run_dir=run").code == 0
    before = model_bytes("run")
    done = llmrec("finetune", "resume=run")
    assert done.code == 2
    assert "resume=run: this run has finished" in done.err
    assert model_bytes("run") == before


def test_a_run_goes_on_only_with_the_data_it_was_started_on(llmrec, prepare_tiny, encoder, monkeypatch):
    assert llmrec("prepare", *prepare_tiny).code == 0
    run_and_interrupt(monkeypatch, ["finetune", "head=two_tower", *TINY_TOWER, *encoder, *TRAINED, "run_dir=run"], 1)
    assert llmrec("prepare", *prepare_tiny, "split.seed=7").code == 0
    done = llmrec("finetune", "resume=run")
    assert done.code == 4
    assert "resume=run: the prepared data in data/prepared/tiny has changed since the run started" in done.err
    assert not Path("run/model").exists()


@pytest.mark.slow
def test_a_run_goes_on_and_is_saved_only_with_the_encoder_it_began_with(llmrec, settings, tiny_encoder, monkeypatch):
    from llmrec_cli.stages import finetune

    mine = Path(shutil.copytree(tiny_encoder, "encoder"))
    config = [*settings, "head=two_tower", *TINY_TOWER, "encoder=hf", f"encoder.path={mine}", "encoder.max_length=16",
              *TRAINED, "refit=none"]
    run_and_interrupt(monkeypatch, [*config, "run_dir=cut"], 1)
    config = (mine / "config.json").read_text()

    def swap():
        (mine / "config.json").write_text(config.replace("0.1", "0.2"))

    swap()
    done = llmrec("finetune", "resume=cut")
    assert done.code == 4
    assert "resume=cut: the encoder has changed since the run started" in done.err
    (mine / "config.json").write_text(config)
    # Replaced during training: the weights would be saved with a base that they were not trained on.
    fit = finetune.fit
    monkeypatch.setattr(finetune, "fit", lambda *given, **named: (fit(*given, **named), swap())[0])
    done = llmrec("finetune", "resume=cut")
    assert done.code == 4
    assert "was replaced during training" in done.err
    assert not Path("cut/model").exists()
    assert not list(Path("cut").glob(".model*"))


def test_a_resumed_run_refuses_settings_of_another(llmrec, settings, encoder, monkeypatch):
    config = [*settings, "head=two_tower", *TINY_TOWER, *encoder, *TRAINED, "refit=none", "run_dir=run"]
    run_and_interrupt(monkeypatch, config, 2)
    done = llmrec("finetune", "resume=run", "optim.batch_size=7")
    assert done.code == 2
    assert "optim.batch_size=7: a resumed run takes its settings from the run" in done.err
    file = Path("run/config.yaml")
    file.write_text(file.read_text().replace("batch_size: 128", "batch_size: 64"))
    done = llmrec("finetune", "resume=run")
    assert done.code == 2
    assert "optim.batch_size=64: the interrupted run had 128" in done.err


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_it_takes_over(llmrec, settings, encoder,
                                                                              monkeypatch):
    config = [*settings, "head=two_tower", *TINY_TOWER, *encoder, *TRAINED, "refit=none"]
    assert llmrec(*config, "run_dir=whole").code == 0
    run_and_interrupt(monkeypatch, [*config, "run_dir=cut"], 6)
    newest = Path("cut/checkpoints/step-000006")
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    done = llmrec("finetune", "resume=cut")
    assert done.code == 4
    assert f"{state}: its SHA-256 is not the one" in done.err
    assert f"remove {newest} to resume from the previous checkpoint" in done.err
    shutil.rmtree(newest)
    assert llmrec("finetune", "resume=cut").code == 0
    assert model_bytes("cut") == model_bytes("whole")


def test_the_log_has_every_step_and_tensorboard_has_curves(llmrec, settings, encoder):
    done = llmrec(*settings, "head=two_tower", *TINY_TOWER, *encoder, *TRAINED, "refit=none", "run_dir=run")
    assert done.code == 0
    result = [e["event"] for e in events("run")]
    assert (result.count("step"), result.count("validation")) == (12, 3)
    assert done.err.splitlines()[2].startswith("two_tower: epoch 1/3, loss ")
    assert list(Path("run/tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_users_without_training_interactions_do_not_disturb(llmrec, prepare_tiny):
    assert llmrec("prepare", *prepare_tiny, "split=temporal").code == 0
    assert llmrec("finetune", "head=user_knn", "run_dir=run").code == 0
    users = pq.read_table("run/model/users.parquet")
    assert len(users) == len(read_prepared("data/prepared/tiny").users)
