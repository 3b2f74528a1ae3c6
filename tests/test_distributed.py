"""Several processes under torchrun: each query is scored once, same metrics, one output, one run directory."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmrec_cli import distributed as processes
from llmrec_cli.distributed import NotFirstProcess, join, map_shared, stop_unless_first
from llmrec_cli.errors import ConfigError, DivergedError
from llmrec_cli.run_dir import NoRunDir

SECONDS = 240


def command(number, *arguments):
    """Start `llmrec` in this number of processes."""
    start = [sys.executable, "-m"] if number == 0 else [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number), "-m"]
    return [*start, "llmrec_cli", *arguments]


def start(number, *arguments, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                   "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command(number, *arguments), cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def model(tiny_prepared, tmp_path_factory):
    """The run directory of an EASE model of the tiny shop."""
    folder = tmp_path_factory.mktemp("trained")
    done = start(0, "finetune", f"prepared={tiny_prepared}", "head=ease", "device=cpu",
                 f"run_dir={folder / 'run'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.faults
def test_the_figures_of_one_and_of_three_processes_are_the_same_bits(model, tmp_path):
    digests, printed = {}, {}
    for number in (0, 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = start(number, "evaluate", f"model={model}", "block_size=7", "num_bootstrap=200", "device=cpu",
                     f"run_dir={folder / 'run'}", cwd=folder)
        assert done.returncode == 0, done.stderr
        digests[number] = [digest(folder / "run" / name)
                         for name in ("metrics.json", "per_user.parquet", "recommendations.parquet")]
        printed[number] = done.stdout
        assert [path.name for path in (folder / "runs" / "evaluate").iterdir()] == ["latest"]
        assert done.stderr.count("evaluate: wrote") == 1
    assert len({tuple(one) for one in digests.values()}) == 1
    assert len(set(printed.values())) == 1
    assert printed[0].count("ndcg@") >= 1


@pytest.mark.slow
def test_lists_of_one_and_of_two_processes_are_the_same_bytes(model, tmp_path):
    lists = []
    for number in (0, 2):
        output = tmp_path / f"{number}.jsonl"
        done = start(number, "recommend", f"model={model}", "k=5", "block_size=7", "device=cpu", "queries=all",
                     f"output={output}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("lists made") == 1
        lists.append(output.read_bytes())
    assert lists[0] == lists[1]
    ids = [json.loads(line)["query_id"] for line in lists[0].decode().splitlines()]
    assert len(ids) == len(set(ids)) * 5 > 0


def exit_codes(stderr):
    return {int(code) for code in re.findall(r"exitcode\s*:\s*(-?\d+)", stderr)}


@pytest.mark.faults
def test_a_wrong_setting_is_told_once_and_ends_all_with_its_code(model, tmp_path):
    done = start(2, "evaluate", f"model={tmp_path / 'nothing'}", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("configuration error") == 1
    assert 2 in exit_codes(done.stderr)
    assert not list(tmp_path.glob("runs/evaluate/*/metrics.json"))


# A worker script: a scorer that fails in one block, so in one process.
FAILING = """
import sys
import numpy as np, torch
from llmrec_cli.errors import LlmrecError
from llmrec_cli import distributed as processes
from llmrec_cli.scoring.scorer import recommend_lists
from tests.scoring.oracle import queries_of

asked = []
def score(queries):
    asked.append(len(queries))
    scores = torch.ones(len(queries), 4)
    if 5 in queries.user:
        scores[0, 0] = float("nan")
    return scores

processes.join("evaluate")
try:
    recommend_lists(score, queries_of(np.zeros((8, 4), bool)), 2, np.arange(4), block_size=2)
except LlmrecError as error:
    print(f"{type(error).__name__} {error}", flush=True)
    torch.distributed.barrier()
"""


@pytest.mark.faults
def test_a_score_that_is_not_a_number_in_one_process_is_raised_in_all(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                           str(tmp_path / "failing.py")], capture_output=True, text=True, timeout=SECONDS, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("DivergedError queries 4 to 5: 1 of 8 scores are NaN or infinite") == 2


@pytest.fixture
def second_of_two(monkeypatch):
    """Set the environment of the second of two processes."""
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)


def test_only_the_first_process_goes_on_prints_and_logs(second_of_two, capsys):
    with pytest.raises(NotFirstProcess):
        stop_unless_first()
    with processes.only_first_prints():
        print("out")
        print("err", file=sys.stderr)
    NoRunDir().log("event")
    assert capsys.readouterr() == ("", "")


def test_prepare_is_refused_under_torchrun_before_processes_connect(second_of_two):
    with pytest.raises(ConfigError, match="without torchrun"):
        join("prepare")


def test_one_process_works_on_all_in_order():
    assert list(map_shared(lambda n: n * n, range(5))) == [0, 1, 4, 9, 16]
    with pytest.raises(DivergedError):
        list(map_shared(_diverge, [1]))
    assert np.all([processes.is_first(), processes.count() == 1, processes.is_first_to_report()])


def _diverge(_):
    raise DivergedError("no number")
