"""Signals in training: the step finishes, a checkpoint is written, and the exit code is the signal's (9 to 11)."""

import os
import signal
import sys
import threading
import time

import pytest
import torch

from llmrec_cli.training import loop
from llmrec_cli.training.checkpoint import checkpoints
from llmrec_cli.training.loop import TrainContext
from llmrec_cli.training.signals import Interrupts
from tests.training.test_loop import CPU, Model, quality, run, same, weights


def terminated(*_):
    raise SystemExit(143)


@pytest.fixture(autouse=True)
def handlers():
    """Install the command line's signal handlers in the test process for the duration of a test."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, terminated)
    yield
    assert signal.getsignal(signal.SIGTERM) is terminated
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


def signalled(number, times=1):
    """Return a loss that sends signals in the middle of its seventh step."""
    model, steps = Model(), []

    def loss(rows):
        steps.append(1)
        for _ in range(times if len(steps) == 7 else 0):
            signal.raise_signal(number)
        return model(rows)

    return model, loss


ENDS = [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]


@pytest.mark.parametrize(("number", "error"), ENDS)
def test_9_10_a_signal_ends_the_step_with_a_checkpoint_and_the_run_goes_on_to_the_same_weights(tmp_path, number,
                                                                                              error):
    events = []
    model, loss = signalled(number)
    log = TrainContext(CPU, 1, lambda event, **values: events.append((event, values)), checkpoints=tmp_path)
    with pytest.raises(error) as ended:
        run(model, log, loss, validate=lambda: quality(model))
    assert getattr(ended.value, "code", 143) == 143
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000006", "step-000007"]
    assert events[-1] == ("interrupted", {"step": 7, "signal": int(number), "epoch": 2, "epochs": 4})
    whole, resumed = Model(), Model()
    expected = run(whole, TrainContext(CPU, 1), validate=lambda: quality(whole))
    assert run(resumed, TrainContext(CPU, 1, resume_from=tmp_path), validate=lambda: quality(resumed)) == expected
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize(("number", "error"), ENDS)
def test_10_a_second_signal_stops_at_once_and_the_last_checkpoint_is_whole(tmp_path, number, error):
    model, loss = signalled(number, times=2)
    with pytest.raises(error):
        run(model, TrainContext(CPU, 1, checkpoints=tmp_path), loss)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000003", "step-000006"]
    resumed = Model()
    assert run(resumed, TrainContext(CPU, 1, resume_from=tmp_path)).best_epoch == 4


@pytest.mark.parametrize("times", [1, 2])
def test_11_a_signal_during_a_save_lets_it_be_finished_and_a_second_one_discards_it(tmp_path, monkeypatch, times):
    flush = os.fsync

    def interrupted(descriptor):
        monkeypatch.setattr(os, "fsync", flush)
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)
        flush(descriptor)

    def log(event, **values):
        if event == "step" and values["step"] == 6:
            monkeypatch.setattr(os, "fsync", interrupted)

    with pytest.raises(SystemExit):
        run(Model(), TrainContext(CPU, 1, log, checkpoints=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000006"][:3 - times]
    assert run(Model(), TrainContext(CPU, 1, resume_from=tmp_path)).best_epoch == 4


def test_9_a_signal_in_validation_does_not_wait_for_its_end_and_validation_is_done_again(tmp_path):
    whole, cut, resumed, ended = Model(), Model(), Model(), []
    expected = run(whole, TrainContext(CPU, 1), validate=lambda: quality(whole) + float(torch.rand(())))

    def validate():
        value = quality(cut) + float(torch.rand(()))
        signal.raise_signal(signal.SIGTERM)
        ended.append(value)
        return value

    with pytest.raises(SystemExit):
        run(cut, TrainContext(CPU, 1, checkpoints=tmp_path), validate=validate)
    assert ended == []
    assert checkpoints(tmp_path)[-1].name == "step-000005"
    result = run(resumed, TrainContext(CPU, 1, resume_from=tmp_path),
                 validate=lambda: quality(resumed) + float(torch.rand(())))
    assert result == expected
    assert same(weights(whole), weights(resumed))


def test_a_signal_that_comes_last_of_all_is_not_lost(tmp_path):
    def log(event, **values):
        if event == "step" and values["step"] == 20:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(Model(), TrainContext(CPU, 1, log, checkpoints=tmp_path))
    assert run(Model(), TrainContext(CPU, 1, resume_from=tmp_path)).best_epoch == 4


def test_9_without_a_place_for_checkpoints_a_signal_ends_the_run_all_the_same(monkeypatch):
    monkeypatch.setattr(loop, "save_checkpoint", lambda *_: pytest.fail("saved"))
    model, loss = signalled(signal.SIGTERM)
    with pytest.raises(SystemExit):
        run(model, TrainContext(CPU, 1), loss)


def test_training_in_a_thread_leaves_signals_alone():
    epochs = []
    thread = threading.Thread(target=lambda: epochs.append(run(Model(), TrainContext(CPU, 1)).best_epoch))
    thread.start()
    thread.join()
    assert epochs == [4]


def test_repeated_signals_from_torchrun_within_two_seconds_count_once(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    interrupts = Interrupts()
    with interrupts.defer():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        now[0] += 2.5
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    assert interrupts.number == signal.SIGTERM


def test_9_a_real_process_writes_its_checkpoint_and_ends_with_143_long_before_its_last_step(tmp_path):
    last_step = tmp_path / "taken"
    if (child := os.fork()) == 0:
        code = 1
        try:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            model = Model()
            slow = lambda rows: (time.sleep(0.05), model(rows))[1]  # noqa: E731
            log = lambda event, **values: event == "step" and last_step.write_text(str(values["step"]))  # noqa: E731
            run(model, TrainContext(CPU, 1, log, checkpoints=tmp_path), slow, epochs=400, schedule=400)
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while not checkpoints(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert int(checkpoints(tmp_path)[-1].name.removeprefix("step-")) == int(last_step.read_text()) < 2000
