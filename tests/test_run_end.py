"""Names and ends of runs: failures, interruptions, and starts without work."""

import json
import os
import signal
from pathlib import Path

import pytest

from llmrec_cli.atomic_files import write_json
from llmrec_cli.config import compose
from llmrec_cli.run_dir import RunDir, head_and_data, label_of
from llmrec_cli.run_end import interruption, recorded_end
from llmrec_cli.run_subject import RunSubject


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def end_with(run, command, settings, event, error):
    """Log an event in a run and end it with an error."""
    with recorded_end(run, command, settings):
        run.log(event)
        raise error


def events(path):
    return [json.loads(line)["event"] for line in (Path(path) / "log.jsonl").read_text().splitlines()]


def test_runs_are_named_by_head_and_data(llmrec, tiny_prepared):
    assert llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity").code == 0
    assert llmrec("recommend", "queries=all", "output=x.csv").code == 0
    for command in ("finetune", "recommend"):
        assert os.readlink(f"runs/{command}/latest")[19:] == "_popularity-tiny"
    assert llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity", "seed=1,2", "-m").code == 0
    assert sorted(name[19:] for name in os.listdir("runs/finetune") if name != "latest") == [
        "_popularity-tiny", "_popularity-tiny_seed1", "_popularity-tiny_seed2"]


@pytest.mark.parametrize(("head", "data", "label"), [
    ("ease", "shop", "ease-shop"), ("", "shop", "shop"), ("", "", ""), ("mf", "../../etc/x", "mf-etc-x"),
    ("mf", "商店.2", "mf-商店.2"), ("mf", "店" * 100, "mf-" + "店" * 26), ("mf", "a b\n\0/c", "mf-a-b-c")])
def test_any_name_of_data_makes_a_safe_name(head, data, label):
    assert label_of(head, data) == label


def test_head_and_data_are_read_from_the_folders_and_empty_where_these_are_damaged():
    write_json(Path("data/prepared/latest/manifest.json"), {"name": "shop"})
    write_json(Path("a/model/manifest.json"), {"head": "ease", "data": {"name": "shop"}})
    write_json(Path("b/manifest.json"), {"head": "mf", "data": "x"})
    Path("c").mkdir()
    Path("c/manifest.json").write_bytes(b"[" * 100_000)
    assert head_and_data(RunSubject("ease")) == ("ease", "shop")
    assert head_and_data(RunSubject(models=["a", "b", "a"])) == ("ease+mf", "shop")
    assert head_and_data(RunSubject(models=["b"])) == ("mf", "")
    assert head_and_data(RunSubject(models=["c"])) == ("", "")
    assert head_and_data(RunSubject("mf", prepared="nowhere")) == ("mf", "")


def test_a_start_without_work_leaves_no_folder(llmrec, tiny_prepared):
    assert llmrec("finetune", "prepared=nowhere").code == 2
    assert llmrec("evaluate", "model=nowhere").code == 2
    assert llmrec("prepare", "dataset.interactions=nowhere.csv").code == 3
    assert [os.listdir(f"runs/{command}") for command in ("finetune", "evaluate", "prepare")] == [[]] * 3
    # A folder that was there stays.
    Path("mine").mkdir()
    assert llmrec("finetune", "prepared=nowhere", "run_dir=mine").code == 2
    assert Path("mine/log.jsonl").exists()


def test_a_run_that_worked_and_failed_keeps_its_folder_and_says_why(llmrec):
    Path("bad.csv").write_text("user_id,item_id,timestamp\n" + "u,i,yesterday\n" * 9)
    assert llmrec("prepare", "dataset.interactions=bad.csv").code == 3
    (path,) = Path("runs/prepare").iterdir()
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert (lines[-1]["event"], lines[-1]["error"]) == ("failed", "DataError")
    assert "bad.csv" in lines[-1]["text"]


def test_a_bug_before_work_began_keeps_the_folder():
    run = RunDir.create("finetune")
    with pytest.raises(ZeroDivisionError):
        end_with(run, "finetune", compose("finetune", ["head=ease"]), "started", ZeroDivisionError())
    assert events(run.path) == ["started"]


@pytest.mark.parametrize(("error", "number"), [(KeyboardInterrupt(), 2), (SystemExit(143), 15)])
def test_an_interruption_is_logged_once_with_a_note_on_how_to_go_on(error, number):
    run, settings = RunDir.create("finetune", "a run"), compose("finetune", ["head=ease"])
    with pytest.raises(type(error)) as ended:
        end_with(run, "finetune", settings, "memory", error)
    assert ended.value.__notes__ == ["finetune: interrupted; go on with: llmrec finetune 'resume=a run'"]
    assert json.loads(run.file("log.jsonl").read_text().splitlines()[-1])["signal"] == number
    assert events(run.path) == ["memory", "interrupted"]


FINETUNE = ["head=ease"]


@pytest.mark.parametrize(("command", "typed", "logged", "sentence"), [
    ("finetune", FINETUNE, {"interrupted": {"epoch": 4, "epochs": 20}}, "interrupted at epoch 4 of 20; go on with: "),
    ("finetune", FINETUNE, {"interrupted": {"epoch": 4, "epochs": 20, "part": "tower"}},
     "interrupted at epoch 4 of 20 of tower; "),
    ("finetune", FINETUNE, {"interrupted": {"epoch": 4, "epochs": 20, "part": "mf", "trial": 2}},
     "interrupted at epoch 4 of 20 in trial 3 of mf; "),
    ("finetune", FINETUNE, {"trial": {"part": "ease", "trial": 2}}, "interrupted in trial 4 of ease; "),
    ("finetune", FINETUNE, {}, "interrupted; go on with: llmrec finetune resume=runs/x"),
    ("pretrain", [], {"interrupted": {"epoch": 1, "epochs": 2}},
     "interrupted at epoch 1 of 2; go on with: llmrec pretrain resume=runs/x"),
    ("evaluate", [], {}, "interrupted; nothing was replaced; run the same command again")])
def test_the_sentence_of_an_interruption(command, typed, logged, sentence):
    assert sentence in interruption(command, compose(command, typed), Path("runs/x"), logged, True)


def test_an_interruption_before_the_work_leaves_no_folder():
    run = RunDir.create("finetune")
    with pytest.raises(KeyboardInterrupt) as ended:
        end_with(run, "finetune", compose("finetune", []), "started", KeyboardInterrupt())
    assert "interrupted before the work began; run the same command again" in ended.value.__notes__[0]
    assert not run.path.exists()


def test_several_processes_go_on_under_torchrun(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    assert interruption("finetune", compose("finetune", ["head=mf"]), Path("runs/x"), {}, True).endswith(
        "go on with: torchrun --nproc_per_node 2 -m llmrec_cli finetune resume=runs/x")


@pytest.mark.slow
def test_a_tuned_run_is_resumed_by_the_command_that_is_printed(llmrec, tiny_prepared, monkeypatch):
    from llmrec_cli.tuning.tune import _Search

    report, typed = _Search._report, ["head=ease", "head.search={l2: {low: 5, high: 500, log: true}}", "tune.trials=3"]

    def report_and_stop(self, place, *rest):
        report(self, place, *rest)
        if place == 1:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(_Search, "_report", report_and_stop)
        done = llmrec("finetune", f"prepared={tiny_prepared}", *typed, "run_dir=cut")
    assert done.code == 143
    last = done.err.splitlines()[-1]
    assert last == "finetune: interrupted in trial 3 of ease; go on with: llmrec finetune resume=cut"
    done = llmrec(*last.partition("llmrec ")[2].split())
    assert done.code == 0, done.err
    assert "resuming after 2 of 3 trials" in done.err
