"""`llmrec runs`: the list of runs, its files, and the removal of old ones."""

import csv
import json
import os
from pathlib import Path

import pytest

from llmrec_cli import run_dir as module
from llmrec_cli import run_list, run_pruning
from llmrec_cli.atomic_files import lock, point, write_bytes, write_json
from llmrec_cli.plain_yaml import dump_yaml
from llmrec_cli.run_dir import RunDir


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name, command="finetune", time=0.0, value=None, end=None, config=None, **facts):
    """Write the run directory runs/<command>/2030-01-01_00-00-<name>."""
    run = RunDir(Path("runs") / command / f"2030-01-01_00-00-{name}")
    run.path.mkdir(parents=True)
    write_bytes(run.file("config.yaml"), dump_yaml(config or {"device": "cpu"}).encode())
    lines = [{"time": time, "event": "started", "command": command, "head": "ease", "data": "shop"} | facts,
             *[{"time": time + 2, "event": "step"}] * 3, *([] if end is None else [{"time": time + 90} | end])]
    write_bytes(run.file("log.jsonl"), "".join(json.dumps(line) + "\n" for line in lines).encode())
    if end is not None and end["event"] == "finished":
        result = {} if value is None else {"result": {"metric": "ndcg@10", "split": "valid", "value": value,
                                                      "ci95": [value - 0.1, value + 0.1]}}
        write_json(run.file("manifest.json"), {"format": 1, "command": command} | result)
        point(Path("runs") / command / "latest", run.path)
    return run.path


FINISHED = {"event": "finished"}


def rows(llmrec, *arguments):
    """Return the list of runs as mappings of texts."""
    assert llmrec("runs", *arguments, "output=list.csv").code == 0
    with open("list.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_runs_are_listed_newest_first_with_state_result_and_time(llmrec):
    made("01", time=1.0, value=0.5, end=FINISHED, seed=7)
    made("02", time=2.0, end={"event": "failed", "text": "no training interactions"})
    made("03", time=3.0, end={"event": "interrupted", "signal": 15})
    made("04", time=4.0)
    path = made("05", time=5.0)
    with lock(path / ".lock", "it"):
        listed = rows(llmrec)
    assert [(row["run"][-2:], row["state"]) for row in listed] == [
        ("05", "running"), ("04", "interrupted"), ("03", "interrupted"), ("02", "failed"), ("01", "finished")]
    assert [listed[4][key] for key in ("head", "data", "seed", "metric", "value", "low", "high", "seconds")] == [
        "ease", "shop", "7", "ndcg@10 valid", "0.5", "0.4", "0.6", "90.0"]
    assert listed[3]["error"] == "no training interactions"
    assert int(listed[4]["bytes"]) == sum(file.stat().st_size for file in Path(listed[4]["run"]).iterdir())


def test_the_table_is_plain_text_and_says_how_to_resume(llmrec):
    made("01", time=1.0, value=0.5, end=FINISHED)
    path = made("02", time=2.0, head="\x1b[31m")
    done = llmrec("runs")
    assert done.code == 0
    header, dashes, newest, oldest = done.out.splitlines()
    assert header.split()[:4] == ["run", "head", "data", "result"]
    assert set(dashes) == {"-", " "}
    assert newest.startswith(f"{path}  \\x1b[31m")
    assert oldest.split()[3:8] == ["ndcg@10", "valid", "0.5000", "0.400-0.600", "finished"]
    assert done.err == f"resume an interrupted run: llmrec finetune resume={path}\n"


def test_runs_are_filtered_and_sorted_by_result_within_data_and_metric(llmrec):
    made("01", time=1.0, value=0.5, end=FINISHED)
    made("02", time=2.0, value=0.7, end=FINISHED)
    made("03", time=3.0, value=0.6, end=FINISHED, data="books")
    made("04", time=4.0, end=FINISHED)
    made("05", "evaluate", time=5.0, value=0.9, end=FINISHED)
    assert [row["run"][-2:] for row in rows(llmrec, "--best", "command=finetune")] == ["03", "02", "01", "04"]
    assert [row["run"][-2:] for row in rows(llmrec, "data=books")] == ["03"]
    assert llmrec("runs", "command=finetun").code == 2


def test_runs_of_an_older_llmrec_are_described_by_their_settings(llmrec):
    path = made("01", config={"head": {"kind": "mf"}, "prepared": "data/prepared/shop"}, end=FINISHED)
    write_bytes(path / "log.jsonl", b'{"time": 1.0, "event": "started", "command": "finetune"}\n')
    write_json(path / "manifest.json", {"metrics": {"valid": {"recall@5": 0.25}}})
    (row,) = rows(llmrec, "command=finetune")
    assert [row[key] for key in ("head", "data", "metric", "value", "low")] == ["mf", "shop", "recall@5 valid", "0.25",
                                                                                ""]


def test_lists_of_an_older_llmrec_have_the_head_of_their_manifest(llmrec):
    path = made("01", "recommend", config={"model": ""}, end=FINISHED)
    write_bytes(path / "log.jsonl", b'{"time": 1.0, "event": "started", "command": "recommend"}\n')
    write_json(path / "manifest.json", {"head": "ease"})
    assert [(row["head"], row["data"]) for row in rows(llmrec)] == [("ease", "")]


def test_damaged_logs_and_manifests_are_listed_as_far_as_they_can_be_read(llmrec):
    path = made("01", end=FINISHED)
    write_bytes(path / "manifest.json", b"[" * 100_000)
    empty = made("02")
    write_bytes(empty / "log.jsonl", b"\xff\xfe")
    Path("runs/finetune/note.txt").write_text("mine")
    assert [row["state"] for row in rows(llmrec)] == ["interrupted"]


def test_runs_chosen_by_run_dir_are_found_through_latest_and_in_a_multirun_below_their_folder(llmrec):
    made("01", end=FINISHED).rename("elsewhere")
    point(Path("runs/finetune/latest"), Path("elsewhere"))
    made("02").rename("1")
    Path("runs/finetune/sweep").mkdir()
    Path("1").rename("runs/finetune/sweep/1")
    assert sorted(Path(row["run"]).name for row in rows(llmrec)) == ["1", "elsewhere"]


def test_pruning_first_only_prints_and_then_removes_the_oldest_of_each_command(llmrec):
    paths = [made(f"0{n}", time=float(n), end=FINISHED) for n in range(1, 5)]
    other = made("00", "evaluate", time=0.0, end=FINISHED)
    done = llmrec("runs", "prune", "keep=2")
    assert [line.split()[:3] for line in done.out.splitlines()] == [["would", "remove", str(p)] for p in paths[:2]]
    assert "nothing was removed; dry_run=false removes 2 runs" in done.err
    assert all(path.exists() for path in paths)
    done = llmrec("runs", "prune", "keep=2", "dry_run=false")
    assert [line.split()[:2] for line in done.out.splitlines()] == [["removed", str(path)] for path in paths[:2]]
    assert [path.exists() for path in (*paths, other)] == [False, False, True, True, True]
    assert sorted(os.listdir("runs/finetune")) == [*(path.name for path in paths[2:]), "latest"]


def test_pruning_keeps_what_is_newest_running_named_by_hand_and_referred_to(llmrec):
    encoder = made("01", "pretrain", time=1.0, end=FINISHED)
    made("02", "pretrain", time=2.0, end=FINISHED)
    latest = made("01", time=1.0, end=FINISHED)
    trained = made("02", time=2.0, config={"encoder": {"path": str(encoder / "encoder")}})
    gone = made("03", time=3.0)
    linked, damaged = made("09", time=3.0), made("10", time=3.0)
    running = made("04", time=4.0)
    by_hand = made("05", time=5.0).rename("runs/finetune/best")
    published = made("06", time=6.0)
    gone_too = made("07", "evaluate", time=7.0, config={"model": str(gone)})
    evaluated = made("08", "evaluate", time=8.0, config={"models": [str(gone)]}, end=FINISHED)
    # An evaluation of what was the newest model then, and a run whose settings are damaged.
    by_link = made("11", "evaluate", time=9.0, config={"models": [f"{trained}/model"]}, end=FINISHED)
    write_json(by_link / "manifest.json", {"models": [str(linked.resolve() / "model")]})
    write_bytes(running / "config.yaml", f"loss: {{hard_negatives: {{model: '{damaged}'".encode())
    write_json(Path("shop/v1/gate.json"), {"run": str(published.resolve())})
    point(Path("shop/current"), Path("shop/v1"))
    with lock(running / ".lock", "it"):
        assert llmrec("runs", "prune", "keep=0", "dry_run=false").code == 0
    assert not gone.exists()
    assert not gone_too.exists()
    kept = (encoder, latest, trained, running, by_hand, published, by_link, linked, damaged)
    assert [path for path in kept if not path.exists()] == []
    assert not evaluated.exists()


def test_published_folders_elsewhere_are_named(llmrec, tmp_path):
    run = made("01", time=1.0)
    write_json(tmp_path / "a/b/c/v1/gate.json", [str(run.resolve() / "model")])
    point(tmp_path / "a/b/c/current", tmp_path / "a/b/c/v1")
    assert str(run) in llmrec("runs", "prune", "keep=0").out
    assert llmrec("runs", "prune", "keep=0", "published=[a/b/c]").out == ""


def test_a_removal_that_is_killed_leaves_no_half_of_a_run_and_the_next_one_removes_the_rest(llmrec, monkeypatch):
    path = made("01", time=1.0)
    if (child := os.fork()) == 0:
        monkeypatch.setattr("llmrec_cli.folders.shutil.rmtree", lambda *_, **__: os._exit(9))
        try:
            run_pruning.remove_run(run_list.read_run(path, "finetune"))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (leftover,) = Path("runs/finetune").iterdir()
    assert leftover.name.startswith(f".{path.name}.")
    assert sorted(file.name for file in (leftover / path.name).iterdir())[-2:] == ["config.yaml", "log.jsonl"]
    assert rows(llmrec) == []
    assert llmrec("runs", "prune", "dry_run=false").code == 0
    assert list(Path("runs/finetune").iterdir()) == []


@pytest.mark.parametrize(("typed", "message"), [
    (["keep=3"], "keep=3: has no effect without prune=true; leave it out, or write llmrec runs prune"),
    (["prune", "keep=-1"], "keep=-1: must be at least 0"), (["prune", "--best"], "best=true: has no effect with prune"),
    (["run_dir=x"], "run_dir=x: has no effect"), (["output=runs.txt"], "output=runs.txt: the name must end in .json")])
def test_settings_without_effect_are_refused(llmrec, typed, message):
    done = llmrec("runs", *typed)
    assert done.code == 2
    assert message in done.err


def test_listing_runs_is_no_run_and_works_where_there_are_none(llmrec):
    done = llmrec("runs")
    assert (done.code, done.out) == (0, "")
    assert "no runs here" in done.err
    assert not module.RUNS.exists()
