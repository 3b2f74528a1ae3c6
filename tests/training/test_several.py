"""Training in two processes: same loss curve as one process, a single writer, and refused combinations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli import device
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.checkpoint import checkpoints
from llmrec_cli.training.loop import Length, TrainContext, train
from tests.training import worker

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_and_only_the_first_writes(tiny_prepared, tiny_encoder, tmp_path):
    done = subprocess.run([*TORCHRUN, "-m", "tests.training.worker", str(tiny_prepared), str(tiny_encoder),
                           str(tmp_path)], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=240,
                          check=False)
    assert done.returncode == 0, done.stderr
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    one = worker.curves(tiny_prepared, tiny_encoder)
    assert len(one["mf"]) == 4 * 2
    assert both[1]["mf"] == []  # The second process does not log,
    assert both[1]["mlm"] == both[0]["mlm"]  # but has the same results.
    for name, expected in one.items():
        np.testing.assert_allclose(both[0][name], expected, rtol=1e-4, err_msg=name)
    assert one["mlm"][-1] < one["mlm"][0]
    plan = json.loads((checkpoints(tmp_path / "checkpoints")[-1] / "progress.json").read_text())["plan"]
    assert plan["torchrun --nproc_per_node"] == 2


STOPPED = """
import os, signal, sys, time
from llmrec_cli import cli
from llmrec_cli import distributed as processes
from llmrec_cli.training import loop

log = loop._Loop._log
def log_and_stop(self, event, when, **values):
    log(self, event, when, **values)
    if event == "step" and when["step"] == 3 and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)  # To one of the two, in the middle of an epoch.
loop._Loop._log = log_and_stop
sys.argv = ["llmrec", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.faults
def test_9_a_signal_to_one_of_two_processes_ends_both_behind_the_same_step_with_a_checkpoint(tiny_prepared, tmp_path):
    (tmp_path / "stopped.py").write_text(STOPPED)
    done = subprocess.run([*TORCHRUN, "stopped.py", "finetune", f"prepared={tiny_prepared}", "head=mf", "device=cpu",
                           "head.embedding_size=8", "optim.batch_size=64", "run_dir=run"], env=ENVIRONMENT,
                          cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0
    assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-000003"], done.stderr
    assert not (tmp_path / "run/model").exists()
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "interrupted"


@pytest.fixture
def second_of_two(monkeypatch):
    """Set the environment of torchrun's second of two processes."""
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1"),
                        ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)


def test_a_loss_that_cannot_be_split_is_refused_in_several_processes(second_of_two):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="towers: the loss of a step cannot be split between 2 processes"):
        train(model, lambda epoch, generator: iter(()), lambda _: model.weight.sum(), [(model, 0.1)], AdamWSettings(),
              Length(1, 1, 1), TrainContext(torch.device("cpu"), 1, title="towers"))


def test_each_process_has_a_gpu_of_its_own_or_none_is_started(second_of_two, monkeypatch):
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.choose_device("auto") == device.choose_device("cuda") == torch.device("cuda:1") == devices[0]
    assert device.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=cuda:0: is a single GPU, but each of the 2 processes needs its own"):
        device.choose_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes but 1 GPUs"):
        device.choose_device("cuda")
